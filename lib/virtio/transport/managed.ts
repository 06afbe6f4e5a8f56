/**
 * The transport of a managed device: all of it but notifications and interrupts goes by commands of its management device (reference 4).
 *
 * @module
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import type { AddressSpaces, DmaSpace } from "../../memory/mod.ts";
import type { AccessWidth } from "../../registers/declaration.ts";
import {
  type RegisterAccess,
  Registers,
  type RegisterSpace,
  requireFit,
  TracedSpace,
} from "../../registers/registers.ts";
import type { MsiAddresses } from "../../vfio/msi_addresses.ts";
import type { Lifeline } from "../../wait/lifeline.ts";
import { saysNoQueue } from "../management/error.ts";
import type { ManagedDevice } from "../management/managed_device.ts";
import type { NotifyAreas } from "../management/notify_areas.ts";
import { deviceConfigBytes } from "../spec/device_types.ts";
import { FEATURE } from "../spec/features.ts";
import { checkQueueState, initialQueueState, type QueueState } from "../spec/queue_state.ts";
import { MANAGED_REGISTERS, ManagedInterrupts, ManagedRegisters } from "./managed_registers.ts";
import { MsixTransport } from "./msix_transport.ts";
import { QueueDoorbell } from "./queue_doorbell.ts";
import { NO_VECTOR } from "../spec/pci.ts";
import type { Doorbell, QueueAddresses, QueueStateAccess } from "./transport.ts";

/** What a managed device is driven by. */
export interface ManagedTransportParts {
  /** The device. */
  readonly device: ManagedDevice;
  /** Its management function: what reaches its memory reaches that of its managed devices (address space 0). */
  readonly management: {
    readonly dma: DmaSpace;
    readonly closed: boolean;
    readonly lifeline?: Lifeline | undefined;
    readonly needsAccessPlatform?: boolean;
  };
  /** Those of the management function. */
  readonly addressSpaces: AddressSpaces;
  /** Whose messages its interrupts are. */
  readonly msi: MsiAddresses;
  /** What makes doorbells of its notify addresses. */
  readonly notifyAreas: NotifyAreas;
}

/** How to open. */
export interface ManagedTransportOptions {
  /** Features that the driver is shown, of those that the device offers (N-4.6). Default: all that the transport carries. */
  readonly features?: bigint;
  /** Address space of the management function that its queues, and all memory of its driver, are in (N-4.18). Default 0: that of the function itself. */
  readonly addressSpace?: number;
  /** Told of each access to a register, after it was made. */
  readonly trace?: (access: RegisterAccess) => void;
}

/** How a driver has set a managed device up. */
export interface ManagedSetup {
  /** Features that it accepted. */
  readonly features: bigint;
  /** Vector of changes of the config space; null: none. */
  readonly configVector: number | null;
  /** Queues that it enabled. */
  readonly queues: readonly {
    readonly queue: number;
    readonly addresses: QueueAddresses;
    readonly vector: number | null;
  }[];
}

/** What no command carries: notifications are 16 bits, and a managed device is no PCI function. */
const NOT_CARRIED = FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA | FEATURE.ADMIN_VQ | FEATURE.SR_IOV;
const ALL = (1n << 64n) - 1n;
/** Bytes of config space of a device type that this library does not know. */
const CONFIG_REACH = 4096;

/** See the module's text. The device stays its management device's: closing the transport resets it, and it can be opened again. */
export class ManagedTransport extends MsixTransport<typeof MANAGED_REGISTERS> {
  static {
    typedErrors(this);
  }

  /** Discriminator. */
  readonly kind = "transport-vq";
  /** Modern. */
  readonly legacy = false;
  /** As its management function's. */
  readonly needsAccessPlatform: boolean;
  /** The handle: commands that no driver needs. */
  readonly device: ManagedDevice;
  /** Why it has no interrupts, where that is so. */
  readonly interruptLack: string | undefined;
  /** Class VQ_STATE. */
  readonly queueState: QueueStateAccess;
  /** What the driver is shown (N-4.6). */
  protected readonly carried: bigint;
  /** By commands. */
  protected readonly configSpace: RegisterSpace;
  /** Each read is a command. */
  protected override readonly eagerReads = 10;
  readonly #notifyAreas: NotifyAreas;
  readonly #areas = new Map<number, QueueAddresses>();
  readonly #addressSpace: number;

