/**
 * The control queue: commands in the four elements of reference 5.3, one at a time.
 *
 * @module
 */
import { DeviceError, TimeoutError } from "../../lib/errors/mod.ts";
import type { DmaMemory, DmaSpace } from "../../lib/memory/mod.ts";
import { ISM_COMMAND, ISM_CTRL, type IsmCommandName } from "../../lib/virtio/constants/ism.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import type { Waiter } from "../../lib/virtio/waiter.ts";

/** Parts that the device reads, and those that it writes, lie on cache lines of their own. */
const HEADER_AT = 0;
const DATA_AT = 64;
const ACK_AT = 128;
const REPLY_AT = 192;
const MEMORY_BYTES = 4096;

/** Bytes of reply that fit the queue's own memory; a longer one gets memory for itself. */
export const SMALL_REPLY_BYTES: number = MEMORY_BYTES - REPLY_AT;

/** Answer to a command. */
export interface IsmAnswer {
  /** One of `ISM_ACK`, or whatever the device has written. */
  readonly ack: number;
  /** A copy of as much of the reply as the device says it has written. */
  readonly reply: Uint8Array<ArrayBuffer>;
}

/** Sends commands; those that are called meanwhile wait for their turn. */
export class IsmControlQueue implements Disposable {
  readonly #name: string;
  readonly #queue: Virtqueue;
  readonly #dma: DmaSpace;
  readonly #memory: DmaMemory;
  readonly #waiter: Waiter;
  readonly #timeoutMs: number;
  readonly #used = usedBurst(1);
  #turn: Promise<unknown> = Promise.resolve();
  #stuck: TimeoutError | null = null;
  #stuckReply: DmaMemory | null = null;
  /** Commands that were answered. */
  answered = 0;

  /** @param name function, for messages @throws ExhaustedError, SyscallError */
  constructor(name: string, queue: Virtqueue, dma: DmaSpace, waiter: Waiter, timeoutMs: number) {
    this.#name = name;
    this.#queue = queue;
    this.#dma = dma;
    this.#memory = dma.allocate(MEMORY_BYTES, { label: "control commands" });
    this.#waiter = waiter;
    this.#timeoutMs = timeoutMs;
  }

  /**
   * Sends a command and waits for its answer, whatever it is.
   * @param data what follows class and command, 64 bytes at most @param replyBytes room for what follows `ack`; 0 for none
   * @throws DeviceError (no `ack` written), TimeoutError (no answer: reset the device), ExhaustedError, ClosedError
   */
  send(command: IsmCommandName, data: Uint8Array, replyBytes: number): Promise<IsmAnswer> {
    const mine = this.#turn.then(() => this.#send(command, data, replyBytes));
    // The next in line goes on whatever becomes of this one.
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** A command was not answered: no other is sent until the device is reset. */
  get stuck(): boolean {
    return this.#stuck !== null;
  }

  /** Unmaps the command memory. The queue is its device's. */
  close(): void {
    this.#stuckReply?.close();
    this.#memory.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  async #send(command: IsmCommandName, data: Uint8Array, replyBytes: number): Promise<IsmAnswer> {
    if (this.#stuck !== null) throw this.#stuck;
    const large = replyBytes > SMALL_REPLY_BYTES
      ? this.#dma.allocate(replyBytes, {
        label: "control reply",
        access: { deviceReads: false, deviceWrites: true },
      })
      : null;
    try {
      return await this.#exchange(command, data, replyBytes, large);
    } finally {
      // What the device still has must stay until it is reset.
      if (this.#stuckReply !== large || large === null) large?.close();
    }
  }

  async #exchange(
    command: IsmCommandName,
    data: Uint8Array,
    replyBytes: number,
    large: DmaMemory | null,
  ): Promise<IsmAnswer> {
    const bytes = this.#memory.bytes();
    const [commandClass, number] = ISM_COMMAND[command];
    ISM_CTRL.encodeInto(bytes, HEADER_AT, { class: commandClass, command: number });
    bytes.set(data, DATA_AT);
    const queue = this.#queue;
    queue.begin(2, replyBytes > 0 ? 2 : 1);
    this.#segment(this.#memory, HEADER_AT, ISM_CTRL.sizeBytes);
    this.#segment(this.#memory, DATA_AT, data.length);
    this.#segment(this.#memory, ACK_AT, 1);
    if (replyBytes > 0) this.#segment(large ?? this.#memory, large === null ? REPLY_AT : 0, replyBytes);
    queue.commit();
    queue.kick();
    if (!await this.#waiter.wait(queue, this.#timeoutMs)) {
      this.#stuckReply = large;
      this.#stuck = new TimeoutError(
        `${this.#name}, queue ${queue.index}: ${command} was not answered in ${this.#timeoutMs} ms`,
        { hint: "reset the device" },
      );
      throw this.#stuck;
    }
    queue.takeUsed(this.#used);
    const written = this.#used.lengths[0]!;
    if (written === 0) {
      throw new DeviceError(`the device returned ${command} without acknowledging`, {
        function: this.#name,
        queue: queue.index,
        field: "ack",
      });
    }
    this.answered++;
    const length = Math.min(written - 1, replyBytes);
    const reply = large === null ? this.#memory.bytes(REPLY_AT, length) : large.bytes(0, length);
    return { ack: this.#memory.bytes(ACK_AT, 1)[0]!, reply: reply.slice() };
  }

  #segment(memory: DmaMemory, offset: number, lengthBytes: number): void {
    const iova = memory.iova + BigInt(offset);
    this.#queue.segment(Number(iova & 0xffff_ffffn), Number(iova >> 32n), lengthBytes);
  }
}
