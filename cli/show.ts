/**
 * `ringside show`
 *
 * @module
 */
import type { FunctionInfo, Host } from "../lib/host/mod.ts";
import { isVfioDriver } from "../lib/host/changes/driver_binding.ts";
import { readPciNames } from "../lib/host/functions/names.ts";
import { RingsideError } from "../lib/errors/mod.ts";
import { ConfigSpace, describeFunction, formatFunction, PciAddress } from "../lib/pci/mod.ts";
import { REGION_FLAG, type RegionInfo } from "../lib/vfio/mod.ts";
import { type FunctionFacts, inspect } from "../lib/virtio/mod.ts";
import { forHost } from "./failure.ts";
import { bytesText, hex, hexText, print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { openOptions, transportOptions } from "./opening.ts";
import { isManaged } from "./reaching.ts";
import { showManaged } from "./tvq/show.ts";
import { printVirtioFacts } from "./virtio_facts.ts";

const REGION_NAMES = ["BAR0", "BAR1", "BAR2", "BAR3", "BAR4", "BAR5", "ROM", "config", "VGA"];
const IRQ_NAMES = ["INTx", "MSI", "MSI-X", "error", "request"];

/** Decodes a function, or a managed device that is made for it. */
export async function show(host: Host, options: Of<"show">): Promise<void> {
  if (isManaged(options.function)) return await showManaged(host, options);
  const about = host.describe(options.function);
  const config = host.readConfig(about.address);
  const sizes = host.barSizes(about.address);
  const names = readPciNames();
  const space = new ConfigSpace(withIds(config, about));
  const address = PciAddress.parse(about.address);
  const opened = openedFacts(host, options, about.driver);
  if (options.json) {
    return printJson({
      ...about,
      config: describeFunction(space, { address, names, barSizes: sizes.slice(0, 6) }),
      ...(options.hex ? { bytes: hexText(config) } : {}),
      ...("facts" in opened ? { vfio: opened.facts } : { vfioClosed: opened.why }),
    });
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
  for (const line of lines) print(line);
  if (config.length < 256) print("\t(only the first 64 bytes can be read: run as root for the capabilities)");
  if ("facts" in opened) printFacts(opened.facts);
  else print(`\tVFIO: ${opened.why}`);
  if (options.hex) printHex(config);
}

/** A VF's own configuration space says ffff:ffff (SR-IOV §3.4.1); the kernel knows its ids from the PF. */
function withIds(config: Uint8Array<ArrayBuffer>, about: FunctionInfo): Uint8Array<ArrayBuffer> {
  if (about.physicalFunction === undefined) return config;
  const copy = config.slice();
  const view = new DataView(copy.buffer);
  view.setUint16(0, about.vendorId, true);
  view.setUint16(2, about.deviceId, true);
  return copy;
}

function openedFacts(
  host: Host,
  options: Of<"show">,
  driver: string | undefined,
): { facts: FunctionFacts } | { why: string } {
  if (driver === undefined || !isVfioDriver(driver)) {
    return { why: "not opened: regions, vectors and virtio features show when the function is on vfio-pci" };
  }
  try {
    using device = host.open(options.function, openOptions(options));
    return { facts: inspect(device, transportOptions(device, options)) };
  } catch (error) {
    if (!(error instanceof RingsideError)) throw error;
    const hint = error.hint === "" ? "" : ` (${forHost(error.hint, host.name)})`;
    return { why: `not opened: ${error.message}${hint}` };
  }
}

function printFacts(facts: FunctionFacts): void {
  print(`\tVFIO: by ${facts.path}${facts.resettable ? ", can be reset" : ""}`);
  for (const region of facts.regions) print(`\t\tRegion ${regionText(region)}`);
  for (const irq of facts.interrupts) {
    const name = IRQ_NAMES[irq.index] ?? `index ${irq.index}`;
    print(`\t\tInterrupt ${name}: ${irq.count} vector${irq.count === 1 ? "" : "s"}`);
  }
  const { virtio } = facts;
  if (virtio === undefined) return;
  printVirtioFacts(virtio);
}

function regionText(region: RegionInfo): string {
  const name = REGION_NAMES[region.index] ?? String(region.index);
  const access = [
    region.flags & REGION_FLAG.read ? "read" : "",
    region.flags & REGION_FLAG.write ? "write" : "",
  ].filter((one) => one !== "").join("/");
  const areas = region.mmapAreas
    .map((area) => `0x${area.offset.toString(16)}+${bytesText(area.sizeBytes)}`).join(", ");
  return `${name}: ${bytesText(region.sizeBytes)}, ${access}${areas === "" ? "" : `, mappable ${areas}`}`;
}

function printHex(config: Uint8Array): void {
  for (let at = 0; at < config.length; at += 16) {
    const bytes = [...config.subarray(at, at + 16)].map((byte) => hex(byte, 2)).join(" ");
    print(`${hex(at, config.length > 256 ? 3 : 2)}: ${bytes}`);
  }
}