  /** Sends nothing. @throws UnsupportedError where the management function has no such address space */
  constructor(parts: ManagedTransportParts, options: ManagedTransportOptions = {}) {
    const { device, management, addressSpaces, msi, notifyAreas } = parts;
    const { trace, features = ALL, addressSpace = 0 } = options;
    const interrupts = new ManagedInterrupts(device, msi);
    const space = new ManagedRegisters(device, interrupts);
    super({
      device: {
        name: device.name,
        dma: addressSpace === 0 ? management.dma : addressSpaces.addressSpace(addressSpace),
        get closed() {
          return device.destroyed || management.closed;
        },
        lifeline: management.lifeline && new ManagedLifeline(device, management.lifeline),
      },
      registers: new Registers(
        MANAGED_REGISTERS,
        trace === undefined ? space : new TracedSpace(space, MANAGED_REGISTERS, trace),
      ),
      interrupts,
      deviceId: device.type,
      profile: "transport-vq",
    });
    this.device = device;
    this.needsAccessPlatform = management.needsAccessPlatform ?? false;
    this.interruptLack = msi.lack;
    this.queueState = new ManagedQueueState(device);
    this.configSpace = new ManagedConfig(device);
    this.#addressSpace = addressSpace;
    this.#notifyAreas = notifyAreas;
    this.carried = features & ~NOT_CARRIED;
  }

  /** No command says how many: see `countQueues`. */
  get queueCount(): number {
    return this.countQueues();
  }

  /** FEAT_DEVICE_GET, without what this transport does not carry and what the driver is not shown (N-4.6). */
  readDeviceFeatures(): bigint {
    this.requireOpen();
    return this.registers.read64("device_feature") & this.carried;
  }

  /** FEAT_DRIVER_SET. */
  protected putDriverFeatures(bits: bigint): void {
    this.registers.write64("driver_feature", bits);
  }

  /** STATUS_SET 0, whose success means that it is done (N-4.7, N-4.8); and a look that it is. */
  override reset(timeoutMs?: number): void {
    super.reset(timeoutMs);
    this.#areas.clear();
  }

  /** By the device type, for no command says it; a device may have less, and refuses what lies outside (N-4.10). */
  get configSizeBytes(): number {
    this.requireOpen();
    return deviceConfigBytes(this.deviceId) ?? CONFIG_REACH;
  }

  /** GENERATION_GET. */
  configGeneration(): number {
    return this.get("config_generation");
  }

  /** VQ_SIZE_GET: the largest size after a reset (N-4.16). */
  queueMaxSize(queue: number): number {
    this.select(queue);
    try {
      return this.registers.read("queue_size");
    } catch (error) {
      if (saysNoQueue(error)) return 0;
      throw error;
    }
  }

  /** VQ_SIZE_SET, VQ_ADDR_SET, VQ_ASID_SET where it is not 0, and at last VQ_ENABLE_SET (N-4.15). */
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.select(queue);
    this.registers.write("queue_size", addresses.size);
    this.device.now.setQueueAreas(queue, addresses);
    // A reset of the queue or of the device leads it back to 0.
    if (this.#addressSpace !== 0) this.device.now.setQueueAsid(queue, this.#addressSpace);
    this.registers.write("queue_enable", 1);
    this.#areas.set(queue, addresses);
  }

  /** VQ_ENABLE_GET. */
  queueEnabled(queue: number): boolean {
    this.select(queue);
    return this.registers.read("queue_enable") === 1;
  }

  /** VQ_ENABLE_SET with DISABLE: the queue keeps where it stands until the device is reset (N-4.14, A-4.17). */
  disableQueue(queue: number): void {
    this.select(queue);
    this.registers.write("queue_enable", 0);
  }

