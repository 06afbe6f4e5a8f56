/**
 * `ringside list`
 *
 * @module
 */
import type { FunctionInfo, Host } from "../lib/host/mod.ts";
import { hex, print, printJson, printTable } from "./output.ts";
import type { Of } from "./parser.ts";

const HEAD = ["FUNCTION", "ID", "CLASS", "NAME", "DRIVER", "GROUP", "NUMA", "VFS", "IN USE BY"];
const GIVES_WAY = { drop: [HEAD.indexOf("CLASS"), HEAD.indexOf("NUMA")], shrink: [HEAD.indexOf("NAME")] };

/** Lists functions. */
export function list(host: Host, options: Of<"list">): void {
  const functions = host.list({ all: options.all })
    .filter((one) => !options.sriov || one.sriov !== undefined)
    .filter((one) => options.driver === undefined || one.driver === options.driver);
  if (options.json) return printJson(functions);
  if (functions.length === 0) {
    print("no functions" + (options.sriov || options.driver !== undefined ? " match" : ""));
    return;
  }
  printTable(
    HEAD,
    functions.map((one) => [
      one.address,
      ...kind(one),
      one.deviceName,
      driver(one),
      one.iommuGroup === undefined ? "-" : group(one),
      one.numaNode < 0 ? "-" : String(one.numaNode),
      vfs(one),
      users(one),
    ]),
    GIVES_WAY,
  );
}

/** ID and class: what a PCI function says of itself, what firmware says of a platform device, and the caller of what is behind a socket. */
function kind(one: FunctionInfo): [id: string, className: string] {
  if (one.bus === "vhost-user") return [`virtio ${one.virtioType}`, "vhost-user"];
  return one.bus === "pci"
    ? [`${hex(one.vendorId, 4)}:${hex(one.deviceId, 4)}`, one.className]
    : [one.compatible[0] ?? "-", "platform device"];
}

function driver(one: FunctionInfo): string {
  const bound = one.driver ?? "-";
  const override = one.driverOverride;
  return override === undefined || override === one.driver ? bound : `${bound} (override ${override})`;
}

function group(one: FunctionInfo): string {
  const others = one.groupMembers.filter((member) => member !== one.address).length;
  return others === 0 ? String(one.iommuGroup) : `${one.iommuGroup} (+${others})`;
}

function vfs(one: FunctionInfo): string {
  if (one.sriov !== undefined) return `${one.sriov.numVfs}/${one.sriov.totalVfs}`;
  return one.physicalFunction === undefined ? "-" : `of ${one.physicalFunction.replace(/^0000:/, "")}`;
}

function users(one: FunctionInfo): string {
  const all = [...one.netInterfaces, ...one.blockDevices];
  if (one.heldBy !== undefined) all.push(one.heldBy);
  return all.length === 0 ? "-" : all.join(", ");
}
