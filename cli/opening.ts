/**
 * Options that commands which open a function share.
 *
 * @module
 */
import type { OpenOptions } from "../lib/host/mod.ts";
import type { PciModernOptions } from "../lib/virtio/mod.ts";
import type { Of } from "./parser.ts";

/** What `Host.open` takes, from the command line. */
export function openOptions(options: Pick<Of<"show">, "path" | "vfToken" | "unsafe">): OpenOptions {
  return {
    ...(options.path === undefined ? {} : { path: options.path }),
    ...(options.vfToken === undefined ? {} : { vfToken: options.vfToken }),
    ...(options.unsafe ? { enableUnsafeNoIommuMode: true } : {}),
  };
}

/** What `openTransport` takes, from the command line. */
export function transportOptions(options: Pick<Of<"show">, "assumeAccessPlatform">): PciModernOptions {
  return { assumeAccessPlatform: options.assumeAccessPlatform };
}
