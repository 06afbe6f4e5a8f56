/**
 * Message sequences of third-party clients, written down from their sources and from what was seen of them: SPDK's host library,
 * QEMU's vfio-user-pci (11.1), libvfio-user's sample client. One row is one message and what must come back.
 */
import { assertEquals } from "@std/assert";
import { createMemfd, EventFd, O, OwnedFd, removeFile, resizeFile } from "../../../../ffi/mod.ts";
import { deviceFeature, irqInfo, regionInfo } from "../../../../lib/vfio/kernel/abi.ts";
import {
  COMMAND,
  dmaUnmap,
  userDeviceInfo,
  versionMessage,
} from "../../../../lib/sockets/vfio_user/protocol.ts";
import { message, RawClient, testSocketPath } from "./raw_client.ts";
import {
  access,
  actionTrigger,
  bench,
  dataEventfd,
  dataNone,
  EINVAL,
  ENOTSUP,
  ENOTTY,
  irqs,
  map,
} from "./server/bench.ts";

interface Row {
  readonly command: number;
  readonly payload?: Uint8Array;
  readonly fds?: readonly OwnedFd[];
  /** Default 0. */
  readonly error?: number | undefined;
  /** Size of the reply's payload; default: whatever. */
  readonly bytes?: number;
  /** Descriptors beside the reply; default 0. */
  readonly files?: number;
}

function version(minor: number, json?: string): Uint8Array<ArrayBuffer> {
  const text = json === undefined ? new Uint8Array() : new TextEncoder().encode(`${json}\0`);
  const bytes = versionMessage.encode({ major: 0, minor }, text.byteLength);
  bytes.set(text, versionMessage.sizeBytes);
  return bytes;
}

/** Plays a sequence with consecutive ids from `firstId`. */
function play(rows: readonly Row[], firstId = 0): void {
  using b = bench();
  b.client.socket.close();
  b.server.handleReadable();
  using client = new RawClient(b.server, { negotiate: false });
  rows.forEach(({ command, payload, fds = [], error = 0, bytes, files = 0 }, row) => {
    const id = firstId + row & 0xffff;
    const reply = client.send(message(command, payload, { id }), fds);
    const got = [reply?.command, reply?.id, reply?.error, reply?.fds.length];
    assertEquals(got, [command, id, error, files], `message ${row}`);
    if (bytes !== undefined) assertEquals(reply?.payload.byteLength, bytes, `message ${row}`);
    for (const fd of reply?.fds ?? []) fd.close();
  });
  assertEquals(b.server.connected, true);
}

const config = (offset: number, count: number, data?: number[]) => access(BigInt(offset), 7, count, data);
const unmap = (address: bigint, size: bigint, flags = 0) =>
  dmaUnmap.encode({ argsz: 24, flags, address, size });
const region = (index: number, argsz: number, tail = 0) => regionInfo.encode({ argsz, index }, tail);

/** Memory as SPDK has it on hugetlbfs, and libvfio-user's client from mkstemp: nobody sealed it. */
function unsealed(sizeBytes: number): OwnedFd {
  const path = `${testSocketPath()}.file`;
  const fd = OwnedFd.open(path, O.RDWR | O.CREAT | O.EXCL);
  removeFile(path);
  resizeFile(fd, sizeBytes);
  return fd;
}

Deno.test("SPDK: a bare VERSION, region information in 4 KiB requests, memory with a descriptor in DMA_MAP and in DMA_UNMAP", () => {
  using memory = unsealed(0x40_0000);
  play([
    { command: COMMAND.version, payload: version(1), bytes: 4 + '{"capabilities":{}}\0'.length },
    { command: COMMAND.deviceGetInfo, payload: userDeviceInfo.encode({ argsz: 16 }), bytes: 16 },
    // The request is as long as the answer may be.
    ...Array.from({ length: 9 }, (_, index): Row => ({
      command: COMMAND.deviceGetRegionInfo,
      payload: region(index, 4064, 4064 - 32),
      files: index === 2 ? 1 : 0,
    })),
    { command: COMMAND.regionRead, payload: config(0, 4), bytes: 20 },
    { command: COMMAND.regionWrite, payload: config(4, 2, [6, 4]), bytes: 16 },
    { command: COMMAND.dmaMap, payload: map({ size: 0x20_0000n }), fds: [memory], bytes: 0 },
    {
      command: COMMAND.dmaMap,
      payload: map({ address: 0x80_0000n, size: 0x20_0000n, offset: 0x20_0000n }),
      fds: [memory],
    },
    { command: COMMAND.regionRead, payload: access(0x10n, 0, 4), bytes: 20 },
    { command: COMMAND.dmaUnmap, payload: unmap(0x10000n, 0x20_0000n), fds: [memory], bytes: 24 },
    { command: COMMAND.dmaUnmap, payload: unmap(0x80_0000n, 0x20_0000n), fds: [memory], bytes: 24 },
  ]);
});

