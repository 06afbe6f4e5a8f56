/**
 * The modern PCI transport over an opened function (SPEC "Virtio Over PCI Bus"; reference 2.1, 2.2).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { DeviceError, TimeoutError } from "../../errors/mod.ts";
import {
  partOf,
  type RegisterAccess,
  Registers,
  type RegisterSpace,
  TracedSpace,
} from "../../registers/registers.ts";
import { ConfigAccess } from "../../vfio/config_access.ts";
import { REGION, type VfioDevice } from "../../vfio/device.ts";
import { InterruptSet } from "../../vfio/interrupts.ts";
import { DRAFT_FEATURE, FEATURE } from "../spec/features.ts";
import type { CommonRegisterName } from "../spec/pci.ts";
import { meansStandard } from "../features.ts";
import { quietly, restoreCommand } from "./letting_go.ts";
import { reachedOnce } from "./reached_once.ts";
import { MsixTransport } from "./msix_transport.ts";
import { findVirtioLayout, type VirtioPciLayout } from "./pci_layout.ts";
import { PciQueueState } from "./pci_queue_state.ts";
import { BarSet, COMMON_REGISTERS } from "./pci_registers.ts";
import { QueueDoorbell } from "./queue_doorbell.ts";
import { RegionSharedMemory } from "./region_shared_memory.ts";
import { PATIENT_RESET_MS } from "./register_transport.ts";
import type { Doorbell, Profile, QueueAddresses, QueueStateAccess, SharedMemory } from "./transport.ts";

/** How to open. */
export interface PciModernOptions {
  /** Which text gives bits 39–42 their meaning. Default `spec`. */
  readonly profile?: Profile;
  /**
   * Drive a device behind an IOMMU also when it does not offer ACCESS_PLATFORM: for hardware that is known to go through the IOMMU all the same. A
   * device that goes around it reads and writes physical memory that is not its driver's. Default: refuse such a device.
   */
  readonly assumeAccessPlatform?: boolean;
  /** Told of each access to a register of the common structure, after it was made. */
  readonly trace?: (access: RegisterAccess) => void;
}

/** Features that need a register beyond the first 56 bytes of the common structure. */
const NEEDS_REGISTER: readonly (readonly [bigint, CommonRegisterName])[] = [
  [FEATURE.NOTIF_CONFIG_DATA, "queue_notif_config_data"],
  [FEATURE.RING_RESET, "queue_reset"],
  [FEATURE.ADMIN_VQ, "admin_queue_num"],
];

/**
 * A virtio function with the modern interface. The `VfioDevice` stays its owner's; closing the transport stops the virtio device, turns
 * interrupts off and unmaps the registers.
 */
export class PciModernTransport extends MsixTransport<typeof COMMON_REGISTERS> {
  static {
    typedErrors(this);
  }

  /** Discriminator. */
  readonly kind = "pci-modern";
  /** Modern. */
  readonly legacy = false;
  readonly ownFeatures: bigint = FEATURE.SR_IOV | FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA;
  /** See `VirtioTransport`; read when the function was opened, since it never changes. */
  readonly vfMigrationCapable: boolean;
  /** Kernel VFIO translates by an IOMMU. A vfio-user server is given the memory itself, and its peers know it by these very addresses. */
  readonly needsAccessPlatform: boolean;
  /** Where the structures are. */
  readonly layout: VirtioPciLayout;
  /** In profile `queue-state`. */
  readonly queueState: QueueStateAccess | undefined;
  readonly #device: VfioDevice;
  readonly #config: ConfigAccess;
  readonly #bars: BarSet;
  readonly #commandBefore: number;
  readonly #queueCount: number;
  #configSpace: RegisterSpace | undefined;

  private constructor(
    device: VfioDevice,
    layout: VirtioPciLayout,
    options: PciModernOptions,
    config: ConfigAccess,
    commandBefore: number,
  ) {
    const bars = new BarSet(device);
    const { common } = layout;
    const bar = bars.bar(common.bar);
    const space = options.trace === undefined
      ? bar
      : new TracedSpace(bar, COMMON_REGISTERS, options.trace, common);
    super({
      device,
      registers: new Registers(COMMON_REGISTERS, space, common),
      interrupts: new InterruptSet(device),
      deviceId: layout.deviceId,
      profile: options.profile,
    });
    this.needsAccessPlatform = device.dma.mapper.iommu === true && options.assumeAccessPlatform !== true;
    this.vfMigrationCapable = layout.sriov?.vfMigrationCapable ?? false;
    this.layout = layout;
    this.#device = device;
    this.#config = config;
    this.#commandBefore = commandBefore;
    this.#bars = bars;
    this.#queueCount = this.registers.read("num_queues");
    if (this.profile === "queue-state") {
      this.queueState = new PciQueueState(this, this.registers, (queue) => this.select(queue));
    }
  }

