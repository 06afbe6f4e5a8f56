/**
 * Settings of a front end's connection.
 *
 * @module
 */
import { requireType } from "../../../errors/doors.ts";
import { UsageError } from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";

/** How to connect. */
export interface VhostUserOptions {
  /** Virtio device id, which the protocol does not say: 1 net, 2 block, 4 entropy, … */
  readonly deviceId: number;
  /** For messages. Default: the socket's path. */
  readonly name?: string;
  /**
   * How long a request may wait for the back end, in milliseconds; default 5000. A request that waits longer breaks the connection: with `reconnectMs` the back
   * end then counts as lost, else the device is gone.
   */
  readonly timeoutMs?: number;
  /**
   * How long to wait for a back end that was lost to listen again, in milliseconds. Queues then go on where they were: what was in flight is done again,
   * perhaps for the second time. Default 0: the device is gone with its back end.
   */
  readonly reconnectMs?: number;
  /** Address of a network device whose back end does not know one: six bytes. */
  readonly mac?: Uint8Array;
}

/** See `VhostUserOptions.timeoutMs`. */
export const DEFAULT_TIMEOUT_MS = 5000;
const MAC_BYTES = 6;

/** The caller's fields, each read once. @throws UsageError */
export function checkOptions(options: VhostUserOptions): VhostUserOptions {
  requireType(options, "object", "VhostUserDevice.connect: options");
  const { deviceId, name, timeoutMs, reconnectMs, mac } = options;
  if (!Number.isInteger(deviceId) || deviceId < 1 || deviceId > 63) {
    throw new UsageError(`vhost-user: virtio device id ${shown(deviceId)}`, {
      hint: "1 net, 2 block, 4 entropy, …",
    });
  }
  for (const [what, value] of [["timeoutMs", timeoutMs], ["reconnectMs", reconnectMs]] as const) {
    if (value !== undefined && !(typeof value === "number" && value >= 0 && value < 2 ** 31)) {
      throw new UsageError(`vhost-user: ${what} ${shown(value)}`);
    }
  }
  if (timeoutMs === 0) throw new UsageError("vhost-user: timeoutMs 0: nothing is answered at once");
  if (name !== undefined) requireType(name, "string", "VhostUserDevice.connect: name");
  if (mac !== undefined) {
    requireType(mac, "bytes", "VhostUserDevice.connect: mac");
    if (mac.byteLength !== MAC_BYTES || (mac[0]! & 1) !== 0) {
      throw new UsageError(`vhost-user: a MAC address of ${mac.byteLength} bytes, or one of a group`);
    }
  }
  return {
    deviceId,
    ...(name === undefined ? {} : { name }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
    ...(reconnectMs === undefined ? {} : { reconnectMs }),
    ...(mac === undefined ? {} : { mac }),
  };
}
