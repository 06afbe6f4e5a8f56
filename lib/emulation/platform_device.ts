/**
 * A platform device of the emulated machine: a window of registers, an interrupt line, and messages, served to one VFIO user at a time.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import {
  DEVICE_FLAG,
  IRQ_FLAG,
  type IrqInfo,
  PLATFORM_IRQ,
  REGION_FLAG,
  type RegionInfo,
  type VfioDeviceInfo,
} from "../vfio/device.ts";
import type { ServedIrqRequest, ServedRegion } from "../sockets/vfio_user/server/served_device.ts";
import { type DeviceInterrupts, type DeviceSurroundings, EmulatedDevice } from "./emulated_device.ts";
import { LineInterrupt } from "./line_interrupt.ts";
import type { PlatformBehaviour, PlatformPort } from "./platform_behaviour.ts";
import { closeEventFds, requestEnd, VectorEventFds } from "./vector_eventfds.ts";

/** Region of the registers. */
const WINDOW = 0;

/**
 * Interrupts of a platform device. A line as kernel VFIO has it; and messages, which kernel VFIO has not, as vectors of an index of their own.
 */
export class PlatformInterrupts implements DeviceInterrupts {
  readonly line: LineInterrupt;
  readonly #messages: VectorEventFds;

  /** Off. @param messages how many there are */
  constructor(messages: number, onResampleChange: DeviceSurroundings["resampleChanged"]) {
    this.line = new LineInterrupt(onResampleChange);
    this.#messages = new VectorEventFds(messages, "messages");
  }

  get signals(): ArrayLike<number> {
    return this.#messages.signals;
  }

  info(index: number): IrqInfo {
    if (index === PLATFORM_IRQ.line) return this.line.info(index);
    const { count } = this.#messages;
    return index === PLATFORM_IRQ.messages && count > 0
      ? { index, flags: IRQ_FLAG.eventfd, count }
      : { index, flags: 0, count: 0 };
  }

  set(index: number, request: ServedIrqRequest): void {
    const end = requestEnd(request);
    if (end > this.info(index).count) {
      closeEventFds(request);
      throw new UsageError(`interrupt index ${index} has no vector ${end - 1}`);
    }
    if (index === PLATFORM_IRQ.line) this.line.set(request);
    else this.#messages.set(request);
  }

  /** A message reached the interrupt controller. */
  raise(vector: number): void {
    this.#messages.signal(vector);
  }

  detach(): void {
    this.line.detach();
    this.#messages.detach();
  }
}

/** How a platform device is made. */
export interface PlatformDeviceOptions {
  /** Full address: `a003e00.virtio_mmio`. */
  readonly address: string;
  /** What stands behind its registers. Owned from now on. */
  readonly behaviour: PlatformBehaviour;
  /** Where its registers are on the platform. */
  readonly windowAddress: bigint;
}

/** The device. Its registers answer whenever a user is there: nothing turns a platform device's decoding off. */
export class EmulatedPlatformDevice extends EmulatedDevice<PlatformBehaviour> implements PlatformPort {
  static {
    typedErrors(this);
  }

  readonly info: VfioDeviceInfo;
  readonly interrupts: PlatformInterrupts;
  readonly windowAddress: bigint;

  /** Builds the device and connects its behaviour. */
  constructor({ address, behaviour, windowAddress }: PlatformDeviceOptions, around: DeviceSurroundings) {
    super(address, behaviour, around);
    this.windowAddress = windowAddress;
    const { messages } = behaviour;
    this.info = {
      flags: DEVICE_FLAG.reset | DEVICE_FLAG.platform,
      numRegions: WINDOW + 1,
      numIrqs: (messages > 0 ? PLATFORM_IRQ.messages : PLATFORM_IRQ.line) + 1,
    };
    this.interrupts = new PlatformInterrupts(
      messages,
      (before, now) => around.resampleChanged(before, now),
    );
    using opened = new DisposableStack();
    opened.defer(() => behaviour.close());
    behaviour.connect(this);
    opened.move();
  }

  setLine(asserted: boolean): void {
    this.interrupts.line.setLevel(asserted);
  }

  raiseMessage(vector: number): void {
    this.interrupts.raise(vector);
  }

  /** `vfio_region_info`. It cannot be mapped: what a write does is the device's to say. */
  region(index: number): ServedRegion {
    const none: RegionInfo = { index, flags: 0, sizeBytes: 0, mmapAreas: [], msixMappable: false };
    if (!this.hasRegisters(index)) return none;
    const { windowBytes: sizeBytes } = this.behaviour;
    return { ...none, flags: REGION_FLAG.read | REGION_FLAG.write, sizeBytes };
  }

  /** A user's read. */
  readRegion(_index: number, offset: number, into: Uint8Array): void {
    this.behaviour.readWindow(offset, into);
  }

  /** A user's write. */
  writeRegion(_index: number, offset: number, from: Uint8Array): void {
    this.behaviour.writeWindow(offset, from);
  }

  /** The device forgets its driver; eventfds stay, as with the kernel. */
  reset(): void {
    this.behaviour.reset("device");
    this.interrupts.line.reset();
  }

  /** As `reset`: a platform device has one reset only. */
  resetByHost(): void {
    this.reset();
  }

  /** Nothing is to be enabled before a driver of the host's kernel can use it. */
  setHostDriver(_active: boolean): void {}

  /** vfio-platform has no interrupt that asks a user to let go. */
  requestRelease(): void {}

  protected override hasRegisters(index: number): boolean {
    return index === WINDOW;
  }

  protected override checkAnswers(): void {}
  protected override opened(): void {}
  protected override powerOn(): void {}
}
