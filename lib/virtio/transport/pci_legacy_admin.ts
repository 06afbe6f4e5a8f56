/**
 * The legacy interface of a VF, reached by commands to the PF that owns it (SPEC "Group administration commands / Legacy Interface"; reference 2.3, 3).
 *
 * Registers travel as commands; rings, interrupts and notifications do not: DMA memory and MSI-X are the VF's own, and a notification is a
 * write into a BAR where the device gives an address for it.
 *
 * @module
 */
import { type EventFd, sleepBlocking } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, DeviceError, TimeoutError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import { ConfigSpace } from "../../pci/mod.ts";
import { ConfigAccess } from "../../vfio/config_access.ts";
import type { Lifeline, VfioDevice } from "../../vfio/device.ts";
import { InterruptSet } from "../../vfio/interrupts.ts";
import type { LegacyNotifyArea, LegacyRegisterAccess } from "../admin/legacy_access.ts";
import {
  LEGACY_CFG,
  LEGACY_RING_ALIGN,
  type LegacyRegisterName,
  legacyRingLayout,
} from "../constants/legacy.ts";
import { featureNames } from "../constants/features.ts";
import { NO_VECTOR } from "../constants/pci.ts";
import { describeStatus } from "../constants/status.ts";
import type { QueueView } from "../constants/queue_view.ts";
import { quietly, restoreCommand } from "./letting_go.ts";
import { legacyConfigBytes } from "./legacy_config.ts";
import { LegacyNotify } from "./legacy_notify.ts";
import { virtioDeviceId } from "./pci_layout.ts";
import type {
  Doorbell,
  InterruptKind,
  InterruptVector,
  QueueAddresses,
  SharedMemory,
  VirtioTransport,
} from "./transport.ts";

/** How to open. */
export interface LegacyAdminOptions {
  /** The function that owns the VF's group (PF), opened, with memory decoding on: then notify addresses in its BARs can be used, too. */
  readonly owner?: VfioDevice;
}

const PATIENT_RESET_MS = 5000;
/** Each read is a command, so fewer of them than on registers come before the first sleep. */
const EAGER_READS = 10;
/** `queue_pfn` has 32 bits and counts pages of 4096 bytes. */
const PFN_LIMIT = 1n << 44n;
/** Queues that are looked for at most: nothing but a size of 0 says where they end. */
const QUEUES_LOOKED_FOR = 1024;
const LOW_32 = 0xffff_ffffn;

/**
 * A VF driven as a legacy device. `VfioDevice`, register access and owner stay their owners'; closing the transport stops the virtio device, turns
 * interrupts off and unmaps what it mapped. One at a time may drive a VF's registers: `queue_select` is shared by all who do.
 */
export class LegacyAdminTransport implements VirtioTransport {
  static {
    typedErrors(this);
  }

  /** Address of the VF. */
  readonly name: string;
  /** Discriminator. */
  readonly kind = "pci-legacy-admin";
  /** Bits above 31 are not there, whatever a text makes of them. */
  readonly profile = "spec";
  /** Legacy. */
  readonly legacy = true;
  readonly deviceId: number;
  /** None: a VF is owned. */
  readonly adminQueues: { readonly first: number; readonly count: number } = { first: 0, count: 0 };
  readonly #device: VfioDevice;
  readonly #registers: LegacyRegisterAccess;
  readonly #config: ConfigAccess;
  readonly #notify: LegacyNotify;
  readonly #interrupts: InterruptSet;
  readonly #commandBefore: number;
  #queueCount: number | undefined;
  #driverFeatures = 0n;
  /** The vector registers are there while MSI-X is on. */
  #msix = false;
  /** Bus mastering is off since a reset failed. */
  #keptFromDma = false;
  #closed = false;

  private constructor(
    device: VfioDevice,
    registers: LegacyRegisterAccess,
    deviceId: number,
    owner: VfioDevice | undefined,
    config: ConfigAccess,
    commandBefore: number,
  ) {
    this.name = device.name;
    this.deviceId = deviceId;
    this.#device = device;
    this.#registers = registers;
    this.#config = config;
    this.#commandBefore = commandBefore;
    this.#interrupts = new InterruptSet(device);
    this.#notify = new LegacyNotify(registers, { member: device, ...(owner === undefined ? {} : { owner }) });
  }

  /**
   * Turns memory decoding and bus mastering on; no command is issued.
   * @param device the VF @param registers its legacy registers
   * @throws UnsupportedError (no virtio function), ClosedError, and what the device throws
   */
  static open(
    device: VfioDevice,
    registers: LegacyRegisterAccess,
    options: LegacyAdminOptions = {},
  ): LegacyAdminTransport {
    const config = new ConfigAccess(device);
    const deviceId = virtioDeviceId(device.name, new ConfigSpace(config.readAll()));
    const before = config.setCommand({ memory: true, busMaster: true });
    return new LegacyAdminTransport(device, registers, deviceId, options.owner, config, before);
  }

