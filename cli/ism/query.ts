/**
 * `ringside ism FUNCTION query TOKEN`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { bytesText, print, printJson } from "../output.ts";
import type { Of } from "../parser.ts";
import { openIsm } from "./opening.ts";
import { permissionNames, permissionsText } from "./permissions.ts";
import { tokenText } from "./token.ts";

/** Shows a region's size, and what this function may do with it. */
export async function ismQuery(host: Host, options: Of<"ism query">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  const { sizeBytes, permissions } = await ism.query(options.token);
  const token = tokenText(options.token);
  if (options.json) {
    const names = permissionNames(permissions);
    printJson({ function: ism.transport.name, token, bytes: sizeBytes, permissions: names });
  } else {
    print(
      `${token}: ${bytesText(Number(sizeBytes))}; ${ism.transport.name} may: ${permissionsText(permissions)}`,
    );
  }
}