  /**
   * Finds the structures, and turns memory decoding and bus mastering on.
   * @throws UnsupportedError (no virtio function, or legacy only), DeviceError (capabilities that cannot be), ClosedError, and what the device throws
   */
  static open(device: VfioDevice, options: PciModernOptions = {}): PciModernTransport {
    return reachedOnce(device, () => PciModernTransport.#open(device, options));
  }

  static #open(device: VfioDevice, options: PciModernOptions): PciModernTransport {
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
    this.requireOpen();
    return this.#queueCount;
  }

  /** `admin_queue_index` and `admin_queue_num`, while ADMIN_VQ is offered and the structure has them. */
  get adminQueues(): { readonly first: number; readonly count: number } {
    if ((this.readDeviceFeatures() & FEATURE.ADMIN_VQ) === 0n) return { first: 0, count: 0 };
    const count = this.registers.read("admin_queue_num");
    const first = this.registers.read("admin_queue_index");
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

  /**
   * Bits 0–63 as offered, without those whose registers lie past the end of the device's common structure or that its notify structure
   * cannot carry, and without SR_IOV on a function that has no such capability: they cannot be used, and a driver must not fail because they are offered. `unusableFeatures` has them.
   */
  readDeviceFeatures(): bigint {
    this.requireOpen();
    const { registers } = this;
    registers.write("device_feature_select", 0);
    const low = registers.read("device_feature");
    registers.write("device_feature_select", 1);
    const offered = BigInt(registers.read("device_feature")) << 32n | BigInt(low);
    const usable = offered & ~this.unusableFeatures;
    // device types use bit 41, too.
    const adminless = (usable & FEATURE.ADMIN_VQ) !== 0n && registers.read("admin_queue_num") === 0;
    return adminless ? usable & ~FEATURE.ADMIN_VQ : usable;
  }

  /** Bits that must not be negotiated with this function, whether offered or not. */
  get unusableFeatures(): bigint {
    let bits = 0n;
    for (const [feature, register] of NEEDS_REGISTER) {
      if (meansStandard(this.profile, feature) && !this.registers.has(register)) bits |= feature;
    }
    if (this.profile === "queue-state" && !this.registers.has("queue_used_state")) {
      bits |= DRAFT_FEATURE.QUEUE_STATE;
    }
    if (!this.layout.sriov) bits |= FEATURE.SR_IOV;
    const multiplier = this.layout.notifyOffMultiplier;
    const { offset, lengthBytes } = this.layout.notify;
    // 2.1: the 32-bit doorbell of bit 38 needs room and alignment for 4 bytes.
    if ((multiplier !== 0 && multiplier < 4) || lengthBytes < 4 || offset % 4 !== 0) {
      bits |= FEATURE.NOTIFICATION_DATA;
    }
    return bits;
  }

  /** All without those in `unusableFeatures`. */
  protected get carried(): bigint {
    return ~this.unusableFeatures;
  }

  /** In two halves. */
  protected putDriverFeatures(bits: bigint): void {
    this.registers.write("driver_feature_select", 0);
    this.registers.write("driver_feature", Number(bits & 0xffff_ffffn));
    this.registers.write("driver_feature_select", 1);
    this.registers.write("driver_feature", Number(bits >> 32n));
  }

  /** Bytes of the device-specific structure; 0 when there is none. */
  get configSizeBytes(): number {
    return this.layout.device?.lengthBytes ?? 0;
  }

  /** The device-specific structure. */
  protected get configSpace(): RegisterSpace {
    this.requireOpen();
    const { bar, offset } = this.layout.device!;
    return this.#configSpace ??= partOf(this.#bars.bar(bar), offset);
  }

  /** `config_generation`. */
  configGeneration(): number {
    return this.get("config_generation");
  }

  /** `queue_size` as it reads before the queue is enabled; admin queues may be asked for, too. */
  queueMaxSize(queue: number): number {
    this.select(queue);
    return this.registers.read("queue_size");
  }

  /** Size, addresses, enable; size and enable are read back. */
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.select(queue);
    const { registers } = this;
    if (registers.read("queue_enable") !== 0) {
      throw this.error(
        queue,
        "queue_enable",
        "the queue is enabled already; it takes a reset to set it up again",
      );
    }
    registers.write("queue_size", addresses.size);
    const size = registers.read("queue_size");
    if (size !== addresses.size) {
      throw this.error(queue, "queue_size", `${addresses.size} was written, ${size} reads back`);
    }
    registers.write64("queue_desc", addresses.descriptorArea);
    registers.write64("queue_driver", addresses.driverArea);
    registers.write64("queue_device", addresses.deviceArea);
    registers.write("queue_enable", 1);
    const enabled = registers.read("queue_enable");
    if (enabled !== 1) throw this.error(queue, "queue_enable", `1 was written, ${enabled} reads back`);
  }

