/**
 * What other implementations send, as bytes: the answers of libvfio-user's server (recorded, June 2026) to our client, and the requests of SPDK's
 * vfio-user host library (from its source, 2026) to our server.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { createMemfd, type OwnedFd, SyscallError, UnixSocket } from "../../../../ffi/mod.ts";
import { EventFd, MappedMemory } from "../../../../ffi/mod.ts";
import { VfioUserServer } from "../../../../lib/sockets/vfio_user/mod.ts";
import {
  COMMAND,
  dmaMap,
  dmaUnmap,
  regionAccess,
  userDeviceInfo,
  versionMessage,
} from "../../../../lib/sockets/vfio_user/protocol.ts";
import { regionInfo } from "../../../../lib/vfio/kernel/abi.ts";
import { put, session } from "./client/session.ts";
import { FakeDevice } from "./fake_device.ts";
import { RawClient, testSocketPath } from "./raw_client.ts";

function bytes(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.match(/[0-9a-f]{2}/g) ?? [], (byte) => parseInt(byte, 16));
}

const CAPABILITIES = '{ "capabilities": { "max_msg_fds": 8, "max_data_xfer_size": 1048576, ' +
  '"migration": { "pgsize": 4096 }, "twin_socket": { "supported": true, "fd_index": 0 } } }\0';

/** In the order of the calls below; the ids are the client's. */
const LIBVFIO_USER = {
  version: "00000100 b2000000 01000000 00000000 00000100",
  region0: "02000500 30000000 01000000 00000000" +
    "20000000 03000000 00000000 00000000 0800000000000000 0000000000000000",
  // Two areas of a page each, one file for both.
  region1: "03000500 60000000 01000000 00000000" +
    "50000000 0f000000 01000000 20000000 0040000000000000 0000000000000000" +
    "01000100 00000000 02000000 00000000" +
    "0000000000000000 0010000000000000 0020000000000000 0010000000000000",
  // Neither maskable nor automasked.
  intx: "04000700 20000000 01000000 00000000 10000000 01000000 00000000 01000000",
  msix: "05000700 20000000 01000000 00000000 10000000 01000000 02000000 00000000",
  write: "06000a00 20000000 01000000 00000000 0800000000000000 01000000 04000000",
  read: "07000900 24000000 01000000 00000000 0000000000000000 01000000 04000000 00000000",
  ioFds: "08000600 20000000 01000000 00000000 10000000 00000000 00000000 00000000",
  trigger: "09000800 10000000 01000000 00000000",
  fire: "0a000800 10000000 01000000 00000000",
  map: "0b000200 10000000 01000000 00000000",
  unmap: "0c000300 28000000 01000000 00000000" +
    "18000000 00000000 0010000000000000 0010000000000000",
  state: "0d001000 20000000 01000000 00000000 10000000 02000100 02000000 00000000",
  noFeature: "0e001000 10000000 21000000 16000000",
  reset: "0f000d00 10000000 01000000 00000000",
} as const;

