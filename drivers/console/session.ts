/**
 * Everything of a console that lives from one reset to the next: features, queues, ports, interrupts.
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import {
  CONSOLE_CONTROL_QUEUE,
  CONSOLE_EVENT,
  CONSOLE_FEATURE,
  CONSOLE_RESIZE,
  consoleQueues,
} from "../../lib/virtio/spec/console.ts";
import type { Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import type { DriverParts } from "../driver_life.ts";
import { checkCount } from "../driver_options.ts";
import type { Listeners } from "../listeners.ts";
import type { Session } from "../session.ts";
import { consoleWishes, readMaxPorts, readSize } from "./config.ts";
import { type ControlMessage, ControlQueues } from "./control.ts";
import { orHandled } from "./message_target.ts";
import type { VirtioConsoleOptions } from "./options.ts";
import { ConsolePort, type PortChange, type PortHolder } from "./port.ts";
import { PortBuffers } from "./port_buffers.ts";

/** Who is told of what happens to ports. */
export type PortListeners = Listeners<[change: PortChange, port: ConsolePort]>;

interface PortQueues {
  readonly receive: Virtqueue;
  readonly transmit: Virtqueue;
  /** Made when the port comes, and kept when it goes: the device still has the receive buffers. */
  buffers: PortBuffers | undefined;
}

/** See the module's text. */
export class ConsoleSession implements DriverParts, PortHolder {
  readonly name: string;
  readonly control: ControlQueues | undefined;
  /** Ports that the device has room for. */
  readonly maxPorts: number;
  readonly #session: Session;
  readonly #queues: readonly PortQueues[];
  readonly #ports: (ConsolePort | undefined)[] = [];
  readonly #bufferBytes: number;
  readonly #listeners: PortListeners;
  #handled = 0;
  /** The device was lost and came back. */
  #returned = false;
  #fault: DeviceError | null = null;

