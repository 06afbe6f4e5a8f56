/**
 * What transports over registers do alike, whatever carries the registers and wherever the table has them: status and reset with waiting,
 * features, config space, the selected queue, interrupts, and being closed.
 *
 * @module
 */
import { type EventFd, sleepBlocking } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, DeviceError, TimeoutError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import type { AccessWidth, RegisterDeclaration, RegisterTable } from "../../registers/declaration.ts";
import type { Registers, RegisterSpace } from "../../registers/registers.ts";
import { EndHandlers } from "../../wait/end_handlers.ts";
import type { InterruptVector } from "../../wait/interrupt_vector.ts";
import type { Lifeline } from "../../wait/lifeline.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import type { InterruptSet } from "../../vfio/interrupts.ts";
import { meansStandard } from "../features.ts";
import { FEATURE, featureNames } from "../spec/features.ts";
import type { QueueView } from "../view/queue_view.ts";
import { describeStatus } from "../spec/status.ts";
import { quietly } from "./letting_go.ts";
import type { Doorbell, InterruptKind, Profile, QueueAddresses, VirtioTransport } from "./transport.ts";

/** How long a reset may take, of the device or of a queue. */
export const PATIENT_RESET_MS = 5000;
/** Queues that are looked for at most where nothing says how many there are. */
const QUEUES_LOOKED_FOR = 1024;
const ALL_FEATURES = (1n << 64n) - 1n;

/** Registers that every table has under these names; a table of another text names its own as `name`. */
export type CoreRegister = "device_status" | "queue_select";

/** What a transport is made of. */
export interface RegisterTransportParts<T extends RegisterTable> {
  /** What is driven; stays its owner's. */
  readonly device: Pick<VfioDevice, "name" | "dma" | "closed" | "lifeline">;
  /** Bound to whatever carries them. */
  readonly registers: Registers<T>;
  /** Its interrupts. */
  readonly interrupts: Pick<InterruptSet, "available" | "enable" | "disable" | "rearm" | "kind">;
  /** Virtio device id. */
  readonly deviceId: number;
  /** Default `spec`. */
  readonly profile?: Profile | undefined;
}