Deno.test("libvfio-user's answers are understood, one after the other", () => {
  const pair = UnixSocket.pair();
  using twin = pair[0];
  using _far = pair[1];
  using file = createMemfd("BAR 1", 0x4000);
  const answer = (name: keyof typeof LIBVFIO_USER, ...fds: OwnedFd[]) => ({
    bytes: bytes(LIBVFIO_USER[name]),
    fds,
  });
  const json = new TextEncoder().encode(CAPABILITIES);
  const version = new Uint8Array([...bytes(LIBVFIO_USER.version), ...json]);
  using s = session([], { timeoutMs: 60_000 }, { bytes: version, fds: [twin.fd] });
  const { device } = s;
  assertEquals([device.serverCapabilities.maxMessageFds, device.serverCapabilities.twinSocket], [8, 0]);
  put(s.peer, [answer("region0"), answer("region1", file), answer("intx"), answer("msix")]);
  assertEquals(device.regionInfo(0).sizeBytes, 8);
  const { mmapAreas, sizeBytes } = device.regionInfo(1);
  assertEquals([sizeBytes, mmapAreas], [0x4000, [
    { offset: 0, sizeBytes: 0x1000 },
    { offset: 0x2000, sizeBytes: 0x1000 },
  ]]);
  assertEquals(device.irqInfo(0), { index: 0, flags: 1, count: 1 });
  assertEquals(device.irqInfo(2), { index: 2, flags: 1, count: 0 });
  device.setIrqs({ index: 2, action: "disable" });
  put(s.peer, [answer("write"), answer("read"), answer("ioFds"), answer("trigger"), answer("fire")]);
  device.writeRegion(1, 8, new Uint8Array(4));
  device.readRegion(1, 0, new Uint8Array(4));
  assertEquals(device.doorbellFd(0, 0, 4), undefined);
  using eventFd = new EventFd();
  device.setIrqs({ index: 0, action: "trigger", start: 0, eventFds: [eventFd] });
  device.setIrqs({ index: 0, action: "fire", start: 0, count: 1 });
  put(s.peer, [answer("map"), answer("unmap"), answer("state"), answer("noFeature"), answer("reset")]);
  device.dma.allocate(4096).close();
  assertEquals([...device.deviceFeature(2, "get", undefined, 8)], [2, 0, 0, 0, 0, 0, 0, 0]);
  assertThrows(() => device.deviceFeature(9, "get", undefined, 8), SyscallError, "EINVAL");
  device.reset();
  assertEquals(device.broken, null);
});

Deno.test("SPDK's requests are carried out: no capabilities, one id for all, 4064 bytes to ask for a region, a file to unmap", () => {
  using device = new FakeDevice();
  using server = VfioUserServer.listen(testSocketPath(), device);
  using client = new RawClient(server, { negotiate: false });
  const call = (command: number, payload: Uint8Array, ...fds: OwnedFd[]) => {
    const reply = client.call(command, payload, fds, { id: 0 });
    assertEquals([reply.id, reply.command, reply.flags, reply.error], [0, command, 1, 0]);
    return reply;
  };
  // It reads a payload of 4096 bytes at most, by one read.
  assert(call(COMMAND.version, versionMessage.encode({ major: 0, minor: 1 })).payload.byteLength <= 4096);
  const info = userDeviceInfo.decode(
    call(COMMAND.deviceGetInfo, userDeviceInfo.encode({ argsz: 16 })).payload,
  );
  assertEquals(info.numRegions, 9);
  for (let index = 0; index < info.numRegions; index++) {
    const ask = regionInfo.encode({ argsz: 4064, index }, 4064 - regionInfo.sizeBytes);
    const { payload, fds } = call(COMMAND.deviceGetRegionInfo, ask);
    assert(payload.byteLength <= 4064);
    assertEquals(regionInfo.decode(payload).index, index);
    // It takes a file for each sparse area where it can, and the first for a region without.
    assert(fds.length <= 1);
    for (const fd of fds) fd.close();
  }
  // Hugepages at the addresses of its own process.
  const memory = { address: 0x2000_0020_0000n, size: 0x20_0000n };
  using file = createMemfd("hugepages", 0x40_0000);
  using mine = MappedMemory.map(file, 0x40_0000);
  call(COMMAND.dmaMap, dmaMap.encode({ argsz: 32, flags: 3, offset: 0x20_0000n, ...memory }), file);
  const { region, offset } = server.dma.resolve(memory.address + 5n, 1, true);
  region.bytes[offset] = 42;
  assertEquals(mine.bytes()[0x20_0005], 42);
  const command = { offset: 4n, region: 7, count: 2 };
  const { payload } = call(COMMAND.regionRead, regionAccess.encode(command));
  assertEquals(payload.byteLength, regionAccess.sizeBytes + 2);
  payload.set([4, 4], regionAccess.sizeBytes);
  assertEquals(call(COMMAND.regionWrite, payload).payload.byteLength, regionAccess.sizeBytes);
  call(COMMAND.dmaUnmap, dmaUnmap.encode({ argsz: 24, ...memory }), file);
  assertEquals(server.dma.count, 0);
  assertEquals(client.ended, false);
});
