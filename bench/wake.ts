/**
 * Interrupt wake latency: how long a driver that sleeps takes to see what the device did.
 *
 * A sample is a round trip: a frame is queued and the doorbell rung, the device takes it, puts it into the receive queue of another VF and raises
 * its MSI-X vector, and the waiter of that queue returns. Beside it: the same two wake-ups with nothing between, an eventfd to another process that
 * sleeps on epoll, and an eventfd back.
 *
 * @module
 */
import { FrameBurst, type VirtioNet, type VirtioNetOptions } from "../drivers/virtio_net.ts";
import { Epoll, EventFd, sleepBlocking } from "../ffi/mod.ts";
import { DeviceError, TimeoutError } from "../lib/errors/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { templateFrame } from "./frame_pair.ts";
import { useVfs } from "./opened_functions.ts";
import { useEmulatedHost, usePeer } from "./processes.ts";
import { beside, type Figure, samples, type Section } from "./report.ts";

const PATIENCE_MS = 2000;
const FRAME_BYTES = 64;
/** Long enough for the device to have gone to sleep. */
const PAUSE_MS = 1;
const BLOCK = 50;

/** One way to wait. `sample` gives milliseconds. */
interface Probe {
  readonly name: string;
  sample(): number | Promise<number>;
  /** Interrupts that were taken so far; undefined where there is no device. */
  readonly interrupts: number | undefined;
  /** Doorbells that were rung so far. */
  readonly doorbells: number | undefined;
}

const WAITS: readonly (VirtioNetOptions & { readonly wait: NonNullable<VirtioNetOptions["wait"]> })[] = [
  { interrupts: "msix", wait: "eventfd" },
  { interrupts: "msix", wait: "adaptive" },
  { interrupts: "msix", wait: "poll" },
];

/** Measures each way to wait, with the device asleep and with the device busy. */
export async function benchWake(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, 1 + WAITS.length);
  const [sender, eventfd, adaptive, poll] = await useVfs(stack, emulated.directory, [
    { interrupts: "none", wait: "poll" },
    ...WAITS,
  ]);
  const baseline = await eventFdProbes(stack);
  const probes: Probe[] = [
    new FrameProbe("eventfd, asynchronous", sender!, eventfd!, false),
    new FrameProbe("eventfd, blocking", sender!, eventfd!, true),
    new FrameProbe("adaptive (50 us), asynchronous", sender!, adaptive!, false),
    new FrameProbe("poll, blocking", sender!, poll!, true),
  ];
  const sections: Section[] = [];
  for (const asleep of [true, false]) {
    const measured = await measure(run, [...baseline, ...probes], asleep);
    const [blocking, asynchronous] = measured;
    const figures = measured.slice(baseline.length).map((one, i): Figure => {
      const value = samples("microseconds", one.microseconds);
      const probe = probes[i]!;
      const other = probe.name.includes("asynchronous") ? asynchronous! : blocking!;
      const name = `eventfds alone, ${other === asynchronous ? "asynchronous" : "blocking"}`;
      return {
        name: probe.name,
        value,
        beside: beside(value, name, samples("microseconds", other.microseconds)),
        note: `${one.interrupts} % by interrupt, ${one.doorbells} % by doorbell`,
      };
    });
    sections.push({
      title: asleep
        ? `Interrupt wake latency, round trip, device asleep (${PAUSE_MS} ms of quiet before each)`
        : "Interrupt wake latency, round trip, back to back (the device may still be polling)",
      figures,
      notes: asleep
        ? [
          "round trip: doorbell - device wakes - frame to another VF - MSI-X vector - driver wakes: two wake-ups",
          "eventfds alone: eventfd - another process wakes from epoll - eventfd back - this one wakes: two wake-ups, no device",
        ]
        : [`${run.pick(SAMPLES, SHORT_SAMPLES)} samples each, in turn, in blocks of ${BLOCK}`],
    });
  }
  return sections;
}

const SAMPLES = 3000;
const SHORT_SAMPLES = 300;

interface Measured {
  readonly microseconds: number[];
  readonly interrupts: string;
  readonly doorbells: string;
}

