/**
 * `ringside ism FUNCTION alloc BYTES`
 *
 * @module
 */
import { ISM_DEFAULT_PERMISSIONS } from "../../drivers/ism/virtio_ism.ts";
import { readFile } from "../../ffi/mod.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { interruption } from "../interruption.ts";
import { jsonText, print, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { hold } from "./holding.ts";
import { openIsm } from "./opening.ts";
import { permissionNames, permissionsText } from "./permissions.ts";
import { regionReport, regionText } from "./region_report.ts";
import { tokenText } from "./token.ts";

/** Allocates a region and holds it: it lives for as long as somebody refers to it. @returns the exit status */
export async function ismAlloc(host: Host, options: Of<"ism alloc">): Promise<number> {
  const content = contentOf(options);
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  // Given up with the function, which is reset when it is closed.
  const region = await ism.alloc(options.bytes);
  if (options.grant !== undefined) await ism.grantDefault(region, options.grant);
  region.write(0, content);
  const granted = options.grant ?? ISM_DEFAULT_PERMISSIONS;
  if (options.json) {
    const { name } = ism.transport;
    const defaultPermissions = permissionNames(granted);
    print(jsonText({ function: name, ...regionReport(region, ism.info), defaultPermissions }, 0));
  } else {
    print(tokenText(region.token));
    remark(`${regionText(region, ism.info)}; others may: ${permissionsText(granted)}`);
    remark(holdText(options.shell));
  }
  return await hold(ism, stop, { json: options.json, ...(options.shell ? { shell: region } : {}) });
}

/** What is said when a command begins to hold a region. */
export function holdText(shell: boolean): string {
  return shell ? "commands by line; help lists them" : "held until interrupted; events follow";
}

function contentOf({ fill, fillFrom, bytes }: Of<"ism alloc">): Uint8Array {
  if (fill !== undefined && fillFrom !== undefined) {
    throw new UsageError("--fill and --fill-from exclude each other");
  }
  const content = fillFrom === undefined
    ? new TextEncoder().encode(fill)
    : readFile(fillFrom, Math.max(bytes, 1));
  if (content.length > bytes) {
    throw new UsageError(`${content.length} bytes do not fit a region of ${bytes}`);
  }
  return content;
}
