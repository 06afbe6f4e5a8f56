/**
 * `ringside admin PF parts …`: a VF's state as device parts.
 *
 * @module
 */
import type { AdminMember } from "../../drivers/admin/virtio_admin.ts";
import { O, OwnedFd, readText, writeAll } from "../../ffi/mod.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { virtioTypeOf } from "../../lib/pci/virtio_ids.ts";
import { deviceTypeName } from "../../lib/virtio/mod.ts";
import {
  describeParts,
  type DevicePartView,
  loadParts,
  saveParts,
} from "../../lib/virtio/admin/device_part_text.ts";
import { countText, print, printJson, printTable, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { openOwner, vfAddress } from "./owner.ts";

const encoder = new TextEncoder();

/** Shows a VF's parts. */
export async function adminPartsShow(host: Host, options: Of<"admin parts show">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { owner, info } = await openOwner(host, options, stack);
  const address = vfAddress(info, options.vf);
  const deviceId = virtioId(host, address);
  const parts = describeParts(await owner.member(options.vf).saveParts(), deviceId);
  if (options.json) return printJson({ function: info.address, vf: options.vf, address, deviceId, parts });
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
  const { owner, info } = await openOwner(host, options, stack);
  const address = vfAddress(info, options.vf);
  const member = owner.member(options.vf);
  const parts = await stopped(member, () => member.saveParts());
  using file = OwnedFd.open(options.file, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
  writeAll(file, encoder.encode(`${JSON.stringify(saveParts(parts, virtioId(host, address)), null, 2)}\n`));
  if (options.json) {
    printJson({ function: info.address, vf: options.vf, address, file: options.file, parts: parts.length });
  } else print(`${countText(parts.length, "part")} of ${address} in ${options.file}`);
}

/** Loads parts into a VF. */
export async function adminPartsLoad(host: Host, options: Of<"admin parts load">): Promise<void> {
  const saved = readFile(options.file);
  await using stack = new AsyncDisposableStack();
  const { owner, info } = await openOwner(host, options, stack);
  const address = vfAddress(info, options.vf);
  const { parts } = loadParts(saved, virtioId(host, address));
  const member = owner.member(options.vf);
  if (options.keepStopped) await member.loadParts(parts);
  else await stopped(member, () => member.loadParts(parts));
  if (options.json) {
    printJson({
      function: info.address,
      vf: options.vf,
      address,
      file: options.file,
      parts: parts.length,
      stopped: options.keepStopped,
    });
  } else {
    print(`${countText(parts.length, "part")} of ${options.file} in ${address}`);
    if (options.keepStopped) remark(`${address} is stopped`);
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

function virtioId(host: Host, address: string): number {
  return virtioTypeOf(host.describe(address)) ?? 0;
}

function readFile(path: string): unknown {
  try {
    return JSON.parse(readText(path));
  } catch (error) {
    if (error instanceof SyntaxError) throw new UsageError(`${path} is not JSON: ${error.message}`);
    throw error;
  }
}
