/**
 * A console with several ports over `FakeTransport`: it sends whatever control message a test wants.
 *
 * @module
 */
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";

/** See the module's text. */
export class ModelConsole {
  readonly transport: FakeTransport;
  /** Control messages of the driver: port, event, value. */
  readonly heard: number[][] = [];
  /** What the driver sent, by queue. */
  readonly sent = new Map<number, number[]>();
  /** False: sent buffers stay with the device, until `giveBack`. */
  takeSent = true;
  readonly #kept: number[] = [];

  constructor(ports = 3, options: { features?: bigint; config?: Uint8Array; queues?: number } = {}) {
    const config = options.config ?? new Uint8Array(12);
    if (options.config === undefined) {
      const view = new DataView(config.buffer);
      view.setUint16(0, 80, true);
      view.setUint16(2, 25, true);
      view.setUint32(4, ports, true);
    }
    this.transport = new FakeTransport({
      deviceId: 3,
      features: options.features ?? (1n << 32n | 1n << 29n | 7n),
      config,
      queueSizes: new Array<number>(options.queues ?? 2 * ports + 2).fill(16),
      vectors: 2 * ports + 3,
    });
    this.transport.onNotify = (queue) => this.#notified(queue);
  }

  /** Sends raw bytes into a receive queue. */
  say(queue: number, bytes: readonly number[]): void {
    const ring = this.transport.ring(queue);
    const chain = ring.pop();
    if (chain === undefined) throw new Error(`queue ${queue}: no buffer`);
    const [part] = chain.parts;
    const view = this.transport.iommu.at(part!.iova, part!.length, true);
    bytes.forEach((byte, i) => view.setUint8(i, byte));
    ring.push(chain.head, bytes.length);
    this.transport.interrupt(queue);
  }

  /** Sends a control message. */
  control(port: number, event: number, value = 0, more: readonly number[] = []): void {
    this.say(2, [port & 255, port >> 8 & 255, port >> 16 & 255, port >>> 24, event, 0, value, 0, ...more]);
  }

  /** Gives back what a transmit queue kept. */
  giveBack(queue: number): void {
    for (const head of this.#kept.splice(0)) this.transport.ring(queue).push(head, 0);
    this.transport.interrupt(queue);
  }

  #notified(queue: number): void {
    const control = (this.transport.driverFeatures & 2n) !== 0n && queue === 3;
    if (queue % 2 === 0) return;
    const ring = this.transport.ring(queue);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) {
      const bytes: number[] = [];
      for (const { iova, length, write } of chain.parts) {
        if (write) throw new Error("5.3.6.1: a device-writable transmit buffer");
        const view = this.transport.iommu.at(iova, length, false);
        for (let i = 0; i < length; i++) bytes.push(view.getUint8(i));
      }
      if (control) this.heard.push([bytes[0]! | bytes[1]! << 8, bytes[4]!, bytes[6]!]);
      else this.sent.set(queue, [...this.sent.get(queue) ?? [], ...bytes]);
      if (this.takeSent || control) ring.push(chain.head, 0);
      else this.#kept.push(chain.head);
      this.transport.interrupt(queue);
    }
    ring.availableEvent = ring.next;
  }
}
