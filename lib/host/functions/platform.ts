/**
 * What sysfs says of a platform device: what firmware calls it, where its registers are, and what a driver of the host made of it.
 *
 * @module
 */
import { VIRTIO_TYPE_NAMES } from "../../pci/virtio_ids.ts";
import { sysfsDirectory } from "../../vfio/bus.ts";
import { isVfioDriver } from "../changes/driver_binding.ts";
import type { AnyFunctionInfo, FunctionInfo, PlatformDeviceInfo } from "../host.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";

/** Driver of the host for virtio devices on this bus. */
const VIRTIO_MMIO = "virtio-mmio";
/** Cells of 32 bits in an address and in a size where the node above does not say (Devicetree Specification 2.3.5). */
const DEFAULT_CELLS = { address: 2, size: 1 } as const;

/** What is a platform device's own of its description. */
type Own = Omit<PlatformDeviceInfo, Exclude<keyof AnyFunctionInfo, "deviceName">>;

/** Reads a device, by its full name. @throws SyscallError */
export function readPlatform(attributes: FunctionAttributes, address: string): Own {
  const directory = sysfsDirectory(address);
  const compatible = readCompatible(attributes, directory);
  const modalias = attributes.optional(`${directory}/modalias`);
  const virtioType = attributes.driver(address) === VIRTIO_MMIO
    ? readVirtioType(attributes, directory)
    : undefined;
  const registers = readRegisters(attributes, address, directory);
  return {
    bus: "platform",
    deviceName: nameOf(virtioType, compatible, modalias) ?? address,
    compatible,
    ...(modalias === undefined ? {} : { modalias }),
    ...(registers === undefined ? {} : { registers }),
    ...(virtioType === undefined ? {} : { virtioType }),
  };
}

/**
 * Whether a device is one that a user wants to see without asking for all of them. The platform bus is full of what nobody gives away (clocks, buttons,
 * the interrupt controller), so it takes a reason: an IOMMU is in front of it, it is a virtio device that is there, or it is given to VFIO or about
 * to be. PCI functions all are.
 */
export function isOfUse(one: FunctionInfo): boolean {
  return one.bus === "pci" || one.iommuGroup !== undefined || one.driver === VIRTIO_MMIO ||
    one.driverOverride !== undefined || one.heldBy !== undefined ||
    (one.driver !== undefined && isVfioDriver(one.driver));
}

/** By address: unit addresses are hexadecimal numbers without leading zeros, and instances are counted. */
export function comparePlatformNames(a: string, b: string): number {
  const [unitA = "", restA = ""] = a.split(/[.:]/);
  const [unitB = "", restB = ""] = b.split(/[.:]/);
  return unitA.length - unitB.length || compare(unitA, unitB) || restA.length - restB.length ||
    compare(restA, restB);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Texts that each end with a 0. */
function readCompatible(attributes: FunctionAttributes, directory: string): string[] {
  const bytes = attributes.optionalBytes(`${directory}/of_node/compatible`);
  return new TextDecoder().decode(bytes).split("\0").filter((one) => one !== "");
}

/** `virtioN` below the device has its type. */
function readVirtioType(attributes: FunctionAttributes, directory: string): number | undefined {
  const child = attributes.optionalList(directory).find((name) => /^virtio\d+$/.test(name));
  const text = child === undefined ? undefined : attributes.optional(`${directory}/${child}/device`);
  return text === undefined || !/^0x[0-9a-f]+$/i.test(text) ? undefined : Number(text);
}

/** The first window of `reg`. Its address is in the device's name already translated to the processor's; only the size is read. */
function readRegisters(
  attributes: FunctionAttributes,
  address: string,
  directory: string,
): Own["registers"] {
  const unit = /^([0-9a-f]+)\./.exec(address)?.[1];
  const bytes = unit === undefined ? undefined : attributes.optionalBytes(`${directory}/of_node/reg`);
  if (bytes === undefined) return undefined;
  const cells = (name: "address" | "size"): number => {
    const text = attributes.optionalBytes(`${directory}/of_node/../#${name}-cells`);
    return text?.length === 4 ? new DataView(text.buffer).getUint32(0) : DEFAULT_CELLS[name];
  };
  const from = 4 * cells("address");
  const size = bytes.slice(from, from + 4 * cells("size"));
  const start = parseInt(unit!, 16);
  const sizeBytes = size.reduce((sum, byte) => sum * 256 + byte, 0);
  return sizeBytes > 0 && Number.isSafeInteger(start + sizeBytes) ? { address: start, sizeBytes } : undefined;
}

function nameOf(
  virtioType: number | undefined,
  compatible: readonly string[],
  modalias: string | undefined,
): string | undefined {
  if (virtioType !== undefined) {
    return `Virtio MMIO ${VIRTIO_TYPE_NAMES.get(virtioType) ?? `device of type ${virtioType}`}`;
  }
  return compatible[0] ?? /^(?:acpi|platform):([^:]+)/.exec(modalias ?? "")?.[1];
}
