/**
 * Registers of virtio-mmio devices that lie.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import { MMIO_V3_CFG, MMIO_VERSION } from "../../../virtio/spec/mmio.ts";
import { STATUS } from "../../../virtio/spec/status.ts";
import { encodeRegister, type RegisterTable } from "../../../registers/declaration.ts";
import type { DeviceModel } from "../../device_model.ts";
import type { Selectors } from "../core/view.ts";
import type { MmioViewOptions } from "../views/mmio/options.ts";
import type { MmioRegisterFile, MmioRegisterName } from "../views/mmio/registers.ts";
import { MmioView } from "../views/mmio/view.ts";
import type { DeviceLie } from "./device.ts";
import { type LieFamily, type LiePlan, LieSwitch, Occasions, xorshift } from "./lie.ts";
import { lyingQueues, PACKED_LIES, QUEUE_LIES, type QueueLie } from "./queues.ts";

/** What only such a device can be told to do wrong, always unless told otherwise. The number of `mmio-garbage` is a seed. */
export const MMIO_LIES = [
  /** MagicValue is another. */
  "mmio-magic",
  /** Version is 4. */
  "mmio-version",
  /** DeviceID is 0: a placeholder. */
  "mmio-device-id-zero",
  /** QueueSizeMax is 65535. */
  "mmio-queue-size-large",
  /** SHMBase is all ones, of a region that there is. */
  "mmio-shm-base",
  /** The doorbell of queue 0 lies outside of the window. */
  "mmio-notify-outside",
  /** Every register reads at random. */
  "mmio-garbage",
] as const;

/** Name of such a lie. */
export type MmioLie = typeof MMIO_LIES[number];

/** All of them. */
export const MMIO_FAMILY: LieFamily<MmioLie> = {
  who: "a virtio-mmio device",
  prefix: "mmio-",
  names: MMIO_LIES,
  numbers: (lie) => lie === "mmio-garbage" ? [1, 0] : [0, Infinity],
};

/** Lies of registers of any device that are about BARs. */
const OF_BARS: readonly string[] = ["doorbell-past-structure", "doorbell-out-of-bar"];

/** A device that tells this lie. @throws UsageError as an honest one, and for a lie about what only PCI has */
export function lyingMmioView(
  model: DeviceModel,
  options: MmioViewOptions,
  plan: LiePlan<DeviceLie | MmioLie>,
): MmioView {
  const { lie } = plan;
  if (OF_BARS.includes(lie)) throw new UsageError(`${lie} is a lie about BARs, a platform device has none`);
  if ([...QUEUE_LIES, ...PACKED_LIES].includes(lie as QueueLie)) {
    return new MmioView(model, { ...options, makeQueue: lyingQueues(plan as LiePlan<QueueLie>) });
  }
  return new MmioView(model, { ...options, overRegisters: (honest) => new LyingRegisters(honest, plan) });
}

/** A register file before an honest one. */
class LyingRegisters implements MmioRegisterFile {
  readonly table: RegisterTable;
  readonly #honest: MmioRegisterFile;
  readonly #occasions: Occasions<DeviceLie | MmioLie>;
  readonly #told: LieSwitch;
  readonly #random: () => number;
  /** Status that a reset which never finishes shows. */
  #stuck = 0;
  #generation = 0;

  constructor(honest: MmioRegisterFile, plan: LiePlan<DeviceLie | MmioLie>) {
    this.table = honest.table;
    this.#honest = honest;
    this.#told = plan.told ?? new LieSwitch();
    this.#occasions = new Occasions(plan);
    this.#random = xorshift(plan.numbers[0]);
  }

  get selectors(): Selectors {
    return this.#honest.selectors;
  }

  get(name: MmioRegisterName, high: boolean): number {
    if (this.#told.on && this.#occasions.lie === "mmio-garbage") return this.#random();
    const honest = this.#honest.get(name, high);
    if (name === "device_status" && this.#stuck !== 0) return this.#stuck;
    return this.#occasion(name, honest) && this.#occasions.take() ? this.#lie(name, honest) : honest;
  }

  set(name: MmioRegisterName, high: boolean, value: number): void {
    const before = this.#honest.get("device_status", false);
    if (this.#occasions.lie === "vector-refused" && (name === "msi_cmd" || name === "msi_status")) {
      if (this.#occasions.take()) return;
    }
    this.#honest.set(name, high, value);
    if (name !== "device_status" || this.#occasions.lie !== "reset-never-finishes") return;
    // Not the reset of a device that nobody has touched: it would have no status to go on showing.
    this.#stuck = value === 0 && before !== 0 && this.#stuck === 0 && this.#occasions.take() ? before : 0;
  }

  cleared(): void {
    this.#honest.cleared();
  }

  poweredOn(): void {
    this.#stuck = 0;
    this.#honest.poweredOn();
  }

  /** Whether the lie is about this register as it reads now. */
  #occasion(name: MmioRegisterName, honest: number): boolean {
    switch (this.#occasions.lie) {
      case "generation-never-settles":
        return name === "config_generation";
      case "features-ok-refused":
        return name === "device_status" && (honest & STATUS.featuresOk) !== 0;
      case "queue-size-zero":
      case "queue-size-odd":
      case "mmio-queue-size-large":
        return name === "queue_size_max";
      case "queue-enable-ignored":
        return name === "queue_ready";
      case "version-1-missing":
        return name === "device_features" && this.selectors.device_feature_select === 1;
      case "mmio-magic":
        return name === "magic_value";
      case "mmio-version":
        return name === "version";
      case "mmio-device-id-zero":
        return name === "device_id";
      case "mmio-shm-base":
        return name === "shm_base";
      case "mmio-notify-outside":
        return name === "queue_notify";
      default:
        return false;
    }
  }

  #lie(name: MmioRegisterName, honest: number): number {
    switch (this.#occasions.lie) {
      case "generation-never-settles":
        return ++this.#generation & 0xff;
      case "features-ok-refused":
        return honest & ~STATUS.featuresOk;
      case "queue-size-odd":
        return 3;
      case "mmio-queue-size-large":
        return 0xffff;
      case "version-1-missing":
        return (honest & ~1) >>> 0;
      case "mmio-magic":
        return (honest ^ 0x2000) >>> 0;
      case "mmio-version":
        return MMIO_VERSION.v3 + 1;
      case "mmio-shm-base":
        return 0xffff_ffff;
      case "mmio-notify-outside":
        return encodeRegister(MMIO_V3_CFG[name as "queue_notify"], { base: 0xfffc, multiplier: 0xfffc });
      default:
        return 0;
    }
  }
}
