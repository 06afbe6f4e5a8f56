/**
 * `ringside list`
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import type { FunctionInfo, Host } from "../lib/host/mod.ts";
import { isVfioDriver } from "../lib/host/changes/driver_binding.ts";
import { matches } from "../lib/host/selection.ts";
import { functionJson } from "./function_json.ts";
import { hex, print, printJson, printTable, type Style } from "./output.ts";
import type { Of } from "./parser.ts";
import { patternOf } from "./selecting.ts";

const COLUMNS: Readonly<Record<string, (one: FunctionInfo) => string>> = {
  FUNCTION: (one) => one.address,
  ID: (one) => kind(one)[0],
  CLASS: (one) => kind(one)[1],
  NAME: (one) => one.deviceName,
  DRIVER: driver,
  GROUP: (one) => (one.iommuGroup === undefined ? "-" : group(one)),
  NUMA: (one) => (one.numaNode < 0 ? "-" : String(one.numaNode)),
  VFS: vfs,
  "USED BY": users,
};
const ALL = Object.keys(COLUMNS);
/** What goes first where the terminal is narrow. */
const DROPPED = ["CLASS", "NUMA", "ID", "GROUP", "USED BY", "VFS"];
/** Names that differ in their ends only are told apart so. */
const LEAST_NAME = 24;
const LEAST_USERS = 16;

/** Lists functions. @throws UsageError */
export function list(host: Host, options: Of<"list">): void {
  const { columns, wide, json } = options;
  if (json && (wide || columns !== undefined)) {
    throw new UsageError("--wide and --columns are about the table: --json has everything");
  }
  const heads = columns === undefined ? ALL : chosen(columns);
  const pattern = patternOf(options);
  const functions = host.list({ all: options.all })
    .filter((one) => !options.sriov || one.sriov !== undefined)
    .filter((one) => matches(one, pattern));
  if (json) return printJson(functions.map(functionJson));
  if (functions.length === 0) {
    const all = host.list({ all: options.all }).length;
    print(all === 0 ? "no functions" : "no functions match");
    return;
  }
  const at = (name: string) => heads.indexOf(name);
  const rows = functions.map((one) => heads.map((head) => COLUMNS[head]!(one)));
  const isEmpty = (column: number) => rows.every((row) => row[column] === "-");
  const dropped = DROPPED.map(at);
  printTable(
    heads,
    rows,
    {
      drop: wide || columns !== undefined
        ? []
        : [...dropped.filter(isEmpty), ...dropped.filter((column) => !isEmpty(column))],
      shrink: wide ? [] : [at("NAME"), at("USED BY")],
      least: { [at("NAME")]: LEAST_NAME, [at("USED BY")]: LEAST_USERS },
    },
    (row, column) => (heads[column] === "DRIVER" ? driverStyle(functions[row]!) : undefined),
    "--wide shows all",
  );
}

/** @throws UsageError */
function chosen(text: string): string[] {
  return text.split(",").map((word) => {
    const head = word.trim().toUpperCase().replaceAll("-", " ");
    if (Object.hasOwn(COLUMNS, head)) return head;
    throw new UsageError(`--columns: there is no column ${JSON.stringify(word)}`, {
      hint: `columns are ${ALL.map((one) => one.replaceAll(" ", "-")).join(",")}`,
    });
  });
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

function driverStyle(one: FunctionInfo): Style | undefined {
  if (one.driver === undefined) return "yellow";
  return isVfioDriver(one.driver) ? "green" : undefined;
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
