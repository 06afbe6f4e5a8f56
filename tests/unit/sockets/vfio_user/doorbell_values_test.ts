/** Doorbells of which several stand for writes to one place, each of another value, as the legacy interface has them. */
import { assertEquals } from "@std/assert";
import { EventFd } from "../../../../ffi/mod.ts";
import type { ServedDoorbell } from "../../../../lib/sockets/vfio_user/server/served_device.ts";
import { COMMAND, regionIoFds } from "../../../../lib/sockets/vfio_user/protocol.ts";
import { decodeRegionIoFds } from "../../../../lib/sockets/vfio_user/region_io_fds.ts";
import { VfioUserServer } from "../../../../lib/sockets/vfio_user/mod.ts";
import { BAR0_BYTES, FakeDevice } from "./fake_device.ts";
import { RawClient, testSocketPath } from "./raw_client.ts";

class ManyDoorbells extends FakeDevice {
  readonly fds = [new EventFd(), new EventFd(), new EventFd()];

  override doorbells(index: number): readonly ServedDoorbell[] {
    if (index !== 0) return [];
    return [
      ...this.fds.map((fd, i) => ({ offset: 0x3000 + 4 * i, sizeBytes: 2, fd })),
      ...this.fds.map((fd, value) => ({ offset: 0x3f00, sizeBytes: 2, fd, value })),
    ];
  }

  override [Symbol.dispose](): void {
    for (const fd of this.fds) fd.close();
    super[Symbol.dispose]();
  }
}

function ask(client: RawClient) {
  return client.call(COMMAND.deviceGetRegionIoFds, regionIoFds.encode({ argsz: 4096 }));
}

Deno.test("N-3.15 GET_REGION_IO_FDS: doorbells at one place by the value that is written, a shared descriptor once", () => {
  using device = new ManyDoorbells();
  using server = VfioUserServer.listen(testSocketPath(), device, {});
  using client = new RawClient(server, {});
  const { payload, fds } = ask(client);
  assertEquals([payload.byteLength, fds.length], [16 + 6 * 40, 3]);
  const view = new DataView(payload.buffer, payload.byteOffset);
  for (let i = 0; i < 6; i++) {
    const at = 16 + 40 * i;
    const byValue = i >= 3;
    assertEquals(
      [view.getBigUint64(at, true), view.getBigUint64(at + 8, true), view.getUint32(at + 16, true)],
      [byValue ? 0x3f00n : BigInt(0x3000 + 4 * i), 2n, i % 3],
    );
    // flags: DATAMATCH; datamatch.
    assertEquals(
      [view.getUint32(at + 24, true), view.getBigUint64(at + 32, true)],
      byValue ? [1, BigInt(i - 3)] : [0, 0n],
    );
  }
  const { areas } = decodeRegionIoFds(payload, 0, fds.length, BAR0_BYTES, "test");
  assertEquals(
    areas.filter(({ offset }) => offset === 0x3f00).map(({ value, fdIndex }) => [value, fdIndex]),
    [
      [0, 0],
      [1, 1],
      [2, 2],
    ],
  );
  const second = new EventFd(fds[1]!);
  second.signal();
  assertEquals(device.fds.map((fd) => fd.take()), [0, 1, 0]);
  for (const fd of fds) fd.close();
});

Deno.test("N-3.15 GET_REGION_IO_FDS: a client that takes fewer descriptors gets both doorbells of those", () => {
  using device = new ManyDoorbells();
  using server = VfioUserServer.listen(testSocketPath(), device, {});
  using client = new RawClient(server, { maxMessageFds: 2 });
  const { payload, fds } = ask(client);
  const { areas } = decodeRegionIoFds(payload, 0, fds.length, BAR0_BYTES, "test");
  assertEquals(areas.map(({ offset, value, fdIndex }) => [offset, value, fdIndex]), [
    [0x3000, undefined, 0],
    [0x3004, undefined, 1],
    [0x3f00, 0, 0],
    [0x3f00, 1, 1],
  ]);
  for (const fd of fds) fd.close();
});
