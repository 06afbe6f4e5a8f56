/**
 * A block device of many queues on virtio-mmio whose vectors are reprogrammed, masked and unmasked while its queues interrupt, and an account of every
 * interrupt. A request has one, since none is suppressed and a queue has one request at a time.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import type { EventFd } from "../../../ffi/mod.ts";
import { FEATURE, platformWindow, type Virtqueue } from "../../../lib/virtio/mod.ts";
import { Registers } from "../../../lib/registers/registers.ts";
import { MMIO_MSI_V2_CFG, MSI_V2_COMMAND } from "../../../lib/virtio/spec/mmio.ts";
import type { VirtioTransport } from "../../../lib/virtio/transport/transport.ts";
import { Random } from "../../random.ts";
import type { Reached } from "../drivers/topology_host.ts";
import { BlkByHand } from "./blk_by_hand.ts";

/** Queues of the device; a vector each, and one for the configuration. */
export const STORM_QUEUES = 15;
/** Of them that interrupt: the vectors of the others are spare. */
const ACTIVE = 4;
/** Operations between two balances. */
const EPOCH = 48;

/** One queue that interrupts, and what it may have signalled since the last balance. */
class Source {
  readonly queue: Virtqueue;
  /** Vector that it has now. */
  vector: number;
  /** Vectors that it has had since the last balance, the present one among them; no other queue has them. */
  readonly had = new Set<number>();
  masked = false;
  inFlight = false;
  /** What is in flight began under another programming, or while MSI was off. */
  touched = false;
  /** Requests since the last balance. */
  requests = 0;
  /** Signals since the last balance. */
  signals = 0;
  /** Requests that were, in whole or in part, made while the vector was masked, since it was. */
  whileMasked = 0;
  /** All of those began and ended masked. */
  clean = true;
  /** Interrupts of which it cannot be known whether they are one with another. */
  doubtful = 0;

  constructor(queue: Virtqueue, vector: number) {
    this.queue = queue;
    this.vector = vector;
  }
}

/** See the module. */
export class Storm implements Disposable {
  /** What was done, by name. */
  readonly done: Record<"fire" | "settle" | "program" | "mask" | "unmask" | "kept", number> = {
    fire: 0,
    settle: 0,
    program: 0,
    mask: 0,
    unmask: 0,
    kept: 0,
  };
  readonly #random: Random;
  readonly #transport: VirtioTransport;
  readonly #masks: boolean;
  readonly #sharing: boolean;
  readonly #registers: Registers<typeof MMIO_MSI_V2_CFG>;
  readonly #owned = new DisposableStack();
  readonly #eventFds: readonly EventFd[];
  readonly #sources: readonly Source[];
  readonly #blk: BlkByHand;
  /** Signals that the transport itself gave all vectors, since the last balance: version 3 turns MSI off to program one. */
  #nudges = 0;
  #spare: number[] = [];

  /** Brings the device up. @param reached stays the caller's */
  constructor({ transport, device }: Reached<VirtioTransport>, seed: number) {
    this.#random = new Random(seed);
    this.#transport = transport;
    const blk = this.#blk = this.#owned.use(
      new BlkByHand(transport, STORM_QUEUES, FEATURE.RING_PACKED | FEATURE.INDIRECT_DESC),
    );
    assertEquals(transport.interruptCount("msi"), STORM_QUEUES + 1);
    const vectors = transport.enableInterrupts("msi", STORM_QUEUES + 1);
    this.#eventFds = vectors.map(({ eventFd }) => eventFd);
    const window = platformWindow(device);
    this.#owned.defer(() => window.close());
    this.#registers = new Registers(MMIO_MSI_V2_CFG, window.space);
    this.#masks = transport.profile === "mmio-msi-v2";
    this.#sharing = this.#masks && this.#registers.fields("msi_state").msi_sharing;
    transport.setConfigVector(0);
    // N-7.4: all vectors are configured before MSI is enabled, also those that a shared device maps later.
    for (let vector = this.#sharing ? 1 : STORM_QUEUES + 1; vector <= STORM_QUEUES; vector++) {
      transport.setQueueVector(0, vector);
    }
    blk.start(STORM_QUEUES, (queue) => queue + 1);
    this.#sources = blk.queues.slice(0, ACTIVE).map((queue) => new Source(queue, queue.index + 1));
    assertEquals(transport.interruptKind, "msi");
    for (const { queue } of this.#sources) queue.enableInterrupts();
    this.#begin();
  }

  /** So many operations, then a balance. */
  async run(operations: number): Promise<void> {
    for (let at = 0; at < operations; at++) {
      if (at % EPOCH === EPOCH - 1) await this.#balance();
      const source = this.#random.pick(this.#sources);
      const dice = this.#random.below(100);
      if (!source.inFlight && dice < 70) this.#fire(source);
      else if (dice < 50) await this.#settle(source);
      else if (dice < 75) await this.#program(source);
      else if (this.#masks) await (source.masked ? this.#unmask(source) : this.#mask(source));
      else this.#fire(source);
    }
    await this.#balance();
  }

  /** Signals of a source since it was asked the last time. */
  #take(source: Source): number {
    let count = 0;
    for (const vector of source.had) count += this.#eventFds[vector]!.take();
    source.signals += count;
    return count;
  }

