/**
 * Which functions a call is about: by name, and by what they are.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { NotFoundError, UsageError } from "../errors/mod.ts";
import type { FunctionInfo, Host } from "./host.ts";

/** Ids of PCI functions; what is left out is any. */
export interface IdsPattern {
  /** Vendor ID, 16 bits. */
  readonly vendorId?: number | undefined;
  /** Device ID, 16 bits. */
  readonly deviceId?: number | undefined;
}

/** What functions have in common. All that is given must hold. */
export interface FunctionPattern {
  /** One of these ids. */
  readonly ids?: readonly IdsPattern[] | undefined;
  /** First digits of the class code, in hexadecimal: `02` network, `0108` NVMe. PCI functions only. */
  readonly classDigits?: string | undefined;
  /** Driver that they are bound to. */
  readonly driver?: string | undefined;
  /** IOMMU group. */
  readonly group?: number | undefined;
}

/** Whether nothing is asked for. */
export function isAnything({ ids = [], classDigits, driver, group }: FunctionPattern): boolean {
  return ids.length === 0 && classDigits === undefined && driver === undefined && group === undefined;
}

/** Whether a function has what is asked for. */
export function matches(about: FunctionInfo, pattern: FunctionPattern): boolean {
  const { ids = [], classDigits, driver, group } = pattern;
  const isOneOf = ids.length === 0 ||
    about.bus === "pci" &&
      ids.some(({ vendorId, deviceId }) =>
        (vendorId === undefined || vendorId === about.vendorId) &&
        (deviceId === undefined || deviceId === about.deviceId)
      );
  const isOfClass = classDigits === undefined ||
    about.bus === "pci" && about.classCode.toString(16).padStart(6, "0").startsWith(classDigits);
  return isOneOf && isOfClass && (driver === undefined || driver === (about.driver ?? "")) &&
    (group === undefined || group === about.iommuGroup);
}

/**
 * Functions of a host: those that are named, in that order, and those that have what is asked for, by address. Each once.
 * @param names addresses, or interfaces and disks
 * @throws NotFoundError when a name stands for none, or no function has what is asked for; UsageError when nothing is named or asked for
 */
export function selectFunctions(
  host: Host,
  names: readonly string[],
  pattern: FunctionPattern = {},
): FunctionInfo[] {
  requireType(host, "object", "selectFunctions: host", "list", "describe");
  requireType(names, "array", "selectFunctions: names");
  if (names.length === 0 && isAnything(pattern)) throw new UsageError("no function is named");
  const found = new Map<string, FunctionInfo>();
  for (const name of names) {
    const about = host.describe(name);
    found.set(about.address, about);
  }
  if (!isAnything(pattern)) {
    const matching = host.list({ all: true }).filter((one) => matches(one, pattern));
    if (matching.length === 0) {
      throw new NotFoundError(`no function of ${host.name} has ${patternText(pattern)}`, {
        hint: "ringside list shows the functions of this host",
      });
    }
    for (const about of matching) if (!found.has(about.address)) found.set(about.address, about);
  }
  return [...found.values()];
}

function patternText({ ids = [], classDigits, driver, group }: FunctionPattern): string {
  const id = (value: number | undefined) => value?.toString(16).padStart(4, "0") ?? "";
  return [
    ...(ids.length === 0
      ? []
      : [`the ids ${ids.map((one) => `${id(one.vendorId)}:${id(one.deviceId)}`).join(" or ")}`]),
    ...(classDigits === undefined ? [] : [`class ${classDigits}`]),
    ...(driver === undefined ? [] : [`driver ${driver === "" ? "none" : driver}`]),
    ...(group === undefined ? [] : [`IOMMU group ${group}`]),
  ].join(" and ");
}
