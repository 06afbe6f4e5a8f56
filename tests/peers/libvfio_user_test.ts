/**
 * The client against libvfio-user's sample servers. Their directory (`build/samples`) is in LIBVFIO_USER_SAMPLES; without it the tests are skipped.
 * The sample `server` has a BAR of 12 KiB, which the library of June 2026 refuses: make its `bar1_size` 0x4000.
 */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { accessible, EventFd, readText } from "../../ffi/mod.ts";
import { UnsupportedError } from "../../lib/errors/mod.ts";
import { openHost } from "../../lib/host/mod.ts";
import { VfioUserDevice } from "../../lib/sockets/vfio_user/mod.ts";
import { testSocketPath } from "../unit/sockets/vfio_user/raw_client.ts";

const samples = Deno.env.get("LIBVFIO_USER_SAMPLES") ?? "";

/** A test with a sample as its peer, or one that is skipped and says why. */
function withSample(sample: string, name: string, test: (path: string) => Promise<void> | void): void {
  const absent = samples === "" || !accessible(`${samples}/${sample}`);
  Deno.test({
    name: `libvfio-user ${sample}: ${name}${
      absent ? " (skipped: LIBVFIO_USER_SAMPLES has no such program)" : ""
    }`,
    ignore: absent,
    fn: async () => {
      const path = testSocketPath();
      const child = new Deno.Command(`${samples}/${sample}`, {
        args: [path],
        stdin: "null",
        stdout: "null",
        stderr: "inherit",
      }).spawn();
      try {
        while (!listens(path)) await pause();
        await test(path);
      } finally {
        child.kill("SIGKILL");
        await child.status;
      }
    },
  });
}

/** The file is there before its server listens, and a connection to try it would be the one that the server takes. */
function listens(path: string): boolean {
  const ACCEPTS = "00010000";
  return readText("/proc/net/unix").split("\n").some((line) =>
    line.endsWith(` ${path}`) && line.split(/\s+/)[3] === ACCEPTS
  );
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 2));
}

/** `vfio_device_feature_mig_state`. */
function state(number: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array([number, 0, 0, 0, 255, 255, 255, 255]);
}

withSample("server", "regions, interrupts, DMA by memory and by message to an idle client", async (path) => {
  using device = VfioUserDevice.connect(path);
  assertEquals(device.serverCapabilities.twinSocket, 0);
  const bytes = Uint8Array.from({ length: 0x4000 }, (_, i) => i * 7);
  device.writeRegion(1, 0, bytes);
  const back = new Uint8Array(0x4000);
  device.readRegion(1, 0, back);
  assertEquals(back, bytes);
  assertEquals(device.mapRegion(1, { offset: 0x2000, sizeBytes: 0x1000 }).bytes(5, 1)[0], bytes[0x2005]);
  assertThrows(() => device.mapRegion(1, { offset: 0x1000, sizeBytes: 0x1000 }), UnsupportedError);
  device.writeRegions([{ index: 1, offset: 0, data: new Uint8Array([1]) }]);
  using eventFd = new EventFd();
  device.setIrqs({ index: 0, action: "trigger", start: 0, eventFds: [eventFd] });
  device.setIrqs({ index: 0, action: "fire", start: 0, which: [true] });
  device.setIrqs({ index: 2, action: "disable" });
  assertEquals(eventFd.take(), 1);
  device.reset();
  device.setIrqs({ index: 0, action: "trigger", start: 0, eventFds: [eventFd] });
  const [byMessage, byMemory] = [device.dma.allocate(4096), device.dma.allocate(4096)];
  // A second from now it raises INTx, writes and reads the second range in place, and then the first by messages.
  const time = new Uint8Array(8);
  new DataView(time.buffer).setBigInt64(0, BigInt(Math.floor(Date.now() / 1000) + 1), true);
  device.writeRegion(0, 0, time);
  while (byMessage.bytes(3072, 1)[0] !== 68 && device.broken === null) await pause();
  assertEquals([...byMemory.bytes(1024, 1), ...byMessage.bytes(1024, 1), eventFd.take()], [66, 66, 1]);
  // It goes on when its reads have been answered, too.
  device.readRegion(0, 0, time);
});

withSample("server", "its state is saved and loaded", (path) => {
  using device = VfioUserDevice.connect(path);
  assertEquals([...device.deviceFeature(1, "get", undefined, 8)], [5, 0, 0, 0, 0, 0, 0, 0]);
  const later = new Uint8Array(8);
  new DataView(later.buffer).setBigInt64(0, BigInt(Math.floor(Date.now() / 1000) + 1000), true);
  device.writeRegion(0, 0, later);
  device.writeRegion(1, 0, new Uint8Array([1, 2, 3, 4]));
  for (const number of [1, 3]) device.deviceFeature(2, "set", state(number));
  const saved: number[] = [];
  for (;;) {
    const part = device.readMigrationData(0x1800);
    if (part.byteLength === 0) break;
    saved.push(...part);
  }
  assertEquals([saved.length, ...saved.slice(0, 4)], [0x4008, 1, 2, 3, 4]);
  for (const number of [1, 4]) device.deviceFeature(2, "set", state(number));
  saved[0] = 77;
  device.writeMigrationData(Uint8Array.from(saved));
  for (const number of [1, 2]) device.deviceFeature(2, "set", state(number));
  const first = new Uint8Array(2);
  device.readRegion(1, 0, first);
  assertEquals([...first], [77, 2]);
});

withSample("gpio-pci-idio-16", "a host of one function", (path) => {
  for (let times = 0; times < 2; times++) {
    using host = openHost(`vfio-user:${path}`);
    const ids = host.list().map((one) => one.bus === "pci" && [one.vendorId, one.deviceId]);
    assertEquals(ids, [[0x494f, 0x0dc8]]);
    assertEquals(host.barSizes("00:00.0")[2], 256);
    using device = host.open("00:00.0");
    const pins = new Uint8Array(1);
    device.writeRegion(2, 0, pins);
    device.readRegion(2, 1, pins);
    assert(pins[0]! <= 0xff);
    assertThrows(() => host.bind("00:00.0"), UnsupportedError);
  }
});