  /**
   * Queues from 0 up to the first whose `queue_size` is 0: there is no register for their number. Counted at the first call, two commands a queue;
   * not more than 1024 are looked for.
   */
  get queueCount(): number {
    this.#open();
    let count = this.#queueCount;
    if (count === undefined) {
      for (count = 0; count < QUEUES_LOOKED_FOR && this.queueMaxSize(count) > 0;) count++;
      this.#queueCount = count;
    }
    return count;
  }

  /** The function's. */
  get lifeline(): Lifeline | undefined {
    return this.#device.lifeline;
  }

  /** The VF's DMA memory. */
  get dma(): DmaSpace {
    return this.#device.dma;
  }

  /** True after `close`, here or of the VF. */
  get closed(): boolean {
    return this.#closed || this.#device.closed;
  }

  /** As written last. */
  get driverFeatures(): bigint {
    return this.#driverFeatures;
  }

  /** Bits 0–31. */
  readDeviceFeatures(): bigint {
    return BigInt(this.#read("device_features"));
  }

  /** Writes bits 0–31. @throws UsageError for bits above 31, which the legacy interface cannot carry */
  writeDriverFeatures(bits: bigint): void {
    this.#open();
    const above = bits & ~LOW_32;
    if (bits < 0n || above !== 0n) {
      const names = featureNames(above & ((1n << 64n) - 1n), this.deviceId, this.profile);
      throw new UsageError(
        `${this.name}: the legacy interface has 32 feature bits, not ${names.join(", ")}`,
        {
          hint: "leave out what is above bit 31",
        },
      );
    }
    this.#write("driver_features", Number(bits));
    this.#driverFeatures = bits;
  }

  /** `device_status`. */
  readStatus(): number {
    return this.#read("device_status");
  }

  /** `device_status`, as it is. */
  writeStatus(status: number): void {
    this.#write("device_status", status);
  }

  /**
   * Writes 0 and reads until it is 0, which most devices give at once. Default `timeoutMs` 5000. When that fails the VF is kept from DMA until a
   * reset succeeds: its own configuration space is there also while its owner is out of reach.
   */
  reset(timeoutMs: number = PATIENT_RESET_MS): void {
    this.#open();
    try {
      this.#resetByCommands(timeoutMs);
    } catch (error) {
      quietly(() => this.#config.setCommand({ busMaster: false }));
      this.#keptFromDma = true;
      throw error;
    }
    if (!this.#keptFromDma) return;
    this.#config.setCommand({ busMaster: true });
    this.#keptFromDma = false;
  }

  #resetByCommands(timeoutMs: number): void {
    this.#write("device_status", 0);
    this.#driverFeatures = 0n;
    const deadline = performance.now() + timeoutMs;
    for (let reads = 1;; reads++) {
      const status = this.#read("device_status");
      if (status === 0) return;
      if (performance.now() >= deadline) {
        throw new TimeoutError(
          `${this.name}: reset not finished after ${timeoutMs} ms; device_status reads ${
            describeStatus(status)
          }`,
          { hint: "reset the function itself (VfioDevice.reset), then open the transport again" },
        );
      }
      if (reads > EAGER_READS) sleepBlocking(1);
    }
  }

  /** By the device type, for no register says it; a device may have less (`legacyConfigBytes`). */
  get configSizeBytes(): number {
    return legacyConfigBytes(this.deviceId);
  }

  /** 0: the legacy interface has none. `VirtioDevice.readConsistent` reads until two readings are alike instead. */
  configGeneration(): number {
    this.#open();
    return 0;
  }

  /** One command. */
  readConfig(offset: number, width: 1 | 2 | 4): number {
    this.#checkConfig(offset, width);
    return this.#registers.readDevice(offset, width);
  }

  /** One command. */
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#checkConfig(offset, width);
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) {
      throw new UsageError(`${value} does not fit a register of ${8 * width} bits`);
    }
    this.#registers.writeDevice(offset, width, value);
  }

  /** `queue_size`: the size that the queue has, for it cannot be negotiated. */
  queueMaxSize(queue: number): number {
    this.#select(queue);
    return this.#read("queue_size");
  }

