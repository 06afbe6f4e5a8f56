/**
 * Lies that any device can tell.
 *
 * @module
 */
import type { DeviceModel } from "../../device_model.ts";
import { PciView, type PciViewOptions } from "../views/pci/view.ts";
import { type LieFamily, type LiePlan, ONCE } from "./lie.ts";
import { lyingQueues, PACKED_LIES, QUEUE_LIES, type QueueLie } from "./queues.ts";
import { LyingPciView, REGISTER_LIES, type RegisterLie } from "./registers.ts";

/** Name of a lie. */
export type DeviceLie = QueueLie | RegisterLie;

/** Lies of queues and registers: once each, but for those of registers that are not about a reset. */
export const DEVICE_FAMILY: LieFamily<DeviceLie> = {
  who: "a device",
  prefix: "",
  names: [...QUEUE_LIES, ...PACKED_LIES, ...REGISTER_LIES],
  fixed: ["doorbell-out-of-bar"],
  numbers: (lie) => isRegisterLie(lie) && lie !== "reset-never-finishes" ? [0, Infinity] : ONCE,
};

function isRegisterLie(lie: DeviceLie): lie is RegisterLie {
  return (REGISTER_LIES as readonly string[]).includes(lie);
}

/** A function that tells this lie. @throws UsageError as an honest one */
export function lyingView(model: DeviceModel, options: PciViewOptions, plan: LiePlan<DeviceLie>): PciView {
  const { lie, ...numbers } = plan;
  return isRegisterLie(lie)
    ? new LyingPciView(model, options, { lie, ...numbers })
    : new PciView(model, { ...options, makeQueue: lyingQueues({ lie, ...numbers }) });
}
