/** Client and server in two processes: registers, shared memory, eventfds, DMA, and the death of either. */
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import {
  createMemfd,
  Epoll,
  EventFd,
  isErrno,
  MappedMemory,
  mappingCount,
  openFdCount,
  removeFile,
} from "../../../ffi/mod.ts";
import { PeerGoneError, RefusedError, TimeoutError } from "../../../lib/errors/mod.ts";
import { IRQ } from "../../../lib/vfio/device.ts";
import { VfioUserDevice, type VfioUserOptions } from "../../../lib/sockets/vfio_user/mod.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { campaign, rounds } from "../../random.ts";
import { BAR2_AREAS, REGISTER } from "../../unit/sockets/vfio_user/fake_device.ts";
import { testSocketPath } from "../../unit/sockets/vfio_user/raw_client.ts";

interface Served extends AsyncDisposable {
  readonly path: string;
  readonly process: Deno.ChildProcess;
  connect(options?: VfioUserOptions): VfioUserDevice;
}

async function serve(fixture = "serve_fixture.ts", ...more: string[]): Promise<Served> {
  const path = testSocketPath();
  const script = new URL(`./${fixture}`, import.meta.url).pathname;
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", script, path, ...more],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = process.stdout.getReader();
  const { value } = await reader.read();
  assertEquals(new TextDecoder().decode(value).trim(), "ready");
  reader.releaseLock();
  return {
    path,
    process,
    connect: (options = {}) => VfioUserDevice.connect(path, { name: "0000:00:01.0", ...options }),
    async [Symbol.asyncDispose]() {
      kill(process);
      await process.status;
      await process.stdout.cancel();
      removeFile(path);
    },
  };
}

function kill(process: Deno.ChildProcess): void {
  try {
    process.kill("SIGKILL");
  } catch {
    // It is dead already.
  }
}

/** Waits for an interrupt. */
function expectSignal(event: EventFd): number {
  using epoll = new Epoll();
  epoll.add(event.fd, 1);
  assertEquals(epoll.waitBlocking(5000), 1, "no interrupt came");
  return event.take();
}

