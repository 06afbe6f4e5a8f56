/**
 * One virtqueue of commands: commands in, answers out.
 *
 * @module
 */
import { ExhaustedError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import { usedBurst } from "../queue/used_burst.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import type { Command } from "./command.ts";
import { CommandMemory, type CommandRoom } from "./command_memory.ts";

/** Parts of a chain as a rule: one to read, one to write. */
export const COMMAND_PARTS = 2;

/** See the module's text. */
export class CommandLane<C extends Command> implements Disposable {
  /** Its virtqueue. */
  readonly queue: Virtqueue;
  readonly #memory: CommandMemory;
  readonly #held: (C | undefined)[];
  readonly #used = usedBurst(32);
  #unpublished = false;
  #outstanding = 0;

  /** @param depth commands in flight at most @throws ExhaustedError, SyscallError */
  constructor(queue: Virtqueue, dma: DmaSpace, depth: number, room: CommandRoom) {
    this.queue = queue;
    // Nobody waits yet: `Waiter` asks for interrupts before it sleeps.
    queue.suppressInterrupts();
    this.#held = new Array<C | undefined>(queue.size);
    const depthHere = Math.max(1, Math.min(depth, Math.floor(queue.freeDescriptors / COMMAND_PARTS)));
    this.#memory = new CommandMemory(queue, dma, depthHere, room);
  }

  /** Virtqueue number. */
  get index(): number {
    return this.queue.index;
  }

  /** Commands that the device has, given up or not. */
  get outstanding(): number {
    return this.#outstanding;
  }

  /** Commands that can be sent now. */
  get room(): number {
    return this.#memory.free;
  }

  /**
   * Adds a command; not visible before `notify`. There must be room.
   * @throws ExhaustedError, SyscallError, UsageError (a ring too small for a chain); nothing is changed then
   */
  add(command: C): void {
    const { readableCuts, writableCuts } = command;
    this.#memory.take(command);
    let begun = false;
    try {
      begun = this.queue.begin(readableCuts.length / 2 + 1, writableCuts.length / 2 + 1);
    } finally {
      if (!begun) this.#memory.give(command);
    }
    if (!begun) {
      throw new ExhaustedError(`queue ${this.index} has no descriptors left for a command`, {
        hint: "others use the queue, too; reset the device",
      });
    }
    const { pool, slot, writableAt, readableBytes, writableBytes } = command;
    const bytes = pool!.views[slot]!;
    command.encode(
      bytes.subarray(0, readableBytes),
      bytes.subarray(writableAt, writableAt + writableBytes),
    );
    this.#addParts(command, 0, readableBytes, readableCuts);
    this.#addParts(command, writableAt, writableBytes, writableCuts);
    this.#held[this.queue.commit()] = command;
    command.queue = this.index;
    this.#outstanding++;
    this.#unpublished = true;
  }

  /** Makes added commands visible, and notifies. */
  notify(): void {
    if (!this.#unpublished) return;
    this.#unpublished = false;
    this.queue.kick();
  }

  /**
   * Takes what the device has returned. `taken` gets a copy of the device-writable part, and how much of it was written.
   * @throws DeviceError when the device broke the ring
   */
  take(taken: (command: C, bytes: Uint8Array<ArrayBuffer>, usedBytes: number) => void): void {
    for (let count; (count = this.queue.takeUsed(this.#used)) > 0;) {
      for (let at = 0; at < count; at++) {
        const id = this.#used.ids[at]!;
        const command = this.#held[id]!;
        this.#held[id] = undefined;
        this.#outstanding--;
        const { writableAt, writableBytes } = command;
        const bytes = command.pool!.views[command.slot]!.slice(writableAt, writableAt + writableBytes);
        this.#memory.give(command);
        taken(command, bytes, this.#used.lengths[at]!);
      }
    }
  }

  /** Takes the memory away. The queue is its device's, which must have been reset. */
  close(): void {
    this.#memory.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #addParts({ pool, slot }: C, at: number, lengthBytes: number, cuts: readonly number[]): void {
    let from = 0;
    for (let cut = 0; cut < cuts.length; cut += 2) {
      pool!.addPart(slot, at + from, cuts[cut]! - from);
      from = cuts[cut + 1]!;
    }
    pool!.addPart(slot, at + from, lengthBytes - from);
  }
}