Deno.test("QEMU: version 0.0, memory with and without a file, information twice, config in pieces, interrupts by eventfd", () => {
  using memory = createMemfd("ram", 0x10_0000);
  using event = new EventFd();
  const offer = '{"capabilities": {"max_msg_fds": 16, "max_data_xfer_size": 1048576, "pgsizes": 4096, ' +
    '"max_dma_maps": 65535, "migration": {"pgsize": 4096, "max_bitmap_size": 268435456}, "write_multiple": true}}';
  play([
    { command: COMMAND.version, payload: version(0, offer) },
    { command: COMMAND.dmaMap, payload: map({ address: 0n, size: 0xa0000n }), fds: [memory] },
    { command: COMMAND.dmaMap, payload: map({ address: 0xfffc_0000n, size: 0x4_0000n, flags: 1 }) },
    { command: COMMAND.deviceGetInfo, payload: userDeviceInfo.encode({ argsz: 16 }), bytes: 16 },
    ...[0, 1].map((index): Row => ({
      command: COMMAND.deviceGetRegionInfo,
      payload: region(index, 32),
      bytes: 32,
    })),
    { command: COMMAND.deviceGetRegionInfo, payload: region(2, 32), bytes: 32 },
    { command: COMMAND.deviceGetRegionInfo, payload: region(2, 80), bytes: 80, files: 1 },
    { command: COMMAND.deviceGetRegionInfo, payload: region(7, 32), bytes: 32 },
    { command: COMMAND.deviceGetIrqInfo, payload: irqInfo.encode({ argsz: 16, index: 3 }), bytes: 16 },
    { command: COMMAND.regionRead, payload: config(0, 256), bytes: 272 },
    { command: COMMAND.regionWrite, payload: config(0x10, 4, [255, 255, 255, 255]), bytes: 16 },
    { command: COMMAND.regionRead, payload: config(0x10, 4), bytes: 20 },
    { command: COMMAND.deviceReset, bytes: 0 },
    { command: COMMAND.dmaUnmap, payload: unmap(0n, 0xa0000n), bytes: 24 },
    { command: COMMAND.dmaMap, payload: map({ address: 0n, size: 0xc0000n }), fds: [memory] },
    {
      command: COMMAND.deviceSetIrqs,
      payload: irqs(dataEventfd | actionTrigger, 2, 0, 1),
      fds: [event.fd],
      bytes: 0,
    },
    { command: COMMAND.deviceSetIrqs, payload: irqs(dataEventfd | actionTrigger, 2, 1, 7) },
    { command: COMMAND.deviceSetIrqs, payload: irqs(dataNone | actionTrigger, 2, 0, 0) },
    { command: COMMAND.dmaUnmap, payload: unmap(0xfffc_0000n, 0x4_0000n), bytes: 24 },
    { command: COMMAND.dmaUnmap, payload: unmap(0n, 0n, 2), bytes: 24 },
  ]);
});

Deno.test("libvfio-user's sample client: few descriptors, an unsealed file in pieces, features that are not there, unmap all", () => {
  using file = unsealed(0x1_0000);
  using event = new EventFd();
  const offer = '{"capabilities":{"max_msg_fds":8,"max_data_xfer_size":32768}}';
  play([
    { command: COMMAND.version, payload: version(1, offer) },
    { command: COMMAND.regionRead, payload: config(0, 64), bytes: 80 },
    { command: COMMAND.deviceReset },
    { command: COMMAND.deviceGetInfo, payload: userDeviceInfo.encode({ argsz: 16 }), bytes: 16 },
    { command: COMMAND.deviceGetRegionInfo, payload: region(2, 32), bytes: 32 },
    { command: COMMAND.deviceGetRegionInfo, payload: region(2, 80), bytes: 80, files: 1 },
    ...Array.from({ length: 16 }, (_, i): Row => ({
      command: COMMAND.dmaMap,
      payload: map({ address: BigInt(i * 0x1000), offset: BigInt(i * 0x1000), size: 0x1000n }),
      fds: [file],
    })),
    {
      command: COMMAND.deviceFeature,
      payload: deviceFeature.encode({ argsz: 32, flags: 1 << 17 | 6 }, 24),
      error: ENOTTY,
    },
    { command: COMMAND.deviceSetIrqs, payload: irqs(dataEventfd | actionTrigger, 0, 0, 1), fds: [event.fd] },
    { command: COMMAND.migDataRead, payload: new Uint8Array(8), error: ENOTSUP },
    { command: COMMAND.dmaUnmap, payload: unmap(0x1000n, 0x1000n), bytes: 24 },
    { command: COMMAND.dmaUnmap, payload: unmap(0n, 0x1000n, 1), error: ENOTSUP },
    { command: COMMAND.dmaUnmap, payload: unmap(0x1000n, 0x1000n, 2), error: EINVAL },
    { command: COMMAND.dmaUnmap, payload: unmap(0n, 0n, 2), bytes: 24 },
  ], 0xbabe);
});
