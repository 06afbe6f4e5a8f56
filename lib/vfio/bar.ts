/**
 * Registers of one BAR, mapped where they can be.
 *
 * @module
 */
import { requireType, typedErrors } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import { REGION, type VfioDevice } from "./device.ts";
import { MappedRegion } from "./mapped_region.ts";

/** One BAR of an opened function; its number is `index`. */
export class Bar extends MappedRegion {
  static {
    typedErrors(this);
  }

  /**
   * Maps nothing yet: that happens at the first access to each mappable part.
   * @param device an open function; stays the caller's. @param index 0 … 5. @throws UsageError when it has no such BAR
   */
  constructor(device: VfioDevice, index: number) {
    requireType(device, "object", "new Bar: device", "name", "regionInfo", "readRegion", "writeRegion");
    if (!Number.isInteger(index) || index < REGION.bar0 || index > REGION.bar5) {
      throw new UsageError(`${device.name}: there is no BAR ${shown(index)}`, {
        hint: "BARs are 0 to 5",
      });
    }
    super(device, index, `BAR ${index}`);
  }
}