  /** Brings the device up to DRIVER_OK; with MULTIPORT says that the driver is ready. */
  constructor(session: Session, options: VirtioConsoleOptions, listeners: PortListeners) {
    const { device } = session;
    const { transport } = device;
    this.#session = session;
    this.#listeners = listeners;
    this.name = transport.name;
    this.#bufferBytes = checkCount(this.name, "bytes a buffer", options.bufferBytes ?? 4096, 1, 1 << 20);
    session.negotiate(consoleWishes(options));
    this.maxPorts = readMaxPorts(device);
    const multiport = device.has(CONSOLE_FEATURE.MULTIPORT);
    const most = checkCount(this.name, "ports", options.maxPorts ?? this.maxPorts, 1, 0xffff_ffff);
    const numbers = Array.from({ length: Math.min(this.maxPorts, most) }, (_, port) => consoleQueues(port));
    const indices = numbers.flatMap(({ receive, transmit }) => [receive, transmit]);
    const { receive, transmit } = CONSOLE_CONTROL_QUEUE;
    if (multiport) indices.push(receive, transmit);
    session.listen(indices);
    const size = options.queueSize ?? 16;
    this.#queues = numbers.map((number) => ({
      receive: session.queue(number.receive, size),
      transmit: session.queue(number.transmit, size),
      buffers: undefined,
    }));
    if (multiport) {
      this.control = session.own(
        new ControlQueues(this.name, session.queue(receive, 32), session.queue(transmit, 32), transport.dma),
      );
    }
    device.driverOk();
    for (const { receive, transmit } of this.#queues) {
      receive.suppressInterrupts();
      transmit.suppressInterrupts();
    }
    if (this.control !== undefined) {
      this.control.start();
      this.control.send(0, CONSOLE_EVENT.deviceReady, 1);
      const { absence } = transport;
      if (absence !== undefined) session.own({ [Symbol.dispose]: absence.onReturn(() => this.#return()) });
    } else {
      this.#add(0).setSize(readSize(device));
    }
  }

  /** The waiter of the session. */
  get waiter(): Session["waiter"] {
    return this.#session.waiter;
  }

  /** Those that are there, by number. */
  get ports(): ConsolePort[] {
    return this.#ports.filter((port) => port !== undefined);
  }

  /** One that is there. */
  port(index: number): ConsolePort | undefined {
    return this.#ports[index];
  }

  /** Control messages that were taken so far: who waits for what one of them says looks whether there were any. */
  get handled(): number {
    return this.#handled;
  }

  /** Resolves to true when there is a control message, or one was taken by another wait meanwhile; to false after `timeoutMs`. */
  waitMessage(timeoutMs: number): Promise<boolean> {
    return this.waiter.wait(orHandled(this, this.control!), timeoutMs);
  }

  /** Takes control messages. @throws DeviceError when the device lies; then every call throws the same */
  service(): void {
    if (this.#fault !== null) throw this.#fault;
    try {
      for (;;) {
        const message = this.control?.receive();
        if (message === undefined) return;
        this.#handled++;
        this.waiter.wake();
        this.#handle(message);
      }
    } catch (error) {
      if (error instanceof DeviceError) this.#fault = error;
      throw error;
    }
  }

  /** Throws when the device has stopped. */
  checkAlive(): void {
    this.#session.device.checkAlive();
  }

  /** The config space changed: SIZE is of port 0. */
  configChanged(): void {
    const { device } = this.#session;
    device.checkAlive();
    const size = readSize(device);
    const port = this.#ports[0];
    if (port === undefined || size === undefined) return;
    if (size.cols === port.size?.cols && size.rows === port.size.rows) return;
    port.setSize(size);
    this.#listeners.tell("resized", port);
  }

  /** The device is one that has come back: it adds its ports once more. */
  async #return(): Promise<void> {
    this.#returned = true;
    for (const port of this.ports) port.forget();
    await Promise.resolve(this.control!.send(0, CONSOLE_EVENT.deviceReady, 1));
  }

  #handle(message: ControlMessage): void {
    const { port: index, event, more } = message;
    if (event === CONSOLE_EVENT.deviceAdd) return this.#added(index);
    const port = this.#ports[index];
    if (port === undefined) {
      if (index < this.#queues.length) {
        throw this.#lie(`event ${event} for port ${index}, which is not there`);
      }
      // One that there are no queues for: the device was told so.
      if (index < this.maxPorts) return;
      throw this.#lie(`event ${event} for port ${index} of ${this.maxPorts}`);
    }
    if (event === CONSOLE_EVENT.resize && more.length < CONSOLE_RESIZE.sizeBytes) {
      throw this.#lie(`a resize message with ${more.length} bytes of size`);
    }
    const change = port.handle(message);
    if (change === undefined) return;
    if (change === "removed") this.#ports[index] = undefined;
    this.#listeners.tell(change, port);
  }

  #added(index: number): void {
    if (index >= this.maxPorts) throw this.#lie(`port ${index} was added, max_nr_ports is ${this.maxPorts}`);
    const known = this.#ports[index];
    if (known !== undefined) {
      if (!this.#returned) throw this.#lie(`port ${index} was added twice`);
      this.control!.send(index, CONSOLE_EVENT.portReady, 1);
      return known.resume();
    }
    if (index >= this.#queues.length) return this.control!.send(index, CONSOLE_EVENT.portReady, 0);
    let port: ConsolePort;
    try {
      port = this.#add(index);
    } catch (error) {
      this.control!.send(index, CONSOLE_EVENT.portReady, 0);
      throw error;
    }
    this.control!.send(index, CONSOLE_EVENT.portReady, 1);
    this.#listeners.tell("added", port);
  }

  #add(index: number): ConsolePort {
    const queues = this.#queues[index]!;
    if (queues.buffers === undefined) {
      const { dma } = this.#session.device.transport;
      const { receive, transmit } = queues;
      queues.buffers = this.#session.own(new PortBuffers(receive, transmit, dma, this.#bufferBytes));
      queues.buffers.start();
    } else queues.buffers.discard();
    const port = new ConsolePort(index, this, queues.buffers);
    this.#ports[index] = port;
    return port;
  }

  #lie(message: string): DeviceError {
    return new DeviceError(
      message,
      { function: this.name, queue: CONSOLE_CONTROL_QUEUE.receive, field: "control" },
      { hint: "reset the device" },
    );
  }
}
