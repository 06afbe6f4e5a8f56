/**
 * The modern PCI transport over an opened function (SPEC "Virtio Over PCI Bus"; reference 2.1, 2.2).
 *
 * @module
 */
import { type EventFd, sleepBlocking } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, DeviceError, TimeoutError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import { Registers } from "../../registers/registers.ts";
import { ConfigAccess } from "../../vfio/config_access.ts";
import type { Lifeline, VfioDevice } from "../../vfio/device.ts";
import { InterruptSet } from "../../vfio/interrupts.ts";
import { REGION } from "../../vfio/device.ts";
import { DRAFT_FEATURE_BIT, FEATURE, featureNames } from "../constants/features.ts";
import { type CommonRegisterName, NO_VECTOR } from "../constants/pci.ts";
import {
  checkQueueState,
  type QueueState,
  queueStateFromWords,
  queueStateToWords,
} from "../constants/queue_state.ts";
import type { QueueView } from "../constants/queue_view.ts";
import { describeStatus, STATUS } from "../constants/status.ts";
import { quietly, restoreCommand } from "./letting_go.ts";
import { findVirtioLayout, type VirtioPciLayout } from "./pci_layout.ts";
import { BarSet, COMMON_REGISTERS, QueueDoorbell } from "./pci_registers.ts";
import { PciSharedMemory } from "./pci_shared_memory.ts";
import type {
  Doorbell,
  InterruptKind,
  InterruptVector,
  Profile,
  QueueAddresses,
  SharedMemory,
  VirtioTransport,
} from "./transport.ts";

/** How to open. */
export interface PciModernOptions {
  /** Which text gives bits 39–42 their meaning. Default `spec`. */
  readonly profile?: Profile;
  /**
   * Drive a device behind an IOMMU also when it does not offer ACCESS_PLATFORM: for hardware that is known to go through the IOMMU all the same. A
   * device that goes around it reads and writes physical memory that is not its driver's. Default: refuse such a device.
   */
  readonly assumeAccessPlatform?: boolean;
}

/** Features that need a register beyond the first 56 bytes of the common structure. */
const NEEDS_REGISTER: readonly (readonly [bigint, CommonRegisterName])[] = [
  [FEATURE.NOTIF_CONFIG_DATA, "queue_notif_config_data"],
  [FEATURE.RING_RESET, "queue_reset"],
  [FEATURE.ADMIN_VQ, "admin_queue_num"],
];
/** Profile `queue-state` (6.2). */
const QUEUE_STATE = 1n << BigInt(DRAFT_FEATURE_BIT.QUEUE_STATE);
const PATIENT_RESET_MS = 5000;
/** Immediate re-reads while waiting for a register, before sleeping between them. */
const EAGER_READS = 100;

/**
 * A virtio function with the modern interface. The `VfioDevice` stays its owner's; closing the transport stops the virtio device, turns
 * interrupts off and unmaps the registers.
 */
export class PciModernTransport implements VirtioTransport {
  static {
    typedErrors(this);
  }

  /** Address of the function. */
  readonly name: string;
  /** Discriminator. */
  readonly kind = "pci-modern";
  /** Modern. */
  readonly legacy = false;
  /** Meaning of bits 39–42. */
  readonly profile: Profile;
  readonly deviceId: number;
  /** See `VirtioTransport`; read when the function was opened, since it never changes. */
  readonly vfMigrationCapable: boolean;
  /** Kernel VFIO translates by an IOMMU. A vfio-user server is given the memory itself, and its peers know it by these very addresses. */
  readonly needsAccessPlatform: boolean;
  /** Where the structures are. */
  readonly layout: VirtioPciLayout;
  readonly #device: VfioDevice;
  readonly #config: ConfigAccess;
  readonly #bars: BarSet;
  readonly #common: Registers<typeof COMMON_REGISTERS>;
  readonly #interrupts: InterruptSet;
  readonly #commandBefore: number;
  readonly #queueCount: number;
  #driverFeatures = 0n;
  #closed = false;

