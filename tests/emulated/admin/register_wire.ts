/**
 * Legacy registers over a UNIX socket, between the process that has the PF and one that drives a VF. A request has 8 bytes: what to do, width,
 * offset, VF, value (4); an answer has 8: 0 or 1 (refused), 3 bytes unused, value (4).
 */
import type { UnixSocket } from "../../../ffi/mod.ts";
import { DeviceError } from "../../../lib/errors/mod.ts";
import type { LegacyNotifyArea, LegacyRegisterAccess, LegacyWidth } from "../../../lib/virtio/mod.ts";

export const REQUEST_BYTES = 8;
const READ_COMMON = 0, WRITE_COMMON = 1, READ_DEVICE = 2, WRITE_DEVICE = 3;

/** Asks the other process. */
export class RemoteRegisters implements LegacyRegisterAccess {
  readonly name: string;
  readonly #socket: UnixSocket;
  readonly #vf: number;
  readonly #areas: readonly LegacyNotifyArea[];

  constructor(socket: UnixSocket, vf: number, areas: readonly LegacyNotifyArea[]) {
    this.name = `VF ${vf} by way of another process`;
    this.#socket = socket;
    this.#vf = vf;
    this.#areas = areas;
  }

  readCommon(offset: number, width: LegacyWidth): number {
    return this.#ask(READ_COMMON, offset, width, 0);
  }

  writeCommon(offset: number, width: LegacyWidth, value: number): void {
    this.#ask(WRITE_COMMON, offset, width, value);
  }

  readDevice(offset: number, width: LegacyWidth): number {
    return this.#ask(READ_DEVICE, offset, width, 0);
  }

  writeDevice(offset: number, width: LegacyWidth, value: number): void {
    this.#ask(WRITE_DEVICE, offset, width, value);
  }

  notifyAreas(): readonly LegacyNotifyArea[] {
    return this.#areas;
  }

  #ask(what: number, offset: number, width: number, value: number): number {
    const bytes = Uint8Array.of(what, width, offset, this.#vf, 0, 0, 0, 0);
    new DataView(bytes.buffer).setUint32(4, value, true);
    this.#socket.send(bytes);
    receiveAll(this.#socket, bytes, this.name);
    if (bytes[0] !== 0) throw new DeviceError("refused by the process of the owner", { function: this.name });
    return new DataView(bytes.buffer).getUint32(4, true);
  }
}

/** Answers one request with the registers of the VF that it names. */
export function answer(request: Uint8Array<ArrayBuffer>, of: (vf: number) => LegacyRegisterAccess): void {
  const view = new DataView(request.buffer);
  const [what, width, offset, vf] = request;
  const registers = of(vf!);
  let value = view.getUint32(4, true);
  try {
    if (what === READ_COMMON) value = registers.readCommon(offset!, width as LegacyWidth);
    else if (what === READ_DEVICE) value = registers.readDevice(offset!, width as LegacyWidth);
    else if (what === WRITE_COMMON) registers.writeCommon(offset!, width as LegacyWidth, value);
    else registers.writeDevice(offset!, width as LegacyWidth, value);
    request[0] = 0;
  } catch {
    request[0] = 1;
  }
  view.setUint32(4, value, true);
}

/** @returns false at the end of the stream @throws DeviceError for an end in the middle of a message, when `name` is given for any end */
export function receiveAll(socket: UnixSocket, into: Uint8Array<ArrayBuffer>, name?: string): boolean {
  for (let at = 0; at < into.length;) {
    const part = socket.receive(into.subarray(at));
    const length = part?.length ?? 0;
    if (length === 0) {
      if (name === undefined && at === 0) return false;
      throw new DeviceError("the process of the owner is gone", { function: name ?? "registers" });
    }
    at += length;
  }
  return true;
}
