/**
 * `ringside ism FUNCTION grant TOKEN`
 *
 * @module
 */
import { ISM_PERM, type IsmRights } from "../../drivers/ism/virtio_ism.ts";
import { RefusedError, UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { print, printJson } from "../output.ts";
import type { Of } from "../parser.ts";
import { openIsm } from "./opening.ts";
import { permissionNames, permissionsText } from "./permissions.ts";
import { tokenText } from "./token.ts";

/** Changes the permissions of a region that this function may manage, and is attached to meanwhile. */
export async function ismGrant(host: Host, options: Of<"ism grant">): Promise<void> {
  const { token, devid, permissions, cleanDefault } = options;
  if (cleanDefault && devid === undefined) {
    throw new UsageError("--clean-default goes with --devid", {
      hint: "--permissions none without --devid takes everything from all devices",
    });
  }
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  const { permissions: own } = await ism.query(token);
  if ((own & ISM_PERM.MANAGE) === 0) {
    throw new RefusedError(
      `${ism.transport.name} may not manage ${tokenText(token)}: it may ${permissionsText(own)}`,
      { hint: "whoever holds it can: ringside ism FUNCTION alloc BYTES --shell, and there the line grant" },
    );
  }
  if (!options.dryRun) {
    const region = await ism.attach(token, rightsOf(own));
    if (devid === undefined) await ism.grantDefault(region, permissions);
    else await ism.grantFor(region, devid, permissions, { cleanDefault });
  }
  if (options.json) {
    printJson({
      function: ism.transport.name,
      token: tokenText(token),
      devid: devid ?? null,
      permissions: permissionNames(permissions),
      cleanDefault,
    });
  } else print(grantedText(devid, permissions, cleanDefault));
}

/** What may be done with the bytes under these permissions; both when neither is allowed, so that the device says what is missing. */
export function rightsOf(permissions: number): IsmRights {
  const read = (permissions & ISM_PERM.READ) !== 0;
  const write = (permissions & ISM_PERM.WRITE) !== 0;
  return read || write ? { read, write } : { read: true, write: true };
}

/** What was granted, in words. */
export function grantedText(devid: bigint | undefined, permissions: number, cleanDefault: boolean): string {
  const who = devid === undefined ? "devices without permissions of their own" : `device ${devid}`;
  return `${who} may: ${permissionsText(permissions)}${cleanDefault ? "; all others without: none" : ""}`;
}
