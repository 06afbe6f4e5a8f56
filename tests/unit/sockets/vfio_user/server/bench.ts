/** A server of a fake device, and a client that sends it bytes. */
import { assertEquals } from "@std/assert";
import {
  errnoNumber,
  mappingCount,
  O,
  openFdCount,
  OwnedFd,
  removeFile,
  resizeFile,
} from "../../../../../ffi/mod.ts";
import { IRQ_SET } from "../../../../../lib/vfio/device.ts";
import { irqSet } from "../../../../../lib/vfio/kernel/abi.ts";
import { dmaMap, regionAccess } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { VfioUserServer, type VfioUserServerOptions } from "../../../../../lib/sockets/vfio_user/mod.ts";
import { FakeDevice } from "../fake_device.ts";
import { RawClient, testSocketPath } from "../raw_client.ts";

export const { EINVAL, ENOTSUP, EEXIST, ENOENT, ENOSPC, ENOTTY, EBUSY, EMSGSIZE, EIO } = errnoNumber;
export const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IRQ_SET;

export interface Bench extends Disposable {
  device: FakeDevice;
  server: VfioUserServer;
  client: RawClient;
}

/** A server with a client, and a check that neither leaks anything. */
export function bench(options: VfioUserServerOptions = {}, maxMessageFds?: number): Bench {
  const before = [openFdCount(), mappingCount().mappings];
  const device = new FakeDevice();
  const server = VfioUserServer.listen(testSocketPath(), device, options);
  const client = new RawClient(server, maxMessageFds === undefined ? {} : { maxMessageFds });
  const dispose = () => {
    client[Symbol.dispose]();
    server.close();
    device[Symbol.dispose]();
    assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
  };
  return { device, server, client, [Symbol.dispose]: dispose };
}

export function access(
  offset: bigint,
  region: number,
  count: number,
  data: number[] = [],
): Uint8Array<ArrayBuffer> {
  const bytes = regionAccess.encode({ offset, region, count }, data.length);
  bytes.set(data, regionAccess.sizeBytes);
  return bytes;
}

export function irqs(
  flags: number,
  index: number,
  start: number,
  count: number,
  data: number[] = [],
): Uint8Array<ArrayBuffer> {
  const argsz = irqSet.sizeBytes + data.length;
  const bytes = irqSet.encode({ argsz, flags, index, start, count }, data.length);
  bytes.set(data, irqSet.sizeBytes);
  return bytes;
}

export function map(
  values: Partial<{ argsz: number; flags: number; offset: bigint; address: bigint; size: bigint }>,
) {
  return dmaMap.encode({ argsz: 32, flags: 3, address: 0x10000n, size: 0x4000n, ...values });
}

/** A file that its owner may truncate. */
export function unsealedFile(sizeBytes: number): OwnedFd {
  const path = `${testSocketPath()}.file`;
  const fd = OwnedFd.open(path, O.RDWR | O.CREAT | O.EXCL);
  removeFile(path);
  resizeFile(fd, sizeBytes);
  return fd;
}
