/** Queue pairs that Workers drive: frames, and the end of either side in every order. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount, readDirectory, readText } from "../../../ffi/mod.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { reclaimLeases } from "../../../lib/wait/lease.ts";
import { testFrame } from "../../unit/virtio/model_net.ts";
import type { PairReport, PairTask } from "./pair_worker.ts";
import { type Reached, TopologyHost } from "../../emulated/drivers/topology_host.ts";

const [SENDER, LENT] = ["0000:01:00.0", "0000:02:00.0"] as const;

/** A Worker with a pair, and what it said. */
class PairWorker {
  readonly worker = new Worker(new URL("./pair_worker.ts", import.meta.url), { type: "module" });
  readonly order = new Int32Array(new SharedArrayBuffer(8));
  readonly #began = Promise.withResolvers<void>();
  readonly #ended = Promise.withResolvers<PairReport>();

  constructor(task: Omit<PairTask, "order">) {
    this.worker.onmessage = ({ data }: MessageEvent<PairReport>) =>
      data.began ? this.#began.resolve() : this.#ended.resolve(data);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.#ended.resolve({ error: event.message });
      this.#began.resolve();
    };
    this.worker.postMessage({ ...task, order: this.order } satisfies PairTask);
  }

  get began(): Promise<void> {
    return this.#began.promise;
  }

  get ended(): Promise<PairReport> {
    return this.#ended.promise;
  }

  tell(order: number): void {
    Atomics.store(this.order, 0, order);
    Atomics.notify(this.order, 0);
  }

  /** Waits until it has touched its memory some times more. */
  async touches(times: number): Promise<void> {
    const until = Atomics.load(this.order, 1) + times;
    while (Atomics.load(this.order, 1) < until) await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Descriptors and threads of this process, as the kernel has them: Workers count for themselves. */
const fds = () => readDirectory("/proc/self/fd").length;
/** Mappings of DMA memory of this process, whichever thread made them. */
const maps = () =>
  readText("/proc/self/maps").split("\n").filter((line) => line.includes("memfd:ringside")).length;

async function withHost(
  pairs: number,
  use: (sender: VirtioNet, reached: Reached, served: TopologyHost) => Promise<void>,
): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings, maps()];
  await using served = await TopologyHost.start([
    { address: SENDER, kind: "virtio-net", totalVfs: 0, switch: "s0", queuePairs: pairs },
    { address: LENT, kind: "virtio-net", totalVfs: 0, switch: "s0", queuePairs: pairs },
  ]);
  {
    using one = served.reach(SENDER);
    using two = served.reach(LENT);
    await using sender = await VirtioNet.open(one.transport, { queuePairs: 1 });
    await use(sender, two, served);
  }
  assertEquals(await served.stop(), []);
  assertEquals(reclaimLeases(), 0);
  assertEquals([openFdCount(), mappingCount().mappings, maps()], before);
}

const lentOptions = (pairs: number) => ({ queuePairs: pairs, lentPairs: pairs });

/** A frame of flow `flow`. */
function frameOf(flow: number, serial: number, to: Uint8Array, from: Uint8Array): Uint8Array {
  const bytes = testFrame(64 + serial % 700, serial);
  bytes.set(to);
  bytes.set(from, 6);
  bytes.set([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, flow], 12);
  new DataView(bytes.buffer).setUint32(50, serial);
  return bytes;
}

/** Sends frames of many flows and takes them back, each byte compared but for the addresses, which are the other way round. */
async function exchange(sender: VirtioNet, to: Uint8Array, count: number): Promise<void> {
  const burst = new FrameBurst(32);
  const [rx, tx] = [sender.rx[0]!, sender.tx[0]!];
  const waiting = new Map<number, Uint8Array>();
  const scratch = new Uint8Array(2048);
  let sent = 0, idle = 0;
  while (sent < count || waiting.size > 0) {
    while (sent < count && waiting.size < 64) {
      const slot = tx.reserve();
      if (slot < 0) break;
      const frame = frameOf(sent % 61, sent, to, sender.mac);
      tx.frame(slot).set(frame);
      tx.send(slot, frame.length);
      waiting.set(sent++, frame);
    }
    tx.flush();
    const frames = rx.receiveBurst(burst);
    for (let i = 0; i < frames; i++) {
      const length = rx.copyFrame(burst, i, scratch);
      const serial = new DataView(scratch.buffer).getUint32(50);
      const frame = waiting.get(serial)!;
      assert(frame !== undefined, `frame ${serial} came back twice, or was never sent`);
      waiting.delete(serial);
      frame.set(sender.mac);
      frame.set(to, 6);
      assertEquals(scratch.subarray(0, length), frame);
    }
    rx.recycle(burst);
    idle = frames === 0 ? idle + 1 : 0;
    if (idle > 100) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      assert(idle < 20_000, `${waiting.size} frames did not come back`);
    }
  }
}

