/**
 * Which device is at an address: so that what was noted of one is not done to another that came after it.
 *
 * @module
 */
import { EXPRESS } from "../../pci/capability/express.ts";
import { SERIAL_NUMBER } from "../../pci/capability/serial_number.ts";
import { findCapability, walk } from "../../pci/capability_walk.ts";
import { ConfigSpace } from "../../pci/config_space.ts";
import { busOf, PCI, sysfsDirectory } from "../../vfio/bus.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";

const SERIAL = " serial ";

/**
 * What a device is called by: `8086:10c9 subsystem 8086:a03c class 020000 serial 90-e2-ba-ff-ff-00-11-22`, the serial number where it has one (the
 * capability, which root alone can read); of a platform device what firmware calls it. Undefined when there is none.
 */
export function identityOf(attributes: FunctionAttributes, address: string): string | undefined {
  if (!attributes.exists(address)) return undefined;
  const directory = sysfsDirectory(address);
  if (busOf(address) !== PCI) return attributes.optional(`${directory}/modalias`) ?? "platform device";
  const digits = (name: string): string =>
    (attributes.optional(`${directory}/${name}`) ?? "").replace(/^0x/, "");
  const ids = `${digits("vendor")}:${digits("device")} subsystem ${digits("subsystem_vendor")}:${
    digits("subsystem_device")
  }`;
  const serial = serialNumber(attributes.optionalBytes(`${directory}/config`));
  return `${ids} class ${digits("class")}${serial === undefined ? "" : SERIAL + serial}`;
}

/** Whether two of them can be the same device: a serial number counts where both have one. */
export function sameIdentity(one: string, other: string): boolean {
  const [ids, serial] = one.split(SERIAL);
  const [otherIds, otherSerial] = other.split(SERIAL);
  return ids === otherIds && (serial === undefined || otherSerial === undefined || serial === otherSerial);
}

function serialNumber(bytes: Uint8Array<ArrayBuffer> | undefined): string | undefined {
  if (bytes === undefined || bytes.length <= 256) return undefined;
  try {
    return findCapability(
      walk(new ConfigSpace(bytes), false, [EXPRESS, SERIAL_NUMBER]),
      "device-serial-number",
    )?.text;
  } catch {
    // A config space that cannot be decoded has no serial number.
    return undefined;
  }
}
