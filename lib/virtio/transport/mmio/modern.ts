/**
 * virtio-mmio, version 2 and the two drafts (virtio 1.2 §4.2.2, §4.2.3; reference 7).
 *
 * @module
 */
import { typedErrors } from "../../../errors/doors.ts";
import { DeviceError, TimeoutError, UnsupportedError, UsageError } from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";
import type { RegisterDeclaration } from "../../../registers/declaration.ts";
import { Registers, type RegisterSpace } from "../../../registers/registers.ts";
import { deviceConfigBytes } from "../../spec/device_types.ts";
import { DRAFT_FEATURE, FEATURE } from "../../spec/features.ts";
import {
  MMIO_CFG,
  MMIO_CONFIG_OFFSET,
  type MMIO_MODERN_CFG,
  MMIO_NO_SHARED_MEMORY,
  MMIO_V3_CFG,
  type MmioForm,
} from "../../spec/mmio.ts";
import { MsiV2 } from "./msi_v2.ts";
import { MsiV3 } from "./msi_v3.ts";
import { type NotifyConfig, notifyPlace } from "./notify.ts";
import { type MmioParts, MmioTransport, tracedWindow } from "./transport.ts";
import { QueueDoorbell } from "../queue_doorbell.ts";
import { PATIENT_RESET_MS } from "../register_transport.ts";
import type { Doorbell, QueueAddresses, SharedMemory } from "../transport.ts";

/** What the three forms have in common; QueueNotify differs. */
type ModernTable = Readonly<Record<keyof typeof MMIO_MODERN_CFG, RegisterDeclaration>>;

/** How long a queue may take to stop. */
const PATIENT_STOP_MS = 1000;
const ALL = (1n << 64n) - 1n;
/** What is PCI's alone, and a bit of another meaning in profile `mmio-msi-v2`. */
const NOT_MMIO = FEATURE.NOTIF_CONFIG_DATA | FEATURE.ADMIN_VQ | FEATURE.SR_IOV;
const { MMIO_NOTIFICATION, MMIO_MSI } = DRAFT_FEATURE;
const CARRIED: Readonly<Record<Exclude<MmioForm, "legacy">, bigint>> = {
  "modern": ALL & ~NOT_MMIO,
  "v3": ALL & ~NOT_MMIO & ~FEATURE.RING_RESET,
  "msi-v2": ALL & ~NOT_MMIO | MMIO_NOTIFICATION | MMIO_MSI,
};
/** The queue index, or the word of NOTIFICATION_DATA, written to QueueNotify itself. */
const STANDARD_NOTIFY: NotifyConfig = { base: MMIO_CFG.queue_notify.offset, multiplier: 0 };
/** Why no queue can be reset alone, by what collides. */
const NO_RING_RESET = {
  "v3":
    "register 0x0c0 is QueueReset in the standard, with VIRTIO_F_RING_RESET, and MsiStatus in profile mmio-v3",
  "msi-v2":
    "register 0x0c0 is QueueReset in the standard and MsiVecNum in profile mmio-msi-v2; bit 40 is VIRTIO_F_RING_RESET there and VIRTIO_F_MMIO_MSI here",
} as const;

/** See the module. The profile says which of the three forms it is. */
export class MmioModernTransport extends MmioTransport<ModernTable> {
  static {
    typedErrors(this);
  }

  /** Modern. */
  readonly legacy = false;
  readonly ownFeatures: bigint;
  protected readonly carried: bigint;
  readonly #form: Exclude<MmioForm, "legacy">;
  /** As this transport set them: the registers are write-only. */
  readonly #areas = new Map<number, QueueAddresses>();
  /** The registers, for what only one form has. */
  readonly #space: RegisterSpace;

