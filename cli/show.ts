/**
 * `ringside show`
 *
 * @module
 */
import type {
  FunctionInfo,
  Host,
  PciFunctionInfo,
  PlatformDeviceInfo,
  VhostUserInfo,
} from "../lib/host/mod.ts";
import { isVfioDriver } from "../lib/host/changes/driver_binding.ts";
import { readPciNames } from "../lib/host/functions/names.ts";
import { RingsideError, UsageError } from "../lib/errors/mod.ts";
import { ConfigSpace, describeFunction, formatFunction, PciAddress } from "../lib/pci/mod.ts";
import { busOf } from "../lib/vfio/bus.ts";
import { REGION_FLAG, type RegionInfo } from "../lib/vfio/mod.ts";
import { virtioFacts } from "../lib/virtio/inspect.ts";
import { type FunctionFacts, inspect } from "../lib/virtio/mod.ts";
import { forHost } from "./failure.ts";
import { bytesText, hex, hexText, print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { openOptions, transportOptions } from "./opening.ts";
import { isManaged, reach } from "./reaching.ts";
import { functionJson } from "./function_json.ts";
import { meansAll, meansOne, selected } from "./selecting.ts";
import { printDecoded, printHex } from "./show_dump.ts";
import { showManaged } from "./tvq/show.ts";
import { withIds } from "./vf_config.ts";
import { printVirtioFacts } from "./virtio_facts.ts";

const REGION_NAMES = ["BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5", "ROM", "config", "VGA"];
const IRQ_NAMES = ["INTx", "MSI", "MSI-X", "error", "request"];

/** Decodes functions, and managed devices that are made for it. @throws UsageError */
export async function show(host: Host, options: Of<"show">): Promise<void> {
  const one = meansOne(options.functions, options);
  const names = namesOf(host, options);
  const shown: unknown[] = [];
  for (const [index, name] of names.entries()) {
    if (index > 0 && !options.json) print();
    shown.push(await showFunction(host, { ...options, function: name }));
  }
  if (options.json) printJson(one ? shown[0] : shown);
}

/** Managed devices by the names that were given, since they are not there yet; everything else by address. */
function namesOf(host: Host, options: Of<"show">): string[] {
  if (meansAll(options.functions, options)) {
    throw new UsageError("show needs a FUNCTION, an option that chooses some, or --dump FILE", {
      hint: "ringside list shows the functions of this host",
    });
  }
  const managed = options.functions.filter(isManaged);
  const named = options.functions.filter((name) => !isManaged(name));
  if (meansAll([], options)) {
    // Nothing is shown when one of several is not there.
    if (options.functions.length > 1) { for (const name of named) host.describe(name); }
    return [...options.functions];
  }
  return [...selected(host, "show", named, options).map((one) => one.address), ...managed];
}

type Shown = Of<"show"> & { readonly function: string };

/** Prints what there is to be said of a function. @returns it, instead, where it is to be JSON */
async function showFunction(host: Host, options: Shown): Promise<unknown> {
  const { function: name } = options;
  if (isManaged(name)) return await showManaged(host, options);
  const about = host.describe(name);
  if (about.bus === "platform") return showPlatform(host, options, about);
  if (about.bus === "vhost-user") return await showVhostUser(host, options, about);
  return showPci(host, options, about);
}

function showPci(host: Host, options: Shown, about: PciFunctionInfo): unknown {
  const config = host.readConfig(about.address);
  const sizes = host.barSizes(about.address);
  const names = readPciNames();
  const space = new ConfigSpace(withIds(config, about));
  const address = PciAddress.parse(about.address);
  const opened = openedFacts(host, options, about);
  if (options.json) {
    return {
      ...functionJson(about),
      config: describeFunction(space, { address, names, barSizes: sizes.slice(0, 6) }),
      ...(options.hex ? { bytes: hexText(config) } : {}),
      ...("facts" in opened ? { vfio: opened.facts } : { vfioClosed: opened.why }),
    };
  }
  const lines = formatFunction(space, {
    address,
    names,
    barSizes: sizes.slice(0, 6),
    ...(sizes[6] ? { romBytes: sizes[6] } : {}),
    host: {
      driver: about.driver,
      iommuGroup: about.iommuGroup,
      numaNode: about.numaNode < 0 ? undefined : about.numaNode,
    },
  });
  // A function that is gone says no name either, but the kernel remembers its ids.
  if (!space.isPresent) {
    lines[0] = `${lines[0]!.split(" ")[0]} ${about.className}: ${about.vendorName} ${about.deviceName}`;
  }
  printDecoded(lines);
  if (config.length === 64) {
    print("\t(only the first 64 bytes can be read: run as root for the capabilities)");
  }
  if ("facts" in opened) printFacts(opened.facts, [REGION_NAMES, IRQ_NAMES]);
  else print(`\tVFIO: ${opened.why}`);
  if (options.hex) printHex(config);
  return undefined;
}

/** As `show`, of what has no configuration space. @throws UnsupportedError when its bytes are asked for */
function showPlatform(host: Host, options: Shown, about: PlatformDeviceInfo): unknown {
  if (options.hex) host.readConfig(about.address);
  const opened = openedFacts(host, options, about);
  if (options.json) {
    return {
      ...functionJson(about),
      ...("facts" in opened ? { vfio: opened.facts } : { vfioClosed: opened.why }),
    };
  }
  printDecoded([`${about.address} platform device: ${about.deviceName}`]);
  if (about.compatible.length > 0) print(`\tCompatible: ${about.compatible.join(", ")}`);
  else if (about.modalias !== undefined) print(`\tModule alias: ${about.modalias}`);
  if (about.registers !== undefined) {
    const { address, sizeBytes } = about.registers;
    print(`\tRegisters: 0x${hex(address, 8)}, ${bytesText(sizeBytes)}`);
  }
  if (about.iommuGroup !== undefined) print(`\tIOMMU group: ${about.iommuGroup}`);
  if (about.numaNode >= 0) print(`\tNUMA node: ${about.numaNode}`);
  print(`\tKernel driver in use: ${about.driver ?? "none"}`);
  const children = [...about.netInterfaces, ...about.blockDevices];
  if (children.length > 0) print(`\tUsed as: ${children.join(", ")}`);
  if ("facts" in opened) printFacts(opened.facts, []);
  else print(`\tVFIO: ${opened.why}`);
  return undefined;
}

/** As `show`, of what has neither configuration space nor registers. @throws UnsupportedError when the bytes are asked for */
async function showVhostUser(
  host: Host,
  options: Shown,
  about: VhostUserInfo,
): Promise<unknown> {
  if (options.hex) host.readConfig(about.address);
  await using stack = new AsyncDisposableStack();
  const virtio = virtioFacts(await reach(host, options, stack));
  if (options.json) return { ...functionJson(about), virtio };
  printDecoded([`${about.address} vhost-user: ${about.deviceName}`]);
  printVirtioFacts(virtio);
  return undefined;
}

function openedFacts(
  host: Host,
  options: Of<"show">,
  { address, driver }: FunctionInfo,
): { facts: FunctionFacts } | { why: string } {
  if (driver === undefined || !isVfioDriver(driver)) {
    const { vfioDriver } = busOf(address);
    return {
      why: `not opened: regions, vectors and virtio features show when the function is on ${vfioDriver}`,
    };
  }
  try {
    using device = host.open(address, openOptions(options));
    return { facts: inspect(device, transportOptions(device, options)) };
  } catch (error) {
    if (!(error instanceof RingsideError)) throw error;
    const hint = error.hint === "" ? "" : ` (${forHost(error.hint, host.name)})`;
    return { why: `not opened: ${error.message}${hint}` };
  }
}

/** @param names of regions and interrupts, where the bus gives them some */
function printFacts(facts: FunctionFacts, [regions = [], irqs = []]: readonly (readonly string[])[]): void {
  print(`\tVFIO: by ${facts.path}${facts.resettable ? ", can be reset" : ""}`);
  for (const region of facts.regions) print(`\t\tRegion ${regionText(region, regions)}`);
  for (const irq of facts.interrupts) {
    const name = irqs[irq.index] ?? `index ${irq.index}`;
    print(`\t\tInterrupt ${name}: ${irq.count} vector${irq.count === 1 ? "" : "s"}`);
  }
  const { virtio, virtioLack } = facts;
  if (virtio !== undefined) printVirtioFacts(virtio);
  else if (virtioLack !== undefined) print(`\tVirtio: ${virtioLack}`);
}

function regionText(region: RegionInfo, names: readonly string[]): string {
  const name = names[region.index] ?? String(region.index);
  const access = [
    region.flags & REGION_FLAG.read ? "read" : "",
    region.flags & REGION_FLAG.write ? "write" : "",
  ].filter((one) => one !== "").join("/");
  const areas = region.mmapAreas
    .map((area) => `0x${area.offset.toString(16)}+${bytesText(area.sizeBytes)}`).join(", ");
  return `${name}: ${bytesText(region.sizeBytes)}, ${access}${areas === "" ? "" : `, mappable ${areas}`}`;
}