function u32(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function readU32(device: VfioUserDevice, offset: number): number {
  const bytes = new Uint8Array(4);
  device.readRegion(0, offset, bytes);
  return new DataView(bytes.buffer).getUint32(0, true);
}

Deno.test("two processes: what the function is, registers of every width and long transfers", async () => {
  await using served = await serve();
  using device = served.connect();
  assertEquals(device.info, { flags: 3, numRegions: 9, numIrqs: 5 });
  assertEquals(device.serverCapabilities.maxMessageFds, 64);
  assertEquals(device.irqInfo(IRQ.msix), { index: 2, flags: 9, count: 8 });
  const id = new Uint8Array(4);
  device.readRegion(7, 0, id);
  assertEquals([...id], [0xf4, 0x1a, 0x41, 0x10]);
  for (const width of [1, 2, 4, 8, 3000]) {
    const data = Uint8Array.from({ length: width }, (_, i) => i * 3 + width);
    device.writeRegion(0, 0x400, data);
    const back = new Uint8Array(width);
    device.readRegion(0, 0x400, back);
    assertEquals(back, data);
  }
});

Deno.test("two processes: a mapped region is one memory, seen from both sides", async () => {
  await using served = await serve();
  using device = served.connect();
  assertEquals(device.regionInfo(2).mmapAreas, BAR2_AREAS);
  const memory = device.mapRegion(2, BAR2_AREAS[0]!);
  memory.bytes().set([1, 2, 3, 4], 0x1ffc);
  const through = new Uint8Array(4);
  device.readRegion(2, 0x2ffc, through);
  assertEquals([...through], [1, 2, 3, 4]);
  device.writeRegion(2, 0x1000, u32(0xcafe));
  assertEquals(new Uint32Array(memory.buffer)[0], 0xcafe);
  assertThrows(() => device.mapRegion(2, { offset: 0x2000, sizeBytes: 0x2000 }), Error, "may not be mapped");
  const view = memory.bytes();
  device.close();
  assertEquals(view.byteLength, 0);
});

Deno.test("two processes: interrupts arrive on eventfds, by register, by request and by doorbell", async () => {
  await using served = await serve();
  using device = served.connect();
  using zero = new EventFd();
  using seven = new EventFd();
  const eventFds = [zero, null, null, null, null, null, null, seven];
  device.setIrqs({ index: IRQ.msix, action: "trigger", start: 0, eventFds });
  device.writeRegion(0, REGISTER.fire, u32(0));
  assertEquals([expectSignal(zero), seven.take()], [1, 0]);
  device.setIrqs({ index: IRQ.msix, action: "fire", start: 7, count: 1 });
  assertEquals(expectSignal(seven), 1);
  const doorbell = device.doorbellFd(0, REGISTER.doorbell, 4)!;
  assertEquals(doorbell.value, undefined);
  for (let i = 0; i < 100; i++) {
    doorbell.fd.signal();
    assert(expectSignal(seven) >= 1);
  }
  assertEquals(readU32(device, REGISTER.rings), 100);
  assertEquals(device.doorbellFd(0, REGISTER.doorbell + 4, 2)!.value, 7);
  assertEquals(device.doorbellFd(0, 0, 4), undefined);
  device.setIrqs({ index: IRQ.msix, action: "disable" });
  device.writeRegion(0, REGISTER.fire, u32(0));
  assertEquals(zero.take(), 0);
});

Deno.test("two processes: DMA both ways, a fault outside what is mapped, and none after unmap", async () => {
  await using served = await serve();
  using device = served.connect();
  const fill = (iova: bigint, length: number, value: number): void => {
    const address = new Uint8Array(8);
    new DataView(address.buffer).setBigUint64(0, iova, true);
    device.writeRegion(0, REGISTER.iova, address);
    device.writeRegion(0, REGISTER.length, u32(length));
    device.writeRegion(0, REGISTER.fill, u32(value));
  };
  const small = device.dma.allocate(8192);
  const large = device.dma.allocate(4 << 20);
  const readOnly = device.dma.allocate(4096, { access: { deviceReads: true, deviceWrites: false } });
  fill(small.iova + 4095n, 2, 0xab);
  assertEquals([...small.bytes(4094, 4)], [0, 0xab, 0xab, 0]);
  fill(large.iova, large.sizeBytes, 7);
  assert(large.bytes().every((byte) => byte === 7));
  assertEquals(readU32(device, REGISTER.sum), 7 * large.sizeBytes);
  large.bytes()[12345] = 9;
  assertEquals(readU32(device, REGISTER.sum), 7 * large.sizeBytes + 2);
  const fault = (iova: bigint, length: number) =>
    assert(isErrno(assertThrows(() => fill(iova, length, 1)), "EINVAL"));
  fault(small.iova + 8191n, 2);
  fault(0n, 1);
  fault(readOnly.iova, 1);
  const { iova } = small;
  small.close();
  fault(iova, 1);
  // 64 GiB of a sparse file, far above 4 GiB: only pages that are touched cost memory.
  using file = createMemfd("large", 64 * 2 ** 30);
  using sparse = MappedMemory.map(file, 64 * 2 ** 30);
  const end = 2n ** 47n + BigInt(sparse.sizeBytes);
  device.dma.lend(sparse, { file, access: { deviceReads: true, deviceWrites: true } }, 2n ** 47n);
  fill(end - 2n, 2, 0xcd);
  fill(2n ** 47n + 2n ** 32n - 1n, 2, 0xef);
  assertEquals([...sparse.bytes(sparse.sizeBytes - 3, 3)], [0, 0xcd, 0xcd]);
  assertEquals([...sparse.bytes(2 ** 32 - 2, 4)], [0, 0xef, 0xef, 0]);
  fault(end - 1n, 2);
  device.dma.takeBack(2n ** 47n);
  fault(end - 2n, 2);
  assertEquals(device.broken, null, "a fault is an error reply, not the end");
});

Deno.test("two processes: reset, and a second client is refused until the first has left", async () => {
  await using served = await serve();
  const device = served.connect();
  device.writeRegion(0, 0x400, u32(5));
  device.reset();
  assertEquals(readU32(device, 0x400), 0);
  assertThrows(() => served.connect(), RefusedError, "another client");
  assertEquals(readU32(device, 0x400), 0);
  device.close();
  using next = served.connect();
  next.reset();
});

Deno.test("two processes: a server killed in the middle of a request is a PeerGoneError, and close releases all", async () => {
  const before = [openFdCount(), mappingCount().mappings];
  {
    await using served = await serve();
    const device = served.connect({ timeoutMs: 30_000 });
    const memory = device.dma.allocate(4096);
    device.mapRegion(2, BAR2_AREAS[0]!);
    device.doorbellFd(0, REGISTER.doorbell, 4);
    // The call below blocks this thread, so another process kills.
    const killer = new Deno.Command("sh", { args: ["-c", `sleep 0.3; kill -9 ${served.process.pid}`] })
      .spawn();
    const error = assertThrows(() => device.writeRegion(0, REGISTER.hang, u32(10_000)), PeerGoneError);
    assertStrictEquals(assertThrows(() => device.reset()), error);
    assertEquals(memory.bytes().byteLength, 4096, "our memory is still ours");
    device.close();
    assertEquals(memory.closed, true);
    await killer.status;
  }
  assertEquals([openFdCount(), mappingCount().mappings], before);
});

Deno.test("two processes: a server that stops answering is a TimeoutError; it serves the next client", async () => {
  await using served = await serve();
  {
    using device = served.connect({ timeoutMs: 100 });
    const error = assertThrows(() => device.writeRegion(0, REGISTER.hang, u32(400)), TimeoutError);
    assertStrictEquals(assertThrows(() => device.reset()), error);
  }
  using next = served.connect();
  assertEquals(readU32(next, 0x400), 0);
});

for (const what of ["commands", "bytes"]) {
  Deno.test(`two processes: a server that sends ${what} now and then does not hold a call for ever`, async () => {
    await using served = await serve("trickle_fixture.ts", what);
    using device = served.connect({ timeoutMs: 200 });
    assertThrows(() => device.reset(), TimeoutError);
  });
}

Deno.test("two processes: a client that is gone without a word leaves a server for the next", async () => {
  await using served = await serve();
  const script = new URL("./vanish_fixture.ts", import.meta.url).pathname;
  const vanished = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", script, served.path],
  });
  for (let i = 0; i < 2; i++) {
    const { signal } = await vanished.output();
    assertEquals(signal, "SIGKILL");
  }
  using next = served.connect();
  next.reset();
});

const CONNECTIONS = rounds(6000);
Deno.test(
  campaign(`two processes: ${CONNECTIONS} connections leave nothing behind on either side`, async () => {
    await using served = await serve();
    const cycle = (): void => {
      using device = served.connect();
      const memory = device.dma.allocate(4096);
      device.mapRegion(2, BAR2_AREAS[1]!);
      device.doorbellFd(0, REGISTER.doorbell, 4);
      using event = new EventFd();
      device.setIrqs({ index: IRQ.msix, action: "trigger", start: 0, eventFds: [event] });
      memory.bytes()[0] = 1;
    };
    cycle();
    const before = [openFdCount(), mappingCount().mappings];
    const self = await settledHoldings("self");
    const server = await settledHoldings(served.process.pid);
    for (let i = 0; i < CONNECTIONS; i++) cycle();
    assertEquals([openFdCount(), mappingCount().mappings], before);
    assertNothingLeft(await settledHoldings("self"), self, "of the client");
    assertNothingLeft(await settledHoldings(served.process.pid), server, "of the server");
  }),
);