  /** Whatever the device did before is done: it answers in its turn. */
  #barrier(): void {
    this.#transport.readStatus();
  }

  #fire(source: Source): void {
    if (source.inFlight) return;
    this.#take(source);
    this.#blk.request(source.queue);
    source.inFlight = true;
    source.touched = false;
    source.requests++;
    if (source.masked) source.whileMasked++;
    this.done.fire++;
  }

  /** Waits for what is in flight, and looks for its interrupt where that can be known. */
  async #settle(source: Source): Promise<void> {
    if (!source.inFlight) return;
    await this.#blk.answer(source.queue);
    this.#barrier();
    source.inFlight = false;
    this.done.settle++;
    if (source.touched) return;
    assertEquals(this.#take(source), source.masked ? 0 : 1, this.#where(source, "a request's interrupts"));
  }

  async #program(source: Source): Promise<void> {
    // A shared vector that is masked keeps its message when the queue is mapped to another.
    if (source.masked && this.#sharing) await this.#unmask(source);
    const vector = this.#spare.pop();
    if (vector === undefined) return;
    const wasMasked = source.masked;
    this.#take(source);
    this.#transport.setQueueVector(source.queue.index, vector);
    source.vector = vector;
    source.had.add(vector);
    this.done.program++;
    if (this.#masks) {
      this.#barrier();
      // Programming unmasks.
      if (wasMasked) this.#unmasked(source);
      else this.#touch(source);
    } else {
      this.#nudges++;
      // Whatever happened while MSI was off is nobody's message; all are signalled once, for those who wait.
      for (const one of this.#sources) {
        if (one.inFlight && !one.touched) one.doubtful++;
        this.#touch(one);
      }
    }
  }

  #touch(source: Source): void {
    if (source.inFlight) source.touched = true;
  }

  async #mask(source: Source): Promise<void> {
    if (this.#random.below(2) === 0) await this.#settle(source);
    this.#command(source, "MASK");
    source.masked = true;
    source.whileMasked = source.inFlight ? 1 : 0;
    source.clean = !source.inFlight;
    this.#touch(source);
    this.done.mask++;
  }

  async #unmask(source: Source): Promise<void> {
    if (this.#random.below(2) === 0) await this.#settle(source);
    this.#take(source);
    this.#command(source, "UNMASK");
    this.#barrier();
    this.#unmasked(source);
    this.done.unmask++;
  }

  /** What was kept has come, once. */
  #unmasked(source: Source): void {
    source.masked = false;
    const { whileMasked, clean, inFlight } = source;
    const came = this.#eventFds[source.vector]!.take();
    source.signals += came;
    if (clean && !inFlight) {
      assertEquals(came, Math.min(whileMasked, 1), this.#where(source, `${whileMasked} that were kept`));
      this.done.kept += came;
    }
    source.doubtful += Math.max(0, whileMasked - 1);
    this.#touch(source);
  }

  #command(source: Source, command: "MASK" | "UNMASK"): void {
    this.#registers.write("msi_vec_sel", this.#sharing ? source.vector : source.queue.index + 1);
    this.#registers.write("msi_cmd", MSI_V2_COMMAND[command]);
  }

  /** All is quiet: each queue's vectors had its interrupts, the others none. */
  async #balance(): Promise<void> {
    for (const source of this.#sources) {
      await this.#settle(source);
      if (source.masked) await this.#unmask(source);
    }
    this.#barrier();
    const owned = new Set<number>();
    for (const source of this.#sources) {
      this.#take(source);
      for (const vector of source.had) owned.add(vector);
      const { requests, doubtful } = source;
      const signals = source.signals - this.#nudges * source.had.size;
      assert(signals <= requests, this.#where(source, `${signals} signals of ${requests} requests`));
      assert(
        signals >= requests - doubtful,
        this.#where(source, `${signals} signals of ${requests} requests, ${doubtful} in doubt`),
      );
    }
    for (const [vector, eventFd] of this.#eventFds.entries()) {
      if (!owned.has(vector)) assertEquals(eventFd.take(), this.#nudges, `vector ${vector} is nobody's`);
    }
    this.#begin();
  }

  #begin(): void {
    const used = new Set(this.#sources.map(({ vector }) => vector));
    this.#spare = this.#eventFds.map((_, vector) => vector).filter((one) => one > 0 && !used.has(one));
    this.#nudges = 0;
    for (const source of this.#sources) {
      source.had.clear();
      source.had.add(source.vector);
      source.requests =
        source.signals =
        source.doubtful =
        source.whileMasked =
          0;
      source.clean = true;
    }
  }

  #where({ queue, vector }: Source, what: string): string {
    return `${this.#transport.name}, queue ${queue.index}, vector ${vector}: ${what}`;
  }

  [Symbol.dispose](): void {
    this.#owned.dispose();
  }
}
