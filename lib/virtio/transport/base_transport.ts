/**
 * What all transports do alike, whatever they are made of: being closed, and what a driver may ask for.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import type { AccessWidth } from "../../registers/declaration.ts";
import { EndHandlers } from "../../wait/end_handlers.ts";
import type { Lifeline } from "../../wait/lifeline.ts";
import { meansStandard } from "../features.ts";
import { FEATURE, featureNames } from "../spec/features.ts";
import type { QueueView } from "../view/queue_view.ts";
import type { Profile, QueueAddresses, VirtioTransport } from "./transport.ts";

const ALL_FEATURES = (1n << 64n) - 1n;

/** What is driven; stays its owner's. */
export interface DrivenDevice {
  /** Function or path. */
  readonly name: string;
  /** DMA memory that it can reach. */
  readonly dma: DmaSpace;
  /** True after its `close`. */
  readonly closed: boolean;
  /** Of one that another process serves. */
  readonly lifeline?: Lifeline | undefined;
}

/** Names, features, bounds and the end of a transport. */
export abstract class BaseTransport {
  static {
    typedErrors(this);
  }

  /** What carries it. */
  abstract readonly kind: VirtioTransport["kind"];
  /** Function or path. */
  readonly name: string;
  /** Virtio device id. */
  readonly deviceId: number;
  /** Meaning of bits 39–42. */
  readonly profile: Profile;
  readonly #device: DrivenDevice;
  readonly #ends = new EndHandlers();
  #driverFeatures = 0n;
  #closed = false;

  /** Asks the device nothing. */
  protected constructor(device: DrivenDevice, deviceId: number, profile: Profile = "spec") {
    this.name = device.name;
    this.deviceId = deviceId;
    this.profile = profile;
    this.#device = device;
  }

  abstract readonly configSizeBytes: number;
  abstract queueEnabled(queue: number): boolean;
  /** Feature bits that it can carry, of 64. */
  protected abstract readonly carried: bigint;
  /** Size and areas of a queue as they stand. */
  protected abstract queueAreas(queue: number): QueueAddresses;
  /** Vector of a queue; null for none. */
  protected abstract queueVector(queue: number): number | null;
  /** Tells the device which features the driver accepts. */
  protected abstract putDriverFeatures(bits: bigint): void;
  /** Stops the device, and lets go of it. @param gone it is closed already */
  protected abstract end(gone: boolean): void;

  /** The device's. */
  get lifeline(): Lifeline | undefined {
    return this.#device.lifeline;
  }

  /** The device's DMA memory. */
  get dma(): DmaSpace {
    return this.#device.dma;
  }

  /** True after `close`, here or of the device. */
  get closed(): boolean {
    return this.#closed || this.#device.closed;
  }

  /** As written last. */
  get driverFeatures(): bigint {
    return this.#driverFeatures;
  }

  /** Writes what the driver accepts. @throws UsageError for bits that cannot be carried */
  writeDriverFeatures(bits: bigint): void {
    this.requireOpen();
    this.#requireCarried(bits);
    this.putDriverFeatures(bits);
    this.#driverFeatures = bits;
  }

  /** Takes these for accepted without telling the device. @throws UsageError for bits that cannot be carried */
  protected rememberDriverFeatures(bits: bigint): void {
    this.requireOpen();
    this.#requireCarried(bits);
    this.#driverFeatures = bits;
  }

  /** The registers of a queue as they stand, for people who look at them. */
  queueView(queue: number): QueueView {
    const enabled = this.queueEnabled(queue);
    const vector = this.queueVector(queue);
    const { size, descriptorArea, driverArea, deviceArea } = this.queueAreas(queue);
    return {
      queue,
      size,
      enabled,
      vector,
      descriptorArea: hex(descriptorArea),
      driverArea: hex(driverArea),
      deviceArea: hex(deviceArea),
    };
  }

  /** Resets the virtio device (without waiting), turns interrupts off, and lets go of what carries it. */
  close(): void {
    if (this.#closed) return;
    const gone = this.#device.closed;
    this.#closed = true;
    try {
      this.end(gone);
    } finally {
      // Whoever waits hears of it, whatever a caller's window says to being closed.
      this.#ends.tell();
    }
  }

  /** See `VirtioTransport`. @internal */
  onClose(handler: () => void): () => void {
    return this.#ends.add(handler, "onClose: handler");
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** A queue can have this number. @throws UsageError, ClosedError */
  protected requireQueue(queue: number): void {
    this.requireOpen();
    if (Number.isInteger(queue) && queue >= 0 && queue <= 0xffff) return;
    throw new UsageError(`${this.name}: there is no queue ${shown(queue)}`);
  }

  /** @throws ClosedError */
  protected requireOpen(): void {
    if (this.closed) throw new ClosedError(`virtio transport ${this.name}`);
  }

  /** One queue can be reset alone. @throws UnsupportedError, ClosedError */
  protected requireRingReset(): void {
    this.requireOpen();
    const { RING_RESET } = FEATURE;
    if (meansStandard(this.profile, RING_RESET) && (this.#driverFeatures & RING_RESET) !== 0n) return;
    throw new UnsupportedError(`${this.name}: VIRTIO_F_RING_RESET was not negotiated`, {
      hint: "reset the device",
    });
  }

  /** There is such a field. @throws UsageError, ClosedError */
  protected requireConfig(offset: number, width: AccessWidth): void {
    this.requireOpen();
    const { configSizeBytes } = this;
    if (
      Number.isInteger(offset) && offset >= 0 && offset % width === 0 && offset + width <= configSizeBytes
    ) return;
    throw new UsageError(
      `${this.name}: no ${8 * width}-bit field at offset ${
        shown(offset)
      } of the config space's ${configSizeBytes} bytes`,
    );
  }

  #requireCarried(bits: bigint): void {
    if (bits < 0n || bits > ALL_FEATURES) throw new UsageError(`${this.name}: feature bits above 63`);
    const others = bits & ~this.carried;
    if (others === 0n) return;
    const names = featureNames(others, this.deviceId, this.profile).join(", ");
    throw new UsageError(`${this.name}: no driver can have ${names} by ${this.kind}`, {
      hint: "accept no more than `readDeviceFeatures` gives",
    });
  }
}

function hex(iova: bigint): string {
  return `0x${iova.toString(16)}`;
}