  /** VQ_RESET_DO, whose success means that it is done; and a look that it is (N-4.20). */
  resetQueue(queue: number): void {
    this.requireRingReset();
    this.select(queue);
    this.registers.write("queue_reset", 1);
    this.#areas.delete(queue);
    if (this.registers.read("queue_enable") === 0) return;
    throw this.error(queue, "queue_enable", "still set after VQ_RESET_DO");
  }

  /** How its driver has set it up, for another device to go on with. @internal */
  get setup(): ManagedSetup {
    this.requireOpen();
    const vectorOf = (register: "queue_msix_vector" | "config_msix_vector"): number | null => {
      const vector = this.registers.read(register);
      return vector === NO_VECTOR ? null : vector;
    };
    const configVector = vectorOf("config_msix_vector");
    const queues = [...this.#areas].map(([queue, addresses]) => {
      this.select(queue);
      return { queue, addresses, vector: vectorOf("queue_msix_vector") };
    });
    return { features: this.driverFeatures, configVector, queues };
  }

  /** Areas as this transport set them: no command reads them. */
  protected queueAreas(queue: number): QueueAddresses {
    const none = { descriptorArea: 0n, driverArea: 0n, deviceArea: 0n };
    return { ...none, ...this.#areas.get(queue), size: this.registers.read("queue_size") };
  }

  /** VQ_NOTIFY_GET, and what can be written there. */
  doorbell(queue: number): Doorbell {
    this.requireQueue(queue);
    const register = this.#notifyAreas.doorbell(this.device.now.notifyArea(queue), queue, this.name);
    return new QueueDoorbell(register, queue, false, this);
  }

  /** 3: a managed device has no ISR. */
  readInterruptStatus(): number {
    this.requireOpen();
    return 3;
  }

  /** Nothing is mapped here, and messages were given back. */
  protected release(): void {}
}

/** The config space, a command an access. */
class ManagedConfig implements RegisterSpace {
  static {
    typedErrors(this);
  }

  readonly #device: ManagedDevice;

  constructor(device: ManagedDevice) {
    this.#device = device;
  }

  read(offset: number, width: AccessWidth): number {
    const bytes = this.#device.now.readConfig(offset, width);
    return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
  }

  write(offset: number, width: AccessWidth, value: number): void {
    requireFit(value, width);
    this.#device.now.writeConfig(offset, new Uint8Array(Uint32Array.of(value).buffer, 0, width));
  }
}

/** States of queues that are disabled. */
class ManagedQueueState implements QueueStateAccess {
  static {
    typedErrors(this);
  }

  /** Class VQ_STATE is always there. */
  readonly feature = 0n;
  readonly #device: ManagedDevice;

  constructor(device: ManagedDevice) {
    this.#device = device;
  }

  /** VQ_STATE_GET. */
  read(queue: number, layout: "split" | "packed", size: number): QueueState {
    return this.#device.now.queueState(queue, layout, size);
  }

  /** VQ_STATE_SET, unless that is where a queue stands anyway. */
  write(queue: number, state: QueueState, size: number): void {
    const checked = checkQueueState(state, size);
    if (JSON.stringify(checked) === JSON.stringify(initialQueueState(checked.layout))) return;
    this.#device.now.setQueueState(queue, checked, size);
  }
}

/** That of the management function's process; ends also with the device. */
class ManagedLifeline implements Lifeline {
  readonly #device: ManagedDevice;
  readonly #management: Lifeline;

  constructor(device: ManagedDevice, management: Lifeline) {
    this.#device = device;
    this.#management = management;
  }

  get fds(): readonly OwnedFd[] {
    return this.#management.fds;
  }

  answer(): void {
    this.#management.answer();
  }

  check(): void {
    if (this.#device.destroyed) throw this.#device.gone();
    this.#management.check();
  }

  get ended(): boolean {
    return this.#device.destroyed || (this.#management.ended ?? false);
  }

  reason(): Error {
    return this.#device.destroyed ? this.#device.gone() : this.#management.reason();
  }

  onEnd(handler: () => void): () => void {
    const forget = [this.#device.onEnd(handler), this.#management.onEnd(handler)];
    return () => forget.forEach((one) => one());
  }
}
