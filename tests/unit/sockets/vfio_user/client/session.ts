/** A client whose server answers what a test has written down. */
import { assertEquals, assertThrows } from "@std/assert";
import { errnoNumber, mappingCount, openFdCount, type OwnedFd, UnixSocket } from "../../../../../ffi/mod.ts";
import { REGION_FLAG } from "../../../../../lib/vfio/device.ts";
import { regionInfo } from "../../../../../lib/vfio/kernel/abi.ts";
import { encodeVersion } from "../../../../../lib/sockets/vfio_user/capabilities.ts";
import {
  COMMAND,
  messageHeader,
  regionAccess,
  userDeviceInfo,
} from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { VfioUserDevice, type VfioUserOptions } from "../../../../../lib/sockets/vfio_user/mod.ts";
import { message } from "../raw_client.ts";

export const REPLY = 1;
export const FAILED = 0x21;
export const { EINVAL, ENOTTY, EBUSY } = errnoNumber;

export interface Fixed {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly fds?: readonly OwnedFd[];
}

export function reply(command: number, id: number, payload?: Uint8Array, flags = REPLY, error = 0): Fixed {
  return { bytes: message(command, payload, { id, flags, error }) };
}

export const capabilities = {
  maxMessageFds: 2,
  maxDataTransferBytes: 64,
  maxDmaMaps: 1,
  pageSizes: 4096,
  writeMultiple: false,
};
export const goodVersion = reply(COMMAND.version, 0, encodeVersion(1, capabilities));
export const goodInfo = reply(
  COMMAND.deviceGetInfo,
  1,
  userDeviceInfo.encode({ argsz: 16, flags: 3, numRegions: 9, numIrqs: 5 }),
);

export interface Session extends Disposable {
  device: VfioUserDevice;
  peer: UnixSocket;
  /** Requests that the client has sent, headers included; they are read away. */
  requests(): Uint8Array<ArrayBuffer>[];
  /** Puts replies where the client will find them. */
  put(...replies: Fixed[]): void;
}

export function put(peer: UnixSocket, replies: readonly Fixed[]): void {
  for (const { bytes, fds } of replies) peer.send(bytes, fds);
}

/** A client that has connected, and a check that it leaks nothing. */
export function session(
  replies: readonly Fixed[] = [],
  options: VfioUserOptions = {},
  version: Fixed = goodVersion,
): Session {
  const before = [openFdCount(), mappingCount().mappings];
  const [peer, socket] = UnixSocket.pair();
  put(peer, [version, goodInfo, ...replies]);
  const device = VfioUserDevice.fromSocket(socket, { name: "fake", timeoutMs: 5000, ...options });
  const buffer = new Uint8Array(1 << 18);
  const requests = (): Uint8Array<ArrayBuffer>[] => {
    const found: Uint8Array<ArrayBuffer>[] = [];
    let have = 0;
    for (;;) {
      const received = peer.receive(buffer.subarray(have), { wait: false });
      if (received === undefined || received.length === 0) break;
      for (const fd of received.fds) fd.close();
      have += received.length;
    }
    for (let at = 0; at < have;) {
      const size = messageHeader.decode(buffer, at).messageBytes;
      found.push(buffer.slice(at, at + size));
      at += size;
    }
    return found;
  };
  const dispose = () => {
    device.close();
    peer.close();
    assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
  };
  return { device, peer, requests, put: (...more) => put(peer, more), [Symbol.dispose]: dispose };
}

/** Connecting must fail so, and leave nothing open. */
export function connectFails(
  replies: readonly Fixed[],
  // deno-lint-ignore no-explicit-any -- the shape that assertThrows takes
  type: new (...args: any[]) => Error,
  text: string,
  close = false,
): void {
  const before = openFdCount();
  const [peer, socket] = UnixSocket.pair();
  put(peer, replies);
  if (close) peer.shutdown();
  assertThrows(() => VfioUserDevice.fromSocket(socket, { name: "fake", timeoutMs: 30 }), type, text);
  peer.close();
  assertEquals(openFdCount(), before);
}

export const bar: Fixed = reply(
  COMMAND.deviceGetRegionInfo,
  2,
  regionInfo.encode({ argsz: 32, flags: REGION_FLAG.read | REGION_FLAG.write, size: 0x1000n }),
);

export function access(
  offset: bigint,
  region: number,
  count: number,
  data: readonly number[] = [],
): Uint8Array {
  const bytes = regionAccess.encode({ offset, region, count }, data.length);
  bytes.set(data, regionAccess.sizeBytes);
  return bytes;
}