  /**
   * Writes `queue_pfn` and reads it back. The areas must lie as `legacyRingLayout` has them.
   * @throws UsageError (another size or layout; a ring at 2^44 or above, which the register cannot name), DeviceError
   */
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.#select(queue);
    const pfn = this.#pageOf(queue, addresses);
    const size = this.#read("queue_size");
    if (size !== addresses.size) {
      throw new UsageError(
        `${this.name}, queue ${queue}: a ring of ${addresses.size}, queue_size is ${size}`,
        {
          hint: "a legacy queue has the size that the device says",
        },
      );
    }
    const before = this.#read("queue_pfn");
    if (before !== 0) {
      throw this.#error(
        queue,
        "queue_pfn",
        "the queue is set up already; it takes a reset to set it up again",
      );
    }
    this.#write("queue_pfn", pfn);
    const kept = this.#read("queue_pfn");
    if (kept !== pfn) {
      throw this.#error(
        queue,
        "queue_pfn",
        `0x${pfn.toString(16)} was written, 0x${kept.toString(16)} reads back`,
      );
    }
  }

  /** `queue_pfn` is not 0. */
  queueEnabled(queue: number): boolean {
    this.#select(queue);
    return this.#read("queue_pfn") !== 0;
  }

  /** The registers of a queue as they stand, for people who look at them. */
  queueView(queue: number): QueueView {
    this.#select(queue);
    const size = this.#read("queue_size");
    const pfn = this.#read("queue_pfn");
    const vector = this.#msix ? this.#read("queue_msix_vector") : NO_VECTOR;
    const start = pfn * LEGACY_RING_ALIGN;
    const powerOfTwo = size > 0 && size <= 32768 && (size & (size - 1)) === 0;
    const layout = powerOfTwo ? legacyRingLayout(size) : { availableOffset: 0, usedOffset: 0 };
    return {
      queue,
      size,
      enabled: pfn !== 0,
      vector: vector === NO_VECTOR ? null : vector,
      descriptorArea: `0x${start.toString(16)}`,
      driverArea: `0x${(pfn === 0 ? 0 : start + layout.availableOffset).toString(16)}`,
      deviceArea: `0x${(pfn === 0 ? 0 : start + layout.usedOffset).toString(16)}`,
    };
  }

  /** There is no such thing on the legacy interface. */
  resetQueue(queue: number): void {
    this.#open();
    throw new UnsupportedError(`${this.name}, queue ${queue}: the legacy interface cannot reset one queue`, {
      hint: "reset the device",
    });
  }

  /** There is no such thing on the legacy interface. */
  readQueueState(queue: number): never {
    return this.#noState(queue);
  }

  /** There is no such thing on the legacy interface. */
  writeQueueState(queue: number): never {
    return this.#noState(queue);
  }

  /** Where notifications go: a place in a BAR, or null for commands. */
  get notifyPlace(): LegacyNotifyArea | null {
    this.#open();
    return this.#notify.place;
  }

  /** A write of the queue's index to the first usable notify address, else by command (N-3.16, N-3.17). */
  doorbell(queue: number): Doorbell {
    this.#checkQueue(queue);
    const doorbell = this.#notify.doorbell(queue);
    return {
      ring: () => {
        if (this.closed) throw new ClosedError(`virtio transport ${this.name}`);
        doorbell.ring();
      },
    };
  }

  /** Vectors of a kind. */
  interruptCount(kind: InterruptKind): number {
    this.#open();
    return kind === "none" ? 0 : this.#interrupts.available(kind);
  }

  /** Eventfds by vector; they are closed by `disableInterrupts`. With MSI-X the vector registers are there from now on. */
  enableInterrupts(kind: InterruptKind, count: number, given?: readonly EventFd[]): InterruptVector[] {
    if (kind === "none" || this.closed) { for (const one of given ?? []) one.close(); }
    this.#open();
    if (kind === "none") return [];
    const eventFds = this.#interrupts.enable(kind, count, given);
    this.#msix = kind === "msix";
    return eventFds.map((eventFd) => ({
      eventFd,
      acknowledge: kind === "intx" ? () => this.#acknowledgeIntx() : () => 3,
    }));
  }

  /** Turns them off and closes their eventfds. */
  disableInterrupts(): void {
    this.#open();
    this.#msix = false;
    this.#interrupts.disable();
  }

  /** `config_msix_vector`, read back. @throws UsageError while MSI-X is off: the register is not there (2.3) */
  setConfigVector(vector: number | null): void {
    this.#open();
    this.#setVector("config_msix_vector", vector, {});
  }

  /** `queue_msix_vector`, read back. @throws as `setConfigVector` */
  setQueueVector(queue: number, vector: number | null): void {
    this.#select(queue);
    this.#setVector("queue_msix_vector", vector, { queue });
  }

  /** The ISR byte; reading clears it. */
  readInterruptStatus(): number {
    return this.#read("isr_status");
  }

  /** None: shared memory regions came after the legacy interface. */
  sharedMemory(_id: number): SharedMemory | undefined {
    this.#open();
    return undefined;
  }

  /**
   * Resets the virtio device (without waiting), turns interrupts off, puts the Command register back. Where the reset does not get through,
   * Bus Master Enable is cleared, which stops the VF as well. The reset is a command, and takes as long as one may.
   */
  close(): void {
    if (this.#closed) return;
    const gone = this.#device.closed;
    this.#closed = true;
    const { offset, width } = LEGACY_CFG.device_status;
    const stopped = !gone && quietly(() => this.#registers.writeCommon(offset, width, 0));
    // Its eventfds are closed whatever the answer.
    quietly(() => this.#interrupts.disable());
    if (!gone) quietly(() => restoreCommand(this.#config, this.#commandBefore, stopped));
    this.#notify.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #pageOf(queue: number, { size, descriptorArea, driverArea, deviceArea }: QueueAddresses): number {
    const { availableOffset, usedOffset, totalBytes } = legacyRingLayout(size);
    const where = `${this.name}, queue ${queue}: a ring at 0x${descriptorArea.toString(16)}`;
    const align = BigInt(LEGACY_RING_ALIGN);
    if (
      descriptorArea === 0n || descriptorArea % align !== 0n ||
      driverArea !== descriptorArea + BigInt(availableOffset) ||
      deviceArea !== descriptorArea + BigInt(usedOffset)
    ) {
      throw new UsageError(
        `${where} is not one legacy area that begins a page of ${LEGACY_RING_ALIGN} bytes`,
        {
          hint: "use createVirtqueue, which lays it out",
        },
      );
    }
    if (descriptorArea + BigInt(totalBytes) > PFN_LIMIT) {
      throw new UsageError(`${where}: queue_pfn has 32 bits and reaches addresses below 2^44`, {
        hint:
          "the IOMMU leaves no lower addresses free: allocate less, or drive the function by the modern interface",
      });
    }
    return Number(descriptorArea / align);
  }

  #setVector(name: LegacyRegisterName, vector: number | null, where: { queue?: number }): void {
    if (!this.#msix) {
      throw new UsageError(`${this.name}: ${name} is there only while MSI-X is enabled (2.3)`, {
        hint: 'call enableInterrupts("msix", …) first',
      });
    }
    if (vector !== null && (!Number.isInteger(vector) || vector < 0 || vector > 2047)) {
      throw new UsageError(`there is no MSI-X vector ${vector}`);
    }
    const value = vector ?? NO_VECTOR;
    this.#write(name, value);
    const readBack = this.#read(name);
    if (readBack === value) return;
    const got = readBack === NO_VECTOR ? "the device refuses it" : `${readBack} reads back`;
    throw new DeviceError(`vector ${vector} was written, ${got}`, {
      function: this.name,
      ...where,
      field: name,
    }, { hint: "ask for fewer vectors, or poll" });
  }

  /** Reading the ISR lowers the line; then it may fire again. */
  #acknowledgeIntx(): number {
    const isr = this.readInterruptStatus();
    this.#interrupts.rearm();
    return isr;
  }

  #read(name: LegacyRegisterName): number {
    this.#open();
    const { offset, width } = LEGACY_CFG[name];
    return this.#registers.readCommon(offset, width);
  }

  #write(name: LegacyRegisterName, value: number): void {
    this.#open();
    const { offset, width } = LEGACY_CFG[name];
    this.#registers.writeCommon(offset, width, value);
  }

  #select(queue: number): void {
    this.#checkQueue(queue);
    this.#write("queue_select", queue);
  }

  #checkQueue(queue: number): void {
    this.#open();
    if (Number.isInteger(queue) && queue >= 0 && queue <= 0xffff) return;
    throw new UsageError(`${this.name}: there is no queue ${queue}`);
  }

  #checkConfig(offset: number, width: 1 | 2 | 4): void {
    this.#open();
    const { configSizeBytes } = this;
    if (
      Number.isInteger(offset) && offset >= 0 && offset % width === 0 && offset + width <= configSizeBytes
    ) return;
    throw new UsageError(
      `${this.name}: no ${
        8 * width
      }-bit field at offset ${offset} of the config space's ${configSizeBytes} bytes`,
    );
  }

  #noState(queue: number): never {
    this.#open();
    throw new UnsupportedError(`${this.name}, queue ${queue}: the legacy interface has no queue state`, {
      hint: "drive the function by the modern interface",
    });
  }

  #error(queue: number, field: string, message: string): DeviceError {
    return new DeviceError(message, { function: this.name, queue, field });
  }

  #open(): void {
    if (this.closed) throw new ClosedError(`virtio transport ${this.name}`);
  }
}
