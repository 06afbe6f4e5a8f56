/**
 * `ringside admin PF parts …`: a VF's state as device parts.
 *
 * @module
 */
import type { AdminMember } from "../../drivers/admin/virtio_admin.ts";
import type { Host } from "../../lib/host/mod.ts";
import { deviceTypeName } from "../../lib/virtio/mod.ts";
import {
  describeParts,
  type DevicePartView,
  loadParts,
  saveParts,
} from "../../lib/virtio/admin/device_part_text.ts";
import { ofFile, readJsonFile, writeJsonFile } from "../json_file.ts";
import { countText, print, printJson, printTable, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { openMember } from "./owner.ts";

/** Shows a VF's parts. */
export async function adminPartsShow(host: Host, options: Of<"admin parts show">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { member, address, deviceId, about } = await openMember(host, options, stack);
  const parts = describeParts(await member.saveParts(), deviceId);
  if (options.json) return printJson({ ...about, deviceId, parts });
  print(`${address}: ${deviceTypeName(deviceId)}, ${countText(parts.length, "part")}`);
  printTable(
    ["PART", "OF", "VALUE", "OPTIONAL"],
    parts.map(({ name, selector, value, optional }) => [
      name,
      selector,
      valueText(value, selector),
      optional ? "yes" : "",
    ]),
    { drop: [3], shrink: [2] },
  );
}

/** Saves a VF's parts. */
export async function adminPartsSave(host: Host, options: Of<"admin parts save">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { member, address, deviceId, about } = await openMember(host, options, stack);
  const parts = await stopped(member, () => member.saveParts());
  writeJsonFile(options.file, saveParts(parts, deviceId));
  if (options.json) printJson({ ...about, file: options.file, parts: parts.length });
  else print(`${countText(parts.length, "part")} of ${address} in ${options.file}`);
}

/** Loads parts into a VF. */
export async function adminPartsLoad(host: Host, options: Of<"admin parts load">): Promise<void> {
  const saved = readJsonFile(options.file, (value) => value);
  await using stack = new AsyncDisposableStack();
  const { member, address, deviceId, about } = await openMember(host, options, stack);
  const { parts } = ofFile(options.file, () => loadParts(saved, deviceId));
  if (!options.dryRun) {
    if (options.keepStopped) await member.loadParts(parts);
    else await stopped(member, () => member.loadParts(parts));
  }
  if (options.json) {
    printJson({ ...about, file: options.file, parts: parts.length, stopped: options.keepStopped });
  } else {
    print(`${countText(parts.length, "part")} of ${options.file} in ${address}`);
    if (options.keepStopped && !options.dryRun) remark(`${address} is stopped`);
  }
}

/** Whatever happens, the VF goes on. */
async function stopped<T>(member: AdminMember, act: () => Promise<T>): Promise<T> {
  await member.setMode(true);
  let result: T;
  try {
    result = await act();
  } catch (error) {
    await member.setMode(false).catch(() => {});
    throw error;
  }
  await member.setMode(false);
  return result;
}

/** `size 256, vector 1, enabled true`; a register's value without its name, which is said already. */
function valueText(value: DevicePartView["value"], selector: string): string {
  return Object.entries(value).map(([name, one]) => {
    const text = one === null ? "none" : Array.isArray(one) ? one.join(" ") : `${one}`;
    return name === selector ? text : `${name} ${text}`.trimEnd();
  }).join(", ");
}
