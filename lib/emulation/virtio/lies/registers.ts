/**
 * Registers that lie.
 *
 * @module
 */
import { STATUS } from "../../../virtio/spec/status.ts";
import type { ServedDoorbell } from "../../../sockets/vfio_user/server/served_device.ts";
import type { DeviceModel } from "../../device_model.ts";
import type { ResetKind } from "../../device_behaviour.ts";
import type { VendorCapability } from "../../pci_function.ts";
import type { VirtioCore } from "../core/core.ts";
import { type CommonName, PciCommon } from "../views/pci/common.ts";
import { structureCapabilities, STRUCTURES_BAR } from "../views/pci/layout.ts";
import { PciView, type PciViewOptions } from "../views/pci/view.ts";
import { type LiePlan, Occasions } from "./lie.ts";

/** Lies that registers tell; the reset lie once, the others always, unless told otherwise. */
export const REGISTER_LIES = [
  /** `config_generation` differs at every read. */
  "generation-never-settles",
  /** After a write of 0, `device_status` goes on reading as before, until 0 is written again. */
  "reset-never-finishes",
  /** FEATURES_OK does not stay set. */
  "features-ok-refused",
  /** `queue_size` reads 0: the queue does not exist. */
  "queue-size-zero",
  /** `queue_size` reads 3, which is no power of two. */
  "queue-size-odd",
  /** `queue_enable` reads 0 after 1 was written. */
  "queue-enable-ignored",
  /** Every MSI-X vector is refused. */
  "vector-refused",
  /** `queue_notify_off` leads past the end of the notify structure. */
  "doorbell-past-structure",
  /** The notify structure lies outside its BAR. */
  "doorbell-out-of-bar",
  /** VERSION_1 is not offered. */
  "version-1-missing",
] as const;

/** Name of a lie of registers. */
export type RegisterLie = typeof REGISTER_LIES[number];

/** The common configuration of a function that lies. */
class LyingCommon extends PciCommon {
  readonly #occasions: Occasions<RegisterLie>;
  /** Status that a reset which never finishes shows. */
  #stuck = 0;
  #generation = 0;

  constructor(core: VirtioCore, occasions: Occasions<RegisterLie>) {
    super(core);
    this.#occasions = occasions;
  }

  protected override get(name: CommonName, high: boolean): number {
    const honest = super.get(name, high);
    if (name === "device_status" && this.#stuck !== 0) return this.#stuck;
    return this.#occasion(name, honest) && this.#occasions.take() ? this.#lie(honest) : honest;
  }

  /** Whether the lie is about this register as it reads now. */
  #occasion(name: CommonName, honest: number): boolean {
    switch (this.#occasions.lie) {
      case "generation-never-settles":
        return name === "config_generation";
      case "features-ok-refused":
        return name === "device_status" && (honest & STATUS.featuresOk) !== 0;
      case "queue-size-zero":
      case "queue-size-odd":
        return name === "queue_size";
      case "queue-enable-ignored":
        return name === "queue_enable";
      case "vector-refused":
        return name === "queue_msix_vector" || name === "config_msix_vector";
      case "doorbell-past-structure":
        return name === "queue_notify_off";
      case "version-1-missing":
        return name === "device_feature" && this.selectors.device_feature_select === 1;
      default:
        return false;
    }
  }

  #lie(honest: number): number {
    switch (this.#occasions.lie) {
      case "generation-never-settles":
        return ++this.#generation & 0xff;
      case "features-ok-refused":
        return honest & ~STATUS.featuresOk;
      case "queue-size-odd":
        return 3;
      case "vector-refused":
        return 0xffff;
      case "doorbell-past-structure":
        // The notify structure has one doorbell a queue, so this one is just past the last.
        return this.core.queues.length;
      case "version-1-missing":
        return (honest & ~1) >>> 0;
      default:
        return 0;
    }
  }

  protected override set(name: CommonName, high: boolean, value: number): void {
    const before = this.core.status;
    super.set(name, high, value);
    if (name !== "device_status" || this.#occasions.lie !== "reset-never-finishes") return;
    // Not the reset of a device that nobody has touched: it would have no status to go on showing.
    this.#stuck = value === 0 && before !== 0 && this.#stuck === 0 && this.#occasions.take() ? before : 0;
  }

  /** A reset of the function ends at once. */
  unstick(): void {
    this.#stuck = 0;
  }
}

/** A function whose registers lie. */
export class LyingPciView extends PciView {
  declare readonly vendorCapabilities: readonly VendorCapability[];
  readonly #lie: RegisterLie;
  readonly #common: LyingCommon;

  /** It tells this lie. @throws UsageError as an honest one */
  constructor(model: DeviceModel, options: PciViewOptions, plan: LiePlan<RegisterLie>) {
    let common!: LyingCommon;
    const occasions = new Occasions(plan);
    super(model, { ...options, makeCommon: (core) => common = new LyingCommon(core, occasions) });
    this.#common = common;
    this.#lie = plan.lie;
    if (plan.lie !== "doorbell-out-of-bar") return;
    this.vendorCapabilities = structureCapabilities(
      this.core.queues.length,
      model.configSizeBytes,
      this.bars.find(({ index }) => index === STRUCTURES_BAR)!.sizeBytes,
      common.sizeBytes,
    );
  }

  /** A doorbell that cannot be reached by its register is not to be had as eventfd either. */
  override doorbells(bar: number): readonly ServedDoorbell[] {
    return this.#lie.startsWith("doorbell-") ? [] : super.doorbells(bar);
  }

  /** Forgets everything of the driver. */
  override reset(kind: ResetKind): void {
    this.#common.unstick();
    super.reset(kind);
  }

  /** A lie has a state of its own, which is not in its parts: it stays where it is. */
  override get migration(): undefined {
    return undefined;
  }
}