  private constructor(
    device: VfioDevice,
    layout: VirtioPciLayout,
    options: PciModernOptions,
    config: ConfigAccess,
    commandBefore: number,
  ) {
    this.name = device.name;
    this.profile = options.profile ?? "spec";
    this.needsAccessPlatform = device.dma.mapper.iommu === true && options.assumeAccessPlatform !== true;
    this.deviceId = layout.deviceId;
    this.vfMigrationCapable = layout.sriov?.vfMigrationCapable ?? false;
    this.layout = layout;
    this.#device = device;
    this.#config = config;
    this.#commandBefore = commandBefore;
    this.#interrupts = new InterruptSet(device);
    this.#bars = new BarSet(device);
    this.#common = new Registers(COMMON_REGISTERS, this.#bars.bar(layout.common.bar), layout.common);
    this.#queueCount = this.#common.read("num_queues");
  }

  /**
   * Finds the structures, and turns memory decoding and bus mastering on.
   * @throws UnsupportedError (no virtio function, or legacy only), DeviceError (capabilities that cannot be), ClosedError, and what the device throws
   */
  static open(device: VfioDevice, options: PciModernOptions = {}): PciModernTransport {
    const config = new ConfigAccess(device);
    const layout = findVirtioLayout(
      device.name,
      config.readAll(),
      (bar) => device.regionInfo(REGION.bar0 + bar).sizeBytes,
    );
    const before = config.setCommand({ memory: true, busMaster: true });
    try {
      return new PciModernTransport(device, layout, options, config, before);
    } catch (error) {
      restoreCommand(config, before);
      throw error;
    }
  }

  /** Queues, admin queues not counted (`num_queues`). */
  get queueCount(): number {
    this.#open();
    return this.#queueCount;
  }

  /** `admin_queue_index` and `admin_queue_num`, while ADMIN_VQ is offered and the structure has them. */
  get adminQueues(): { readonly first: number; readonly count: number } {
    this.#open();
    if ((this.readDeviceFeatures() & FEATURE.ADMIN_VQ) === 0n) return { first: 0, count: 0 };
    const count = this.#common.read("admin_queue_num");
    const first = this.#common.read("admin_queue_index");
    if (first < this.#queueCount) {
      throw new DeviceError(`${first} is one of the ${this.#queueCount} other queues (2.2)`, {
        function: this.name,
        field: "admin_queue_index",
      });
    }
    if (count > 0x1_0000 - first) {
      throw new DeviceError(`${count} queues from ${first} on; numbers of queues have 16 bits (2.2)`, {
        function: this.name,
        field: "admin_queue_num",
      });
    }
    return { first, count };
  }

  /** The function's. */
  get lifeline(): Lifeline | undefined {
    return this.#device.lifeline;
  }

  /** The function's DMA memory. */
  get dma(): DmaSpace {
    return this.#device.dma;
  }

  /** True after `close`, here or of the function. */
  get closed(): boolean {
    return this.#closed || this.#device.closed;
  }

  /** As written last. */
  get driverFeatures(): bigint {
    return this.#driverFeatures;
  }

  /**
   * Bits 0–63 as offered, without those whose registers lie past the end of the device's common structure or that its notify structure
   * cannot carry, and without SR_IOV on a function that has no such capability: they cannot be used, and a driver must not fail because they are offered. `unusableFeatures` has them.
   */
  readDeviceFeatures(): bigint {
    this.#open();
    const usable = this.#offered() & ~this.unusableFeatures;
    // device types use bit 41, too.
    const adminless = (usable & FEATURE.ADMIN_VQ) !== 0n && this.#common.read("admin_queue_num") === 0;
    return adminless ? usable & ~FEATURE.ADMIN_VQ : usable;
  }

