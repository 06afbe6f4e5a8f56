/**
 * Interrupt wake latency: how long a driver that sleeps takes to see what the device did.
 *
 * A sample is a round trip: a frame is queued and the doorbell rung, the device takes it, puts it into the receive queue of another VF and raises
 * its MSI-X vector, and the waiter of that queue returns. Beside it: the same two wake-ups with nothing between, an eventfd to another process that
 * sleeps on epoll, and an eventfd back.
 *
 * @module
 */
import { FrameBurst, type VirtioNet, type VirtioNetOptions } from "../drivers/net/virtio_net.ts";
import { Epoll, EventFd, sleepBlocking } from "../ffi/mod.ts";
import { DeviceError, TimeoutError } from "../lib/errors/mod.ts";
import type { WaitMode } from "../lib/wait/waiter.ts";
import { type BenchRun, PATIENCE_MS } from "./bench_run.ts";
import { templateFrame } from "./frame_pair.ts";
import { useVfs } from "./opened_functions.ts";
import { useEmulatedHost, usePeer } from "./processes.ts";
import { compare, type Figure, samples, type Section } from "./report.ts";

const FRAME_BYTES = 64;
/** Long enough for the device to have gone to sleep. */
const PAUSE_MS = 1;
const BLOCK = 100;

/** One way to wait. */
export interface Probe {
  readonly name: string;
  /** Its waits are asynchronous, which takes another thread. */
  readonly asynchronous: boolean;
  /** Interrupts that were taken so far. */
  readonly interrupts: number;
  /** Milliseconds of a round trip, after so long a pause in which everybody else falls asleep; 0: none. */
  sample(pauseMs: number): number | Promise<number>;
}

const WAITS: readonly VirtioNetOptions[] = [
  { interrupts: "msix", wait: "eventfd" },
  { interrupts: "msix", wait: "adaptive" },
  { interrupts: "msix", wait: "poll" },
];

/** Measures each way to wait, with the device asleep and with the device busy. */
export async function benchWake(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const emulated = await useEmulatedHost(stack, run, 1 + WAITS.length);
  const [sender, eventfd, adaptive, poll] = await useVfs(stack, emulated.directory, [
    { interrupts: "none", wait: "poll" },
    ...WAITS,
  ]);
  const baseline = await eventFdProbes(stack);
  const probes: Probe[] = [
    new FrameProbe(sender!, eventfd!, "eventfd", true),
    new FrameProbe(sender!, eventfd!, "eventfd", false),
    new FrameProbe(sender!, adaptive!, "adaptive", true),
    new FrameProbe(sender!, adaptive!, "adaptive", false),
    new FrameProbe(sender!, poll!, "poll", false),
  ];
  const sections: Section[] = [];
  for (const asleep of [true, false]) {
    const measured = await measureWakes(run, [...baseline, ...probes], asleep);
    const alone = measured.slice(0, baseline.length).map((one) => samples("microseconds", one.microseconds));
    const figures = measured.slice(baseline.length).map(({ microseconds, byInterrupt }, i): Figure => {
      const { name, asynchronous } = probes[i]!;
      const other = baseline.findIndex((one) => one.asynchronous === asynchronous);
      const value = samples("microseconds", microseconds);
      return {
        name,
        value,
        beside: [compare(value, baseline[other]!.name, alone[other]!)],
        note: `${byInterrupt} % ended by interrupt`,
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

/** What a probe measured. */
export interface Measured {
  /** One for each sample. */
  readonly microseconds: number[];
  /** Percent of all samples. */
  readonly byInterrupt: string;
}

/** Samples of each, in turn, in blocks. @param asleep after a pause in which everybody else falls asleep */
export async function measureWakes(
  run: BenchRun,
  probes: readonly Probe[],
  asleep: boolean,
): Promise<Measured[]> {
  const count = run.pick(SAMPLES, SHORT_SAMPLES);
  const microseconds: number[][] = probes.map(() => []);
  const byInterrupt = probes.map(() => 0);
  // One block more, which warms up and is thrown away.
  for (let block = 0; block <= count / BLOCK; block++) {
    for (const [i, probe] of probes.entries()) {
      const before = probe.interrupts;
      for (let n = 0; n < BLOCK; n++) {
        const result = probe.sample(asleep ? PAUSE_MS : 0);
        // No `await` where there is nothing to wait for: what comes between two samples lets the device fall asleep.
        const took = typeof result === "number" ? result : await result;
        if (block > 0) microseconds[i]!.push(1000 * took);
      }
      if (block > 0) byInterrupt[i]! += probe.interrupts - before;
      await run.turn();
    }
  }
  return microseconds.map((one, i) => ({
    microseconds: one,
    byInterrupt: (100 * byInterrupt[i]! / one.length).toFixed(0),
  }));
}

/** A frame from one function to another whose receive queue is waited for. */
export class FrameProbe implements Probe {
  readonly name: string;
  readonly asynchronous: boolean;
  readonly #mode: WaitMode;
  readonly #from: VirtioNet;
  readonly #to: VirtioNet;
  readonly #template: Uint8Array;
  readonly #burst = new FrameBurst(4);

  constructor(from: VirtioNet, to: VirtioNet, mode: WaitMode, asynchronous: boolean) {
    this.name = `${mode}, ${asynchronous ? "asynchronous" : "blocking"}`;
    this.asynchronous = asynchronous;
    this.#mode = mode;
    this.#from = from;
    this.#to = to;
    this.#template = templateFrame(to.mac, from.mac, FRAME_BYTES);
  }

  get interrupts(): number {
    return this.#to.statistics().interrupts;
  }

  sample(pauseMs: number): number | Promise<number> {
    if (this.asynchronous && this.#mode === "eventfd" && pauseMs > 0) return this.#asleepFirst(pauseMs);
    if (pauseMs > 0) sleepBlocking(pauseMs);
    const start = this.#send();
    if (!this.asynchronous) return this.#arrived(start, this.#to.waitReceiveBlocking(PATIENCE_MS));
    return this.#to.waitReceive(PATIENCE_MS).then((ready) => this.#arrived(start, ready));
  }

  /** The wait begins before the frame is sent, so that an interrupt must end it. */
  async #asleepFirst(pauseMs: number): Promise<number> {
    const waiting = this.#to.waitReceive(PATIENCE_MS);
    sleepBlocking(pauseMs);
    const start = this.#send();
    return this.#arrived(start, await waiting);
  }

  /** @returns when */
  #send(): number {
    const tx = this.#from.tx[0]!;
    const slot = tx.reserve();
    if (slot < 0) throw new DeviceError("the device keeps all transmit slots");
    tx.frame(slot).set(this.#template);
    const start = performance.now();
    tx.send(slot, this.#template.length);
    tx.flush();
    return start;
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
  const signal = (): number => {
    const start = performance.now();
    doorbell.signal();
    return start;
  };
  return [{
    name: "eventfds alone, blocking",
    asynchronous: false,
    interrupts: 0,
    sample: (pauseMs) => {
      if (pauseMs > 0) sleepBlocking(pauseMs);
      const start = signal();
      return arrived(start, epoll.waitBlocking(PATIENCE_MS));
    },
  }, {
    name: "eventfds alone, asynchronous",
    asynchronous: true,
    interrupts: 0,
    sample: async (pauseMs) => {
      if (pauseMs === 0) {
        const start = signal();
        return arrived(start, await epoll.wait(PATIENCE_MS));
      }
      const waiting = epoll.wait(PATIENCE_MS);
      sleepBlocking(pauseMs);
      const start = signal();
      return arrived(start, await waiting);
    },
  }];
}