async function measure(run: BenchRun, probes: readonly Probe[], asleep: boolean): Promise<Measured[]> {
  const count = run.pick(SAMPLES, SHORT_SAMPLES);
  const microseconds: number[][] = probes.map(() => []);
  const interrupts = probes.map(() => 0), doorbells = probes.map(() => 0);
  // One block more, which warms up and is thrown away.
  for (let block = 0; block <= count / BLOCK; block++) {
    for (const [i, probe] of probes.entries()) {
      const before = { interrupts: probe.interrupts ?? 0, doorbells: probe.doorbells ?? 0 };
      for (let n = 0; n < BLOCK; n++) {
        if (asleep) sleepBlocking(PAUSE_MS);
        const took = await probe.sample();
        if (block > 0) microseconds[i]!.push(1000 * took);
      }
      if (block > 0) {
        interrupts[i]! += (probe.interrupts ?? 0) - before.interrupts;
        doorbells[i]! += (probe.doorbells ?? 0) - before.doorbells;
      }
      await run.turn();
    }
  }
  return probes.map((_, i) => ({
    microseconds: microseconds[i]!,
    interrupts: (100 * interrupts[i]! / microseconds[i]!.length).toFixed(0),
    doorbells: (100 * doorbells[i]! / microseconds[i]!.length).toFixed(0),
  }));
}

/** A frame from one VF to another whose receive queue is waited for. */
class FrameProbe implements Probe {
  readonly name: string;
  readonly #from: VirtioNet;
  readonly #to: VirtioNet;
  readonly #blocking: boolean;
  readonly #template: Uint8Array;
  readonly #burst = new FrameBurst(4);

  constructor(name: string, from: VirtioNet, to: VirtioNet, blocking: boolean) {
    this.name = name;
    this.#from = from;
    this.#to = to;
    this.#blocking = blocking;
    this.#template = templateFrame(to.mac, from.mac, FRAME_BYTES);
  }

  get interrupts(): number {
    return this.#to.statistics().interrupts;
  }

  get doorbells(): number {
    return this.#from.statistics().transmitted.kicks;
  }

  sample(): number | Promise<number> {
    const tx = this.#from.tx[0]!;
    const slot = tx.reserve();
    if (slot < 0) throw new DeviceError("the device keeps all transmit slots");
    tx.frame(slot).set(this.#template);
    const start = performance.now();
    tx.send(slot, this.#template.length);
    tx.flush();
    if (this.#blocking) return this.#arrived(start, this.#to.waitReceiveBlocking(PATIENCE_MS));
    return this.#to.waitReceive(PATIENCE_MS).then((ready) => this.#arrived(start, ready));
  }

  #arrived(start: number, ready: boolean): number {
    const took = performance.now() - start;
    if (!ready) throw new TimeoutError(`${this.name}: no frame came for ${PATIENCE_MS / 1000} s`);
    const rx = this.#to.rx[0]!;
    if (rx.receiveBurst(this.#burst) !== 1) throw new DeviceError("not one frame, but several");
    rx.recycle(this.#burst);
    return took;
  }
}

/** Two eventfds, shared with a process that answers the one with the other; waited for in both ways. */
async function eventFdProbes(stack: AsyncDisposableStack): Promise<Probe[]> {
  const doorbell = stack.use(new EventFd());
  const interrupt = stack.use(new EventFd());
  const [socket] = await usePeer(stack, "signal", 1);
  socket!.send(new Uint8Array(1), [doorbell.fd, interrupt.fd]);
  const epoll = stack.use(new Epoll());
  epoll.add(interrupt.fd, 0);
  const arrived = (start: number, ready: number): number => {
    const took = performance.now() - start;
    if (ready === 0 || interrupt.take() !== 1) throw new TimeoutError("the peer process did not answer");
    return took;
  };
  const none = { interrupts: undefined, doorbells: undefined };
  return [{
    ...none,
    name: "blocking",
    sample: () => {
      const start = performance.now();
      doorbell.signal();
      return arrived(start, epoll.waitBlocking(PATIENCE_MS));
    },
  }, {
    ...none,
    name: "asynchronous",
    sample: async () => {
      const start = performance.now();
      doorbell.signal();
      return arrived(start, await epoll.wait(PATIENCE_MS));
    },
  }];
}