/** A transport as a table of registers; what is peculiar to one is in its subclass. */
export abstract class RegisterTransport<T extends RegisterTable & Record<CoreRegister, RegisterDeclaration>>
  implements VirtioTransport {
  static {
    typedErrors(this);
  }

  abstract readonly kind: VirtioTransport["kind"];
  abstract readonly legacy: boolean;
  /** Function or path. */
  readonly name: string;
  /** Virtio device id. */
  readonly deviceId: number;
  /** Meaning of bits 39–42. */
  readonly profile: Profile;
  /** By name. */
  protected readonly registers: Registers<T>;
  /** Its own. */
  protected readonly interrupts: RegisterTransportParts<T>["interrupts"];
  /** Reads of a register that is waited for before the first sleep. */
  protected readonly eagerReads: number = 100;
  readonly #device: RegisterTransportParts<T>["device"];
  #driverFeatures = 0n;
  readonly #ends = new EndHandlers();
  #queueCount: number | undefined;
  #closed = false;

  /** Touches no register. */
  protected constructor({ device, registers, interrupts, deviceId, profile }: RegisterTransportParts<T>) {
    this.name = device.name;
    this.deviceId = deviceId;
    this.profile = profile ?? "spec";
    this.registers = registers;
    this.interrupts = interrupts;
    this.#device = device;
  }

  abstract readonly queueCount: number;
  abstract readonly configSizeBytes: number;
  abstract readDeviceFeatures(): bigint;
  abstract configGeneration(): number;
  abstract queueMaxSize(queue: number): number;
  abstract enableQueue(queue: number, addresses: QueueAddresses): void;
  abstract queueEnabled(queue: number): boolean;
  abstract doorbell(queue: number): Doorbell;
  abstract readInterruptStatus(): number;
  abstract setConfigVector(vector: number | null): void;
  abstract setQueueVector(queue: number, vector: number | null): void;

  /** Feature bits that it can carry, of 64. */
  protected abstract readonly carried: bigint;
  /** Size and areas of the selected queue as they stand. */
  protected abstract queueAreas(queue: number): QueueAddresses;
  /** Writes the driver's features into their registers. */
  protected abstract putDriverFeatures(bits: bigint): void;
  /** The config space, from its own offset 0 on. Asked for only where it has bytes. */
  protected abstract get configSpace(): RegisterSpace;
  /** Lets go of what carries the registers. @param stopped the device has taken its reset; undefined when it is gone */
  protected abstract release(stopped: boolean | undefined): void;

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

  /**
   * The device goes on with a driver that negotiated with another: what it accepted there, without writing it here, where it came with the
   * device's state (device parts). @throws UsageError for bits that cannot be carried
   */
  adoptDriverFeatures(bits: bigint): void {
    this.requireOpen();
    this.#requireCarried(bits);
    this.#driverFeatures = bits;
  }

  /** `device_status`. */
  readStatus(): number {
    return this.get("device_status");
  }

  /** `device_status`, as it is. */
  writeStatus(status: number): void {
    this.put("device_status", status);
  }

  /** Writes 0 and reads until it is 0, which most devices give at once. Default `timeoutMs` 5000. */
  reset(timeoutMs: number = PATIENT_RESET_MS): void {
    this.put("device_status", 0);
    this.#driverFeatures = 0n;
    this.#queueCount = undefined;
    const last = this.readUntil(() => this.registers.read("device_status"), 0, timeoutMs);
    if (last === 0) return;
    throw new TimeoutError(
      `${this.name}: reset not finished after ${timeoutMs} ms; device_status reads ${describeStatus(last)}`,
      { hint: "reset the function itself (VfioDevice.reset), then open the transport again" },
    );
  }

  /** One access of that width. */
  readConfig(offset: number, width: AccessWidth): number {
    this.#requireConfig(offset, width);
    return this.configSpace.read(offset, width);
  }

  /** One access of that width. */
  writeConfig(offset: number, width: AccessWidth, value: number): void {
    this.#requireConfig(offset, width);
    this.configSpace.write(offset, width, value);
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

  /** Vectors of a kind. */
  interruptCount(kind: InterruptKind): number {
    this.requireOpen();
    return kind === "none" ? 0 : this.interrupts.available(kind);
  }

  /** Eventfds by vector; they are closed by `disableInterrupts`. */
  enableInterrupts(kind: InterruptKind, count: number, given?: readonly EventFd[]): InterruptVector[] {
    if (kind === "none" || this.closed) { for (const one of given ?? []) one.close(); }
    this.requireOpen();
    if (kind === "none") return [];
    const acknowledge = () => this.interrupts.kind === "intx" ? this.#acknowledgeLine() : 3;
    return this.interrupts.enable(kind, count, given).map((eventFd) => ({ eventFd, acknowledge }));
  }

  /** Turns them off and closes their eventfds. */
  disableInterrupts(): void {
    this.requireOpen();
    this.interrupts.disable();
  }

  /** Resets the virtio device (without waiting), turns interrupts off, and lets go of what carries the registers. */
  close(): void {
    if (this.#closed) return;
    const gone = this.#device.closed;
    this.#closed = true;
    const stopped = gone ? undefined : quietly(() => this.registers.write("device_status", 0));
    // Its eventfds are closed whatever the answer.
    quietly(() => this.interrupts.disable());
    try {
      this.release(stopped);
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

  /** Reads a register. @throws ClosedError */
  protected get(name: keyof T & string): number {
    this.requireOpen();
    return this.registers.read(name);
  }

  /** Writes a register. @throws ClosedError */
  protected put(name: keyof T & string, value: number): void {
    this.requireOpen();
    this.registers.write(name, value);
  }

  /** Chooses the queue that the queue registers are about. @throws UsageError, ClosedError */
  protected select(queue: number): void {
    this.requireQueue(queue);
    this.registers.write("queue_select", queue);
  }

  /** Reads a register until it has this value. @returns what it read last */
  protected readUntil(read: () => number, wanted: number, timeoutMs: number): number {
    const deadline = performance.now() + timeoutMs;
    for (let reads = 1;; reads++) {
      const value = read();
      if (value === wanted || performance.now() >= deadline) return value;
      if (reads > this.eagerReads) sleepBlocking(1);
    }
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

  /** Vector of the selected queue; null for none. */
  protected queueVector(_queue: number): number | null {
    return null;
  }

  /** Queues from 0 up to the first of size 0, where no register says how many there are. Counted at the first call after a reset; not more than 1024 are looked for. */
  protected countQueues(): number {
    this.requireOpen();
    let count = this.#queueCount;
    if (count === undefined) {
      for (count = 0; count < QUEUES_LOOKED_FOR && this.queueMaxSize(count) > 0;) count++;
      this.#queueCount = count;
    }
    return count;
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

  /** That the device contradicts itself in a register of a queue. */
  protected error(queue: number, field: keyof T & string, message: string): DeviceError {
    return new DeviceError(message, {
      function: this.name,
      queue,
      field: this.registers.table[field]!.name ?? field,
    });
  }

  /** Reading the ISR lowers the line; then it may fire again. */
  #acknowledgeLine(): number {
    const isr = this.readInterruptStatus();
    this.interrupts.rearm();
    return isr;
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

  #requireConfig(offset: number, width: AccessWidth): void {
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
}

function hex(iova: bigint): string {
  return `0x${iova.toString(16)}`;
}
