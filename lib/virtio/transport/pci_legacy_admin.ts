/**
 * The legacy interface of a VF, reached by commands to the PF that owns it (SPEC "Group administration commands / Legacy Interface"; reference 2.3, 3).
 *
 * Registers travel as commands; rings, interrupts and notifications do not: DMA memory and MSI-X are the VF's own, and a notification is a
 * write into a BAR where the device gives an address for it.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError, UsageError } from "../../errors/mod.ts";
import { ConfigSpace } from "../../pci/mod.ts";
import {
  type RegisterAccess,
  Registers,
  type RegisterSpace,
  requireFit,
  TracedSpace,
} from "../../registers/registers.ts";
import { ConfigAccess } from "../../vfio/config_access.ts";
import type { VfioDevice } from "../../vfio/device.ts";
import { InterruptSet } from "../../vfio/interrupts.ts";
import type { LegacyNotifyArea, LegacyRegisterAccess } from "../admin/legacy_access.ts";
import { LEGACY_CFG } from "../spec/legacy.ts";
import { legacyConfigBytes } from "./legacy_config.ts";
import { LegacyNotify } from "./legacy_notify.ts";
import { legacyAreas, legacyPageOf } from "./legacy_rings.ts";
import { quietly, restoreCommand } from "./letting_go.ts";
import { reachedOnce } from "./reached_once.ts";
import { MsixTransport } from "./msix_transport.ts";
import { virtioDeviceId } from "./pci_layout.ts";
import { PATIENT_RESET_MS } from "./register_transport.ts";
import type { Doorbell, QueueAddresses } from "./transport.ts";

/** How to open. */
export interface LegacyAdminOptions {
  /** The function that owns the VF's group (PF), opened, with memory decoding on: then notify addresses in its BARs can be used, too. */
  readonly owner?: VfioDevice;
  /** Told of each access to a common register, after it was made. */
  readonly trace?: (access: RegisterAccess) => void;
}

const LOW_32 = 0xffff_ffffn;

/**
 * A VF driven as a legacy device. `VfioDevice`, register access and owner stay their owners'; closing the transport stops the virtio device, turns
 * interrupts off and unmaps what it mapped. One at a time may drive a VF's registers: `queue_select` is shared by all who do.
 */
export class LegacyAdminTransport extends MsixTransport<typeof LEGACY_CFG> {
  static {
    typedErrors(this);
  }

  /** Discriminator. */
  readonly kind = "pci-legacy-admin";
  /** Legacy. */
  readonly legacy = true;
  /** `queue_size` is read-only. */
  readonly fixedQueueSizes = true;
  /** Each read is a command. */
  protected override readonly eagerReads = 10;
  /** Bits 0–31. */
  protected readonly carried = LOW_32;
  /** The device-specific part, by commands. */
  protected readonly configSpace: RegisterSpace;
  readonly #config: ConfigAccess;
  readonly #notify: LegacyNotify;
  readonly #commandBefore: number;
  /** Bus mastering is off since a reset failed. */
  #keptFromDma = false;