  /** `queue_enable`. */
  queueEnabled(queue: number): boolean {
    this.select(queue);
    return this.registers.read("queue_enable") === 1;
  }

  /** As they read. */
  protected queueAreas(): QueueAddresses {
    const { registers } = this;
    return {
      size: registers.read("queue_size"),
      descriptorArea: registers.read64("queue_desc"),
      driverArea: registers.read64("queue_driver"),
      deviceArea: registers.read64("queue_device"),
    };
  }

  /** Writes `queue_reset`, waits, and checks that the queue is disabled (1.5). Default `timeoutMs` 5000. */
  resetQueue(queue: number, timeoutMs: number = PATIENT_RESET_MS): void {
    this.requireRingReset();
    this.select(queue);
    this.registers.write("queue_reset", 1);
    if (this.readUntil(() => this.registers.read("queue_reset"), 0, timeoutMs) !== 0) {
      throw new TimeoutError(`${this.name}, queue ${queue}: queue_reset not finished after ${timeoutMs} ms`, {
        hint: "reset the device",
      });
    }
    if (this.registers.read("queue_enable") !== 0) {
      throw this.error(queue, "queue_enable", "still set after queue_reset");
    }
  }

  /** Looks the queue's doorbell up. @throws DeviceError when `queue_notify_off` leads outside the notify structure */
  doorbell(queue: number): Doorbell {
    this.select(queue);
    const features = this.driverFeatures;
    const withData = (features & FEATURE.NOTIFICATION_DATA) !== 0n;
    const ownIdentifier = meansStandard(this.profile, FEATURE.NOTIF_CONFIG_DATA) &&
      (features & FEATURE.NOTIF_CONFIG_DATA) !== 0n;
    const width = withData ? 4 : 2;
    const notifyOff = this.registers.read("queue_notify_off");
    const { bar, offset, lengthBytes } = this.layout.notify;
    const at = notifyOff * this.layout.notifyOffMultiplier;
    if (at + width > lengthBytes) {
      throw this.error(
        queue,
        "queue_notify_off",
        `${notifyOff} × ${this.layout.notifyOffMultiplier} + ${width} is past the notify structure's ${lengthBytes} bytes`,
      );
    }
    const identifier = ownIdentifier ? this.registers.read("queue_notif_config_data") : queue;
    const register = this.#bars.bar(bar).doorbell(offset + at, width);
    return new QueueDoorbell(register, identifier, withData, this);
  }

  /** The ISR byte; reading clears it and lowers INTx. */
  readInterruptStatus(): number {
    this.requireOpen();
    const { bar, offset } = this.layout.isr;
    return this.#bars.bar(bar).read8(offset);
  }

  /** A shared memory region of the function; its mappings are closed with the function. */
  sharedMemory(id: number): SharedMemory | undefined {
    this.requireOpen();
    const place = this.layout.sharedMemory.get(id);
    if (place === undefined) return undefined;
    return new RegionSharedMemory(this.#device, this.#bars.bar(place.bar), place, id);
  }

  /** Puts the Command register back, unmaps the registers. */
  protected release(stopped: boolean | undefined): void {
    if (stopped !== undefined) quietly(() => restoreCommand(this.#config, this.#commandBefore, stopped));
    this.#bars.close();
  }
}