  /** Touches no register. @param parts of a device whose Version is that of the form */
  constructor(parts: MmioParts<ModernTable> & { readonly form: Exclude<MmioForm, "legacy"> }) {
    super(parts);
    const { window, table, form, options } = parts;
    const { msiEnableByStatus = false, msiStateBits = "spec" } = options;
    this.#form = form;
    this.#space = tracedWindow(window, table, options);
    this.carried = CARRIED[form];
    this.ownFeatures = FEATURE.NOTIFICATION_DATA | (form === "msi-v2" ? MMIO_NOTIFICATION | MMIO_MSI : 0n);
    if (form === "v3") this.line.program = new MsiV3(this, this.#space, msiEnableByStatus);
    if (form === "msi-v2") this.line.program = new MsiV2(this, this.#space, msiStateBits);
  }

  /** In two halves; without what cannot be carried, and NOTIFICATION_DATA where its 32 bits cannot be written. */
  readDeviceFeatures(): bigint {
    this.requireOpen();
    const offered = [1, 0].reduce((bits, half) => {
      this.registers.write("device_features_select", half);
      return bits << 32n | BigInt(this.registers.read("device_features"));
    }, 0n) & this.carried;
    const { base, multiplier } = this.#notifyConfig(offered);
    return base % 4 === 0 && multiplier % 4 === 0 ? offered : offered & ~FEATURE.NOTIFICATION_DATA;
  }

  /** As of every transport. @throws UsageError also for RING_RESET in a draft, which says what collides */
  override writeDriverFeatures(bits: bigint): void {
    if (this.#form === "v3" && (bits & FEATURE.RING_RESET) !== 0n) {
      throw new UsageError(`${this.name}: ${NO_RING_RESET.v3}`, { hint: "do not accept RING_RESET" });
    }
    super.writeDriverFeatures(bits);
  }

  /** In two halves. */
  protected putDriverFeatures(bits: bigint): void {
    for (const half of [0, 1]) {
      this.registers.write("driver_features_select", half);
      this.registers.write("driver_features", Number(bits >> BigInt(32 * half) & 0xffff_ffffn));
    }
  }

  /** By the device type, for no register says it, as far as the window goes; a device may have less. */
  get configSizeBytes(): number {
    const there = this.window.sizeBytes - MMIO_CONFIG_OFFSET;
    return Math.min(deviceConfigBytes(this.deviceId) ?? there, there);
  }

  /** ConfigGeneration. */
  configGeneration(): number {
    return this.get("config_generation");
  }

  /** QueueSize, the three areas, QueueReady, which is read back. */
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.select(queue);
    const { registers } = this;
    if (registers.read("queue_ready") !== 0) {
      throw this.error(queue, "queue_ready", "the queue is in use already; stop it first");
    }
    const most = registers.read("queue_size_max");
    if (addresses.size > most) {
      throw new UsageError(
        `${this.name}, queue ${queue}: a ring of ${addresses.size}, QueueSizeMax is ${most}`,
      );
    }
    registers.write("queue_size", addresses.size);
    registers.write64("queue_desc", addresses.descriptorArea);
    registers.write64("queue_driver", addresses.driverArea);
    registers.write64("queue_device", addresses.deviceArea);
    registers.write("queue_ready", 1);
    const ready = registers.read("queue_ready");
    if (ready !== 1) throw this.error(queue, "queue_ready", `1 was written, ${ready} reads back`);
    this.#areas.set(queue, addresses);
  }

  /** QueueReady. */
  queueEnabled(queue: number): boolean {
    this.select(queue);
    return this.registers.read("queue_ready") === 1;
  }

  /** Writes 0 to QueueReady, and reads it back until the device has stopped (§4.2.2.2). @throws TimeoutError */
  disableQueue(queue: number): void {
    this.select(queue);
    this.registers.write("queue_ready", 0);
    if (this.readUntil(() => this.registers.read("queue_ready"), 0, PATIENT_STOP_MS) !== 0) {
      throw new TimeoutError(
        `${this.name}, queue ${queue}: QueueReady is not 0 after ${PATIENT_STOP_MS} ms`,
        {
          hint: "reset the device",
        },
      );
    }
    this.#areas.delete(queue);
  }

  /** QueueReset, until it reads 0 and QueueReady does (1.5). Default `timeoutMs` 5000. @throws UnsupportedError also in the drafts */
  resetQueue(queue: number, timeoutMs: number = PATIENT_RESET_MS): void {
    this.requireOpen();
    if (this.#form !== "modern") {
      throw new UnsupportedError(`${this.name}, queue ${queue}: ${NO_RING_RESET[this.#form]}`, {
        hint: "reset the device",
      });
    }
    this.requireRingReset();
    this.select(queue);
    const registers = new Registers(MMIO_CFG, this.#space);
    registers.write("queue_reset", 1);
    if (this.readUntil(() => registers.read("queue_reset"), 0, timeoutMs) !== 0) {
      throw new TimeoutError(`${this.name}, queue ${queue}: QueueReset not finished after ${timeoutMs} ms`, {
        hint: "reset the device",
      });
    }
    const ready = registers.read("queue_ready");
    if (ready !== 0) throw this.error(queue, "queue_ready", "still set after QueueReset");
    this.#areas.delete(queue);
  }

  /** As of every transport. Default `timeoutMs` 5000. */
  override reset(timeoutMs?: number): void {
    super.reset(timeoutMs);
    this.#areas.clear();
  }

  /** As this transport set it up; the largest size where it did not. */
  protected queueAreas(queue: number): QueueAddresses {
    const none = { descriptorArea: 0n, driverArea: 0n, deviceArea: 0n };
    return this.#areas.get(queue) ?? { ...none, size: this.registers.read("queue_size_max") };
  }

  /** QueueNotify, or where the drafts' registers say (N-7.7). @throws DeviceError for a place that cannot be */
  doorbell(queue: number): Doorbell {
    this.requireQueue(queue);
    const withData = (this.driverFeatures & FEATURE.NOTIFICATION_DATA) !== 0n;
    const { offset, width } = notifyPlace(this.#notifyConfig(this.driverFeatures), queue, withData, {
      name: this.name,
      sizeBytes: this.window.sizeBytes,
      table: this.registers.table,
      configSizeBytes: this.configSizeBytes,
    });
    const register = this.register(offset, width, withData ? undefined : queue);
    return new QueueDoorbell(register, queue, withData, this);
  }

  /** SHMSel, SHMLen, SHMBase. @throws DeviceError for one that cannot be, UnsupportedError where the window does not reach it */
  sharedMemory(id: number): SharedMemory | undefined {
    this.requireOpen();
    if (!Number.isInteger(id) || id < 0 || id > 0xff) {
      throw new UsageError(`${this.name}: there is no shared memory region ${shown(id)}`);
    }
    this.registers.write("shm_select", id);
    const length = this.registers.read64("shm_length");
    if (length === MMIO_NO_SHARED_MEMORY || length === 0n) return undefined;
    const base = this.registers.read64("shm_base");
    const what = `shared memory region ${id}, 0x${length.toString(16)} bytes at 0x${base.toString(16)}`;
    if (base + length > ALL || length > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw new DeviceError(`${what}: no such memory can be`, { function: this.name, field: "SHMBase" });
    }
    const found = this.window.sharedMemory?.(base, Number(length), id);
    if (found !== undefined) return found;
    throw new UnsupportedError(`${this.name}: ${what}, which its register window does not reach`, {
      hint: "give `openMmio` a window with `sharedMemory`",
    });
  }

  #notifyConfig(features: bigint): NotifyConfig {
    const given = this.#form === "v3" || this.#form === "msi-v2" && (features & MMIO_NOTIFICATION) !== 0n;
    return given ? new Registers(MMIO_V3_CFG, this.#space).fields("queue_notify") : STANDARD_NOTIFY;
  }
}