  private constructor(
    device: VfioDevice,
    access: LegacyRegisterAccess,
    options: LegacyAdminOptions,
    config: ConfigAccess,
    deviceId: number,
  ) {
    const common: RegisterSpace = {
      read: (offset, width) => access.readCommon(offset, width),
      write: (offset, width, value) => access.writeCommon(offset, width, value),
    };
    const { trace, owner } = options;
    const space = trace === undefined ? common : new TracedSpace(common, LEGACY_CFG, trace);
    super({
      device,
      registers: new Registers(LEGACY_CFG, space),
      interrupts: new InterruptSet(device),
      deviceId,
    });
    this.configSpace = {
      read: (offset, width) => access.readDevice(offset, width),
      write: (offset, width, value) => {
        requireFit(value, width);
        access.writeDevice(offset, width, value);
      },
    };
    this.#config = config;
    this.#notify = new LegacyNotify(
      access,
      owner === undefined ? { member: device } : { member: device, owner },
    );
    this.#commandBefore = config.setCommand({ memory: true, busMaster: true });
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
    return reachedOnce(device, () => {
      const config = new ConfigAccess(device);
      const deviceId = virtioDeviceId(device.name, new ConfigSpace(config.readAll()));
      return new LegacyAdminTransport(device, registers, options, config, deviceId);
    });
  }

  /** There is no register for their number: see `countQueues`. Two commands a queue. */
  get queueCount(): number {
    return this.countQueues();
  }

  /** Bits 0–31. */
  readDeviceFeatures(): bigint {
    return BigInt(this.get("device_features"));
  }

  /** In one register. */
  protected putDriverFeatures(bits: bigint): void {
    this.registers.write("driver_features", Number(bits));
  }

  /**
   * Writes 0 and reads until it is 0, which most devices give at once. Default `timeoutMs` 5000. When that fails the VF is kept from DMA until a
   * reset succeeds: its own configuration space is there also while its owner is out of reach.
   */
  override reset(timeoutMs: number = PATIENT_RESET_MS): void {
    this.requireOpen();
    try {
      super.reset(timeoutMs);
    } catch (error) {
      quietly(() => this.#config.setCommand({ busMaster: false }));
      this.#keptFromDma = true;
      throw error;
    }
    if (!this.#keptFromDma) return;
    this.#config.setCommand({ busMaster: true });
    this.#keptFromDma = false;
  }

  /** By the device type, for no register says it; a device may have less (`legacyConfigBytes`). */
  get configSizeBytes(): number {
    return legacyConfigBytes(this.deviceId);
  }

  /** 0: the legacy interface has none. `VirtioDevice.readConsistent` reads until two readings are alike instead. */
  configGeneration(): number {
    this.requireOpen();
    return 0;
  }

  /** `queue_size`: the size that the queue has, for it cannot be negotiated. */
  queueMaxSize(queue: number): number {
    this.select(queue);
    return this.registers.read("queue_size");
  }

  /**
   * Writes `queue_pfn` and reads it back. The areas must lie as `legacyRingLayout` has them.
   * @throws UsageError (another size or layout; a ring at 2^44 or above, which the register cannot name), DeviceError
   */
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.select(queue);
    const pfn = legacyPageOf(this.name, queue, addresses);
    const size = this.registers.read("queue_size");
    if (size !== addresses.size) {
      throw new UsageError(
        `${this.name}, queue ${queue}: a ring of ${addresses.size}, queue_size is ${size}`,
        { hint: "a legacy queue has the size that the device says" },
      );
    }
    if (this.registers.read("queue_pfn") !== 0) {
      throw this.error(
        queue,
        "queue_pfn",
        "the queue is set up already; it takes a reset to set it up again",
      );
    }
    this.registers.write("queue_pfn", pfn);
    const kept = this.registers.read("queue_pfn");
    if (kept === pfn) return;
    throw this.error(
      queue,
      "queue_pfn",
      `0x${pfn.toString(16)} was written, 0x${kept.toString(16)} reads back`,
    );
  }

  /** `queue_pfn` is not 0. */
  queueEnabled(queue: number): boolean {
    this.select(queue);
    return this.registers.read("queue_pfn") !== 0;
  }

  /** In one piece, as `legacyRingLayout` has it; nowhere while `queue_pfn` is 0. */
  protected queueAreas(): QueueAddresses {
    return legacyAreas(this.registers.read("queue_size"), this.registers.read("queue_pfn"));
  }

  /** Where notifications go: a place in a BAR, or null for commands. */
  get notifyPlace(): LegacyNotifyArea | null {
    this.requireOpen();
    return this.#notify.place;
  }

  /** A write of the queue's index to the first usable notify address, else by command (N-3.16, N-3.17). */
  doorbell(queue: number): Doorbell {
    this.requireQueue(queue);
    const doorbell = this.#notify.doorbell(queue);
    return {
      ring: () => {
        if (this.closed) throw new ClosedError(`virtio transport ${this.name}`);
        doorbell.ring();
      },
    };
  }

  /** The ISR byte; reading clears it. */
  readInterruptStatus(): number {
    return this.get("isr_status");
  }

  /** The vector registers are there while MSI-X is on. */
  protected override get hasVectors(): boolean {
    return this.interrupts.kind === "msix";
  }

  /**
   * Puts the Command register back. Where the reset did not get through, Bus Master Enable is cleared, which stops the VF as well. The reset is a
   * command, and takes as long as one may.
   */
  protected release(stopped: boolean | undefined): void {
    if (stopped !== undefined) quietly(() => restoreCommand(this.#config, this.#commandBefore, stopped));
    this.#notify.close();
  }
}