for (const mode of ["poll", "eventfd", "adaptive"] as const) {
  Deno.test(`two Workers with a queue pair each send back what comes, ${mode}: every frame once, and the owner sees the counts`, async () => {
    await withHost(2, async (sender, { transport }) => {
      await using net = await VirtioNet.open(transport, lentOptions(2));
      assertEquals([net.rx.length, net.tx.length], [0, 0]);
      assertThrows(
        () => net.send(new Uint8Array(64)),
        UsageError,
        "all its queue pairs are for other threads",
      );
      const workers = [0, 1].map((pair) => new PairWorker({ lent: net.lend(pair), mode }));
      assertThrows(() => net.lend(0), UsageError, "was lent before");
      assertThrows(() => net.lend(2), UsageError, "is not for another thread");
      for (const { began } of workers) await began;
      await exchange(sender, net.mac, 3000);
      net.service();
      const { received, transmitted } = net.statistics();
      assertEquals([received.frames, transmitted.frames, received.bytes], [3000, 3000, transmitted.bytes]);
      for (const worker of workers) worker.tell(1);
      const reports = await Promise.all(workers.map(({ ended }) => ended));
      const echoed = reports.map((report) => report.echoed!);
      assertEquals(echoed[0]! + echoed[1]!, 3000);
      assert(echoed.every((some) => some > 500), `${echoed} frames: the flows are on both pairs`);
      for (const { worker } of workers) worker.terminate();
      net.close();
      assertEquals(net.statistics().received.frames, 3000);
    });
  });
}

/** What ends on the owner's side, from the outermost inwards. */
const ENDS = {
  "the driver is closed": (net: VirtioNet) => net.close(),
  "the device is reset": (net: VirtioNet) => net.reset(),
  "the transport is closed": (_: VirtioNet, { transport }: Reached) => transport.close(),
  "the function is closed": (_: VirtioNet, { device }: Reached) => device.close(),
};

for (const [what, end] of Object.entries(ENDS)) {
  for (const mode of ["poll", "eventfd"] as const) {
    Deno.test(`${what} while a Worker waits, ${mode}: its wait ends with ClosedError`, async () => {
      await withHost(1, async (_, reached) => {
        await using net = await VirtioNet.open(reached.transport, lentOptions(1));
        const worker = new PairWorker({ lent: net.lend(0), mode });
        await worker.began;
        await end(net, reached);
        const { error } = await worker.ended;
        assertEquals(
          error,
          `ClosedError: queue pair 0 of ${LENT}: it was taken back by its owner, and is closed`,
        );
        worker.worker.terminate();
      });
    });
  }

  Deno.test(`${what} while a Worker stores into the pair's memory: it is unmapped by the Worker alone`, async () => {
    await withHost(1, async (_, reached) => {
      await using net = await VirtioNet.open(reached.transport, lentOptions(1));
      const worker = new PairWorker({ lent: net.lend(0), mode: "poll" });
      await worker.began;
      worker.tell(4);
      await worker.touches(20);
      await end(net, reached);
      await worker.touches(20);
      worker.tell(0);
      const { touched } = await worker.ended;
      assert(touched! >= 40);
      worker.worker.terminate();
    });
  });
}

Deno.test("a Worker closes first, then the driver; after a reset the pair is lent again", async () => {
  await withHost(1, async (sender, { transport }) => {
    await using net = await VirtioNet.open(transport, lentOptions(1));
    for (let round = 0; round < 3; round++) {
      const worker = new PairWorker({ lent: net.lend(0), mode: "adaptive" });
      await worker.began;
      await exchange(sender, net.mac, 200);
      worker.tell(1);
      assertEquals(await worker.ended, { echoed: 200 });
      worker.worker.terminate();
      await net.reset();
    }
    assertEquals(net.statistics().received.frames, 600);
  });
});

Deno.test("a Worker that throws lets go of its pair; one that is terminated leaves it, and the owner lets go when the thread is gone", async () => {
  await withHost(2, async (sender, { transport }) => {
    await using net = await VirtioNet.open(transport, lentOptions(2));
    const workers = [0, 1].map((pair) => new PairWorker({ lent: net.lend(pair), mode: "eventfd" }));
    for (const { began } of workers) await began;
    await exchange(sender, net.mac, 200);
    const [dies, stands] = workers as [PairWorker, PairWorker];
    dies.tell(3);
    assertEquals((await dies.ended).error, "Uncaught Error: told to die");
    stands.tell(2);
    const before = fds();
    stands.worker.terminate();
    net.close();
    for (let tries = 0; reclaimLeases() > 0; tries++) {
      assert(tries < 5000, "the thread of a Worker that was terminated is still there");
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    assert(fds() < before);
    dies.worker.terminate();
  });
});

Deno.test("a pair that nobody opens is let go of with the driver, and so is one whose message comes too late", async () => {
  await withHost(1, async (_, { transport }) => {
    await using net = await VirtioNet.open(transport, lentOptions(1));
    const lent = net.lend(0);
    net.close();
    const worker = new PairWorker({ lent, mode: "poll" });
    assert((await worker.ended).error!.includes("it was taken back by its owner, and is closed"));
    worker.worker.terminate();
  });
});

Deno.test("the host's process is killed while a Worker waits: the owner hears of it, and then the Worker", async () => {
  await using served = await TopologyHost.start(
    [{ address: LENT, kind: "virtio-net", totalVfs: 0, queuePairs: 2 }],
    { alone: true },
  );
  using reached = served.reach(LENT);
  await using net = await VirtioNet.open(reached.transport, lentOptions(1));
  const worker = new PairWorker({ lent: net.lend(0), mode: "eventfd" });
  await worker.began;
  await served.kill();
  for (let gone = false; !gone;) {
    try {
      net.service();
      await new Promise((resolve) => setTimeout(resolve, 1));
    } catch {
      gone = true;
    }
  }
  assert((await worker.ended).error!.startsWith("ClosedError: queue pair 0"));
  worker.worker.terminate();
});
