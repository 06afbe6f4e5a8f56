/**
 * The control queues of a console with several ports (virtio 1.4 §5.3.6.2).
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import type { DmaSpace } from "../../lib/memory/mod.ts";
import { CONSOLE_CONTROL, CONSOLE_CONTROL_BYTES } from "../../lib/virtio/spec/console.ts";
import type { Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import type { WaitTarget } from "../../lib/wait/waiter.ts";
import { PortBuffers } from "./port_buffers.ts";

/** A name is the longest thing that a message carries. */
const MESSAGE_BYTES = 1024;

/** What a message of the device says. */
export interface ControlMessage {
  /** Port. */
  readonly port: number;
  /** One of `CONSOLE_EVENT`. */
  readonly event: number;
  readonly value: number;
  /** What follows, a copy. */
  readonly more: Uint8Array<ArrayBuffer>;
}

/** Sends and receives control messages. Messages that find no buffer free wait for the next `send` or `receive`. */
export class ControlQueues implements WaitTarget, Disposable {
  readonly #name: string;
  readonly #buffers: PortBuffers;
  readonly #unsent: Uint8Array<ArrayBuffer>[] = [];
  readonly #message = new Uint8Array(MESSAGE_BYTES);

  /** @param name function, for messages @throws ExhaustedError, SyscallError */
  constructor(name: string, receive: Virtqueue, transmit: Virtqueue, dma: DmaSpace) {
    this.#name = name;
    this.#buffers = new PortBuffers(receive, transmit, dma, MESSAGE_BYTES);
  }

  /** Posts the receive buffers. */
  start(): void {
    this.#buffers.start();
  }

  /** Sends a message. */
  send(port: number, event: number, value: number): void {
    this.#unsent.push(CONSOLE_CONTROL.encode({ id: port, event, value }));
    this.#flush();
  }

  /** The next message; undefined: there is none. @throws DeviceError for one that is too short, or when the device lies */
  receive(): ControlMessage | undefined {
    if (this.#unsent.length > 0) this.#flush();
    const length = this.#buffers.readOne(this.#message);
    if (length === 0) return undefined;
    if (length < CONSOLE_CONTROL_BYTES) {
      throw new DeviceError(`a control message of ${length} bytes; ${CONSOLE_CONTROL_BYTES} at least`, {
        function: this.#name,
        queue: this.#buffers.receiveQueue.index,
        field: "used.len",
      });
    }
    const { id, event, value } = CONSOLE_CONTROL.decode(this.#message);
    return { port: id, event, value, more: this.#message.slice(CONSOLE_CONTROL_BYTES, length) };
  }

  /** True when there is a message. */
  hasUsed(): boolean {
    return this.#buffers.readable;
  }

  suppressInterrupts(): void {
    this.#buffers.receiveQueue.suppressInterrupts();
  }

  enableInterrupts(): boolean {
    return this.#buffers.receiveQueue.enableInterrupts() || this.#buffers.readable;
  }

  /** Unmaps the buffers. */
  [Symbol.dispose](): void {
    this.#buffers[Symbol.dispose]();
  }

  #flush(): void {
    while (this.#unsent.length > 0 && this.#buffers.write(this.#unsent[0]!) > 0) this.#unsent.shift();
  }
}
