/**
 * `ringside admin PF caps`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { ADMIN_CAP, adminCapName, DEV_PARTS_CAP } from "../../lib/virtio/spec/admin.ts";
import { countText, hex, hexText, print, printJson, printTable } from "../output.ts";
import type { Of } from "../parser.ts";
import { openOwner } from "./owner.ts";

/** Shows the capabilities of a PF. */
export async function adminCaps(host: Host, options: Of<"admin caps">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { owner, info } = await openOwner(host, options, stack);
  const caps = [];
  for (const id of await owner.capabilities.list()) {
    const bytes = await owner.capabilities.get(id);
    caps.push({ id, name: adminCapName(id), bytes: hexText(bytes), meaning: meaningOf(id, bytes) });
  }
  if (options.json) return printJson({ function: info.address, capabilities: caps });
  print(`${info.address}: ${countText(caps.length, "capability").replace("capabilitys", "capabilities")}`);
  if (caps.length === 0) return;
  printTable(
    ["ID", "CAPABILITY", "BYTES", "MEANING"],
    caps.map(({ id, name, bytes, meaning }) => [hex(id, 4), name, bytes.replace(/(00)+$/, "…"), meaning]),
    { drop: [2], shrink: [3] },
  );
}

function meaningOf(id: number, bytes: Uint8Array): string {
  if (id !== ADMIN_CAP.DEV_PARTS || bytes.length < DEV_PARTS_CAP.sizeBytes) return "";
  const { get_parts_resource_objects_limit: get, set_parts_resource_objects_limit: set } = DEV_PARTS_CAP
    .decode(bytes);
  return `objects to get parts with: ${get}, to set them with: ${set}`;
}
