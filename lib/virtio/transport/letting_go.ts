/**
 * Letting go of a PCI function, which may be gone.
 *
 * @module
 */
import type { ConfigAccess } from "../../vfio/config_access.ts";

/** A step whose failure does not keep the others from being done. @returns whether it was done */
export function quietly(step: () => unknown): boolean {
  try {
    step();
    return true;
  } catch {
    return false;
  }
}

/**
 * Puts the two bits of the Command register back that opening turned on, and leaves the others as they are now.
 * @param before the register before opening
 * @param stopped the device has taken its reset: else bus mastering goes off, since it may still write to memory
 */
export function restoreCommand(config: ConfigAccess, before: number, stopped = true): void {
  config.setCommand({ memory: (before & 2) !== 0, busMaster: stopped && (before & 4) !== 0 });
}
