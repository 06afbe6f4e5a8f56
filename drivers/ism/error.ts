/**
 * What a virtio-ism device answers when it does not carry a command out (reference 5.3).
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import { ISM_ACK, ISM_QUEUE, type IsmAckName, type IsmCommandName } from "../../lib/virtio/spec/ism.ts";

const NAMES: ReadonlyMap<number, IsmAckName> = new Map(
  (Object.keys(ISM_ACK) as IsmAckName[]).map((name) => [ISM_ACK[name], name]),
);

const MEANINGS: Readonly<Record<IsmAckName, string>> = {
  OK: "done",
  ENOENT: "there is no such region, or it is not attached",
  E2BIG: "the list of chunks does not fit the reply",
  ENOMEM: "no memory",
  ENOSPC: "no free chunks",
  PERM_EATTACH: "this device may not attach the region",
  PERM_EREAD: "this device may not read the region",
  PERM_EWRITE: "this device may not write the region",
  ERR: "refused",
};

const HINTS: Partial<Record<IsmAckName, string>> = {
  ENOENT: "tokens are valid within one communication domain, and until the last device has detached",
  ENOSPC: "detach a region, or ask for a smaller one",
  PERM_EATTACH: "a device with the right to manage the region can grant ATTACH",
  PERM_EREAD: "attach without read, or have READ granted",
  PERM_EWRITE: "attach without write, or have WRITE granted",
  ERR: "the region may be attached already, or the right to manage it may be missing",
};

/** A control command that was not acknowledged with OK. */
export class IsmError extends DeviceError {
  /** Name of the class. */
  override name = "IsmError";
  /** What was asked for. */
  readonly command: IsmCommandName;
  /** The acknowledgement, one of `ISM_ACK` or whatever the device has written. */
  readonly ack: number;
  /** Its name; undefined for a number that has none. */
  readonly ackName: IsmAckName | undefined;
  /** Region that the command was about. */
  readonly token: bigint | undefined;

  /** Takes the answer as it came. @param functionName for the message */
  constructor(functionName: string, command: IsmCommandName, ack: number, token?: bigint) {
    const ackName = NAMES.get(ack);
    const what = token === undefined ? command : `${command} of region 0x${token.toString(16)}`;
    const answer = ackName === undefined
      ? `unknown acknowledgement ${ack}`
      : `${MEANINGS[ackName]} (${ackName})`;
    const hint = ackName === undefined ? undefined : HINTS[ackName];
    super(`${what}: ${answer}`, { function: functionName, queue: ISM_QUEUE.control, field: "ack" }, {
      hint,
    });
    this.command = command;
    this.ack = ack;
    this.ackName = ackName;
    this.token = token;
  }
}

/** That the device says what cannot be. @param functionName and the other places: as in `DeviceLocation` */
export function ismLie(
  functionName: string,
  field: string,
  message: string,
  queue: number = ISM_QUEUE.control,
): DeviceError {
  return new DeviceError(message, { function: functionName, queue, field });
}