  /** Bits that must not be negotiated with this function, whether offered or not. */
  get unusableFeatures(): bigint {
    let bits = 0n;
    for (const [feature, register] of NEEDS_REGISTER) {
      if (this.#meansStandard(feature) && !this.#common.has(register)) bits |= feature;
    }
    if (this.profile === "queue-state" && !this.#common.has("queue_used_state")) bits |= QUEUE_STATE;
    if (!this.layout.sriov) bits |= FEATURE.SR_IOV;
    const multiplier = this.layout.notifyOffMultiplier;
    const { offset, lengthBytes } = this.layout.notify;
    // 2.1: the 32-bit doorbell of bit 38 needs room and alignment for 4 bytes.
    if ((multiplier !== 0 && multiplier < 4) || lengthBytes < 4 || offset % 4 !== 0) {
      bits |= FEATURE.NOTIFICATION_DATA;
    }
    return bits;
  }

  /** Writes bits 0–63. @throws UsageError for bits above 63, or in `unusableFeatures` */
  writeDriverFeatures(bits: bigint): void {
    this.#open();
    if (bits < 0n || bits >= 1n << 64n) throw new UsageError(`${this.name}: feature bits above 63`);
    const unusable = bits & this.unusableFeatures;
    if (unusable !== 0n) {
      throw new UsageError(
        `${this.name} has no registers for ${featureNames(unusable, this.deviceId, this.profile).join(", ")}`,
      );
    }
    this.#common.write("driver_feature_select", 0);
    this.#common.write("driver_feature", Number(bits & 0xffff_ffffn));
    this.#common.write("driver_feature_select", 1);
    this.#common.write("driver_feature", Number(bits >> 32n));
    this.#driverFeatures = bits;
  }

  /**
   * The function goes on with a driver that negotiated with another: what it accepted there, without writing it here, where it came with the
   * device's state (device parts). @throws UsageError for bits that this function cannot carry
   */
  adoptDriverFeatures(bits: bigint): void {
    this.#open();
    const unusable = bits & this.unusableFeatures;
    if (unusable !== 0n) {
      throw new UsageError(
        `${this.name} has no registers for ${featureNames(unusable, this.deviceId, this.profile).join(", ")}`,
      );
    }
    this.#driverFeatures = bits;
  }

  /** `device_status`. */
  readStatus(): number {
    this.#open();
    return this.#common.read("device_status");
  }

  /** `device_status`, as it is. */
  writeStatus(status: number): void {
    this.#open();
    this.#common.write("device_status", status);
  }

  /** Writes 0 and reads until it is 0 (2.2). Default `timeoutMs` 5000. */
  reset(timeoutMs: number = PATIENT_RESET_MS): void {
    this.#open();
    this.#common.write("device_status", 0);
    this.#driverFeatures = 0n;
    const last = this.#readUntil("device_status", 0, timeoutMs);
    if (last === 0) return;
    throw new TimeoutError(
      `${this.name}: reset not finished after ${timeoutMs} ms; device_status reads ${describeStatus(last)}`,
      {
        hint: "reset the function itself (VfioDevice.reset), then open the transport again",
      },
    );
  }

  /** Bytes of the device-specific structure; 0 when there is none. */
  get configSizeBytes(): number {
    return this.layout.device?.lengthBytes ?? 0;
  }

  /** `config_generation`. */
  configGeneration(): number {
    this.#open();
    return this.#common.read("config_generation");
  }

  /** One access of that width. */
  readConfig(offset: number, width: 1 | 2 | 4): number {
    const [bar, at] = this.#configPlace(offset, width);
    return this.#bars.bar(bar).read(at, width);
  }

  /** One access of that width. */
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    const [bar, at] = this.#configPlace(offset, width);
    this.#bars.bar(bar).write(at, width, value);
  }

  /** `queue_size` as it reads before the queue is enabled; admin queues may be asked for, too. */
  queueMaxSize(queue: number): number {
    this.#select(queue);
    return this.#common.read("queue_size");
  }

  /** Size, addresses, enable; size and enable are read back. */
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.#select(queue);
    if (this.#common.read("queue_enable") !== 0) {
      throw this.#error(
        queue,
        "queue_enable",
        "the queue is enabled already; it takes a reset to set it up again",
      );
    }
    this.#common.write("queue_size", addresses.size);
    const size = this.#common.read("queue_size");
    if (size !== addresses.size) {
      throw this.#error(queue, "queue_size", `${addresses.size} was written, ${size} reads back`);
    }
    this.#common.write64("queue_desc", addresses.descriptorArea);
    this.#common.write64("queue_driver", addresses.driverArea);
    this.#common.write64("queue_device", addresses.deviceArea);
    this.#common.write("queue_enable", 1);
    const enabled = this.#common.read("queue_enable");
    if (enabled !== 1) throw this.#error(queue, "queue_enable", `1 was written, ${enabled} reads back`);
  }

  /** `queue_enable`. */
  queueEnabled(queue: number): boolean {
    this.#select(queue);
    return this.#common.read("queue_enable") === 1;
  }

  /** The registers of a queue as they stand, for people who look at them. */
  queueView(queue: number): QueueView {
    this.#select(queue);
    const vector = this.#common.read("queue_msix_vector");
    const area = (name: "queue_desc" | "queue_driver" | "queue_device") =>
      `0x${this.#common.read64(name).toString(16)}`;
    return {
      queue,
      size: this.#common.read("queue_size"),
      enabled: this.#common.read("queue_enable") === 1,
      vector: vector === NO_VECTOR ? null : vector,
      descriptorArea: area("queue_desc"),
      driverArea: area("queue_driver"),
      deviceArea: area("queue_device"),
    };
  }

  /** Writes `queue_reset`, waits, and checks that the queue is disabled (1.5). Default `timeoutMs` 5000. */
  resetQueue(queue: number, timeoutMs: number = PATIENT_RESET_MS): void {
    this.#open();
    if (!this.#meansStandard(FEATURE.RING_RESET) || (this.#driverFeatures & FEATURE.RING_RESET) === 0n) {
      throw new UnsupportedError(`${this.name}: VIRTIO_F_RING_RESET was not negotiated`, {
        hint: "reset the device",
      });
    }
    this.#select(queue);
    this.#common.write("queue_reset", 1);
    if (this.#readUntil("queue_reset", 0, timeoutMs) !== 0) {
      throw new TimeoutError(`${this.name}, queue ${queue}: queue_reset not finished after ${timeoutMs} ms`, {
        hint: "reset the device",
      });
    }
    if (this.#common.read("queue_enable") !== 0) {
      throw this.#error(queue, "queue_enable", "still set after queue_reset");
    }
  }

  /** `queue_avail_state`, and for a packed queue `queue_used_state`. */
  readQueueState(queue: number, layout: "split" | "packed", size: number): QueueState {
    this.#open();
    this.#requireQueueState((this.readDeviceFeatures() & QUEUE_STATE) !== 0n, "is not offered");
    const status = this.readStatus();
    if (status !== 0) {
      throw new UsageError(
        `${this.name}, queue ${queue}: state read while device_status is ${describeStatus(status)} (N-6.2)`,
        { hint: "reset the device first" },
      );
    }
    this.#select(queue);
    const available = this.#common.read("queue_avail_state");
    const used = layout === "packed" ? this.#common.read("queue_used_state") : 0;
    try {
      return queueStateFromWords(layout, size, { available, used });
    } catch (error) {
      const field = layout === "packed" && (available & 0x7fff) < size
        ? "queue_used_state"
        : "queue_avail_state";
      throw this.#error(queue, field, `${(error as Error).message} (A-6.6)`);
    }
  }

  /** `queue_avail_state`, and for a packed queue `queue_used_state`. */
  writeQueueState(queue: number, state: QueueState, size: number): void {
    this.#open();
    this.#requireQueueState((this.#driverFeatures & QUEUE_STATE) !== 0n, "was not negotiated");
    const checked = checkQueueState(state, size);
    const status = this.readStatus();
    if ((status & STATUS.featuresOk) === 0 || (status & STATUS.driverOk) !== 0) {
      throw new UsageError(
        `${this.name}, queue ${queue}: state written while device_status is ${
          describeStatus(status)
        } (N-6.1)`,
        { hint: "write it after FEATURES_OK and before DRIVER_OK" },
      );
    }
    this.#select(queue);
    if (this.#common.read("queue_enable") !== 0) {
      throw new UsageError(`${this.name}, queue ${queue}: state written after queue_enable (A-6.5)`);
    }
    const words = queueStateToWords(checked);
    this.#common.write("queue_avail_state", words.available);
    if (checked.layout === "packed") this.#common.write("queue_used_state", words.used);
  }

  #requireQueueState(there: boolean, otherwise: string): void {
    if (this.profile === "queue-state" && there) return;
    const why = this.profile === "queue-state"
      ? `VIRTIO_F_QUEUE_STATE ${otherwise}`
      : `profile "${this.profile}" has no queue state; bit 40 is another feature there (A-6.1)`;
    throw new UnsupportedError(`${this.name}: ${why}`, { hint: 'open it with profile "queue-state"' });
  }

  /** Looks the queue's doorbell up. @throws DeviceError when `queue_notify_off` leads outside the notify structure */
  doorbell(queue: number): Doorbell {
    this.#select(queue);
    const withData = (this.#driverFeatures & FEATURE.NOTIFICATION_DATA) !== 0n;
    const ownIdentifier = this.#meansStandard(FEATURE.NOTIF_CONFIG_DATA) &&
      (this.#driverFeatures & FEATURE.NOTIF_CONFIG_DATA) !== 0n;
    const width = withData ? 4 : 2;
    const notifyOff = this.#common.read("queue_notify_off");
    const { bar, offset, lengthBytes } = this.layout.notify;
    const at = notifyOff * this.layout.notifyOffMultiplier;
    if (at + width > lengthBytes) {
      throw this.#error(
        queue,
        "queue_notify_off",
        `${notifyOff} × ${this.layout.notifyOffMultiplier} + ${width} is past the notify structure's ${lengthBytes} bytes`,
      );
    }
    const identifier = ownIdentifier ? this.#common.read("queue_notif_config_data") : queue;
    const register = this.#bars.bar(bar).doorbell(offset + at, width);
    return new QueueDoorbell(register, identifier, withData, this);
  }

  /** Vectors of a kind. */
  interruptCount(kind: InterruptKind): number {
    this.#open();
    return kind === "none" ? 0 : this.#interrupts.available(kind);
  }

  /** Eventfds by vector; they are closed by `disableInterrupts`. */
  enableInterrupts(kind: InterruptKind, count: number, given?: readonly EventFd[]): InterruptVector[] {
    if (kind === "none" || this.closed) { for (const one of given ?? []) one.close(); }
    this.#open();
    if (kind === "none") return [];
    const eventFds = this.#interrupts.enable(kind, count, given);
    return eventFds.map((eventFd) => ({
      eventFd,
      acknowledge: kind === "intx" ? () => this.#acknowledgeIntx() : () => 3,
    }));
  }

  /** Turns them off and closes their eventfds. */
  disableInterrupts(): void {
    this.#open();
    this.#interrupts.disable();
  }

  /** `config_msix_vector`, read back. */
  setConfigVector(vector: number | null): void {
    this.#open();
    this.#common.write("config_msix_vector", vectorValue(vector));
    this.#checkVector(this.#common.read("config_msix_vector"), vector, { field: "config_msix_vector" });
  }

  /** `queue_msix_vector`, read back. */
  setQueueVector(queue: number, vector: number | null): void {
    this.#select(queue);
    this.#common.write("queue_msix_vector", vectorValue(vector));
    this.#checkVector(this.#common.read("queue_msix_vector"), vector, { queue, field: "queue_msix_vector" });
  }

  /** The ISR byte; reading clears it and lowers INTx. */
  readInterruptStatus(): number {
    this.#open();
    const { bar, offset } = this.layout.isr;
    return this.#bars.bar(bar).read8(offset);
  }

  /** A shared memory region of the function; its mappings are closed with the function. */
  sharedMemory(id: number): SharedMemory | undefined {
    this.#open();
    const place = this.layout.sharedMemory.get(id);
    return place === undefined ? undefined : new PciSharedMemory(this.#device, this.#bars, place, id);
  }

  /** Resets the virtio device (without waiting), turns interrupts off, puts the Command register back, unmaps the registers. */
  close(): void {
    if (this.#closed) return;
    const gone = this.#device.closed;
    this.#closed = true;
    const stopped = !gone && quietly(() => this.#common.write("device_status", 0));
    // Its eventfds are closed whatever the answer.
    quietly(() => this.#interrupts.disable());
    if (!gone) quietly(() => restoreCommand(this.#config, this.#commandBefore, stopped));
    this.#bars.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #offered(): bigint {
    this.#common.write("device_feature_select", 0);
    const low = this.#common.read("device_feature");
    this.#common.write("device_feature_select", 1);
    const high = this.#common.read("device_feature");
    return (BigInt(high) << 32n) | BigInt(low);
  }

  /** False for a bit that this profile's draft gave another meaning (0.3). */
  #meansStandard(feature: bigint): boolean {
    if (this.profile === "queue-state") return feature !== FEATURE.RING_RESET;
    if (this.profile === "mmio-msi-v2") {
      return feature !== FEATURE.RING_RESET && feature !== FEATURE.NOTIF_CONFIG_DATA;
    }
    return true;
  }

  /** Reading the ISR lowers the line; then it may fire again. */
  #acknowledgeIntx(): number {
    const isr = this.readInterruptStatus();
    this.#interrupts.rearm();
    return isr;
  }

  #readUntil(register: CommonRegisterName, wanted: number, timeoutMs: number): number {
    const deadline = performance.now() + timeoutMs;
    for (let reads = 1;; reads++) {
      const value = this.#common.read(register);
      if (value === wanted || performance.now() >= deadline) return value;
      if (reads > EAGER_READS) sleepBlocking(1);
    }
  }

  #select(queue: number): void {
    this.#open();
    if (!Number.isInteger(queue) || queue < 0 || queue > 0xffff) {
      throw new UsageError(`${this.name}: there is no queue ${queue}`);
    }
    this.#common.write("queue_select", queue);
  }

  #configPlace(offset: number, width: 1 | 2 | 4): [bar: number, offset: number] {
    this.#open();
    const place = this.layout.device;
    if (
      place === undefined || !Number.isInteger(offset) || offset < 0 || offset % width !== 0 ||
      offset + width > place.lengthBytes
    ) {
      throw new UsageError(
        `${this.name}: no ${
          8 * width
        }-bit field at offset ${offset} of the config space's ${this.configSizeBytes} bytes`,
      );
    }
    return [place.bar, place.offset + offset];
  }

  #checkVector(readBack: number, vector: number | null, where: { queue?: number; field: string }): void {
    if (readBack === vectorValue(vector)) return;
    const got = readBack === NO_VECTOR ? "the device refuses it" : `${readBack} reads back`;
    throw new DeviceError(`vector ${vector} was written, ${got}`, { function: this.name, ...where }, {
      hint: "ask for fewer vectors, or poll",
    });
  }

  #error(queue: number, field: string, message: string): DeviceError {
    return new DeviceError(message, { function: this.name, queue, field });
  }

  #open(): void {
    if (this.closed) throw new ClosedError(`virtio transport ${this.name}`);
  }
}

function vectorValue(vector: number | null): number {
  if (vector === null) return NO_VECTOR;
  if (!Number.isInteger(vector) || vector < 0 || vector > 2047) {
    throw new UsageError(`there is no MSI-X vector ${vector}`);
  }
  return vector;
}
