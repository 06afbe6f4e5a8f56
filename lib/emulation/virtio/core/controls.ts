/**
 * What may be done to any virtio device from outside.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import { type DeviceControls, either } from "../../device_control.ts";
import type { DeviceState } from "./state.ts";

/** Those that every device has. */
export function commonControls(device: DeviceState): DeviceControls {
  const needsReset = either(["yes", "no"], () => device.needsReset, (yes) => {
    if (!yes) throw new UsageError("only a reset by its driver ends DEVICE_NEEDS_RESET");
    device.fail();
  });
  return { "needs-reset": needsReset };
}
