/**
 * Options that commands which open a function share.
 *
 * @module
 */
import type { OpenOptions } from "../lib/host/mod.ts";
import type { TransportOptions } from "../lib/virtio/mod.ts";
import { remark } from "./output.ts";
import type { Of } from "./parser.ts";

/** What `Host.open` takes, from the command line. */
export function openOptions(options: Pick<Of<"show">, "path" | "vfToken" | "unsafe">): OpenOptions {
  return {
    path: options.path,
    vfToken: options.vfToken,
    ...(options.unsafe ? { enableUnsafeNoIommuMode: true } : {}),
  };
}

/** What `openTransport` takes, from the command line. */
export function transportOptions(
  { name }: { readonly name: string },
  { assumeAccessPlatform, profile, trace }: Pick<Of<"show">, "assumeAccessPlatform" | "profile" | "trace">,
): Pick<TransportOptions, "assumeAccessPlatform" | "profile" | "trace"> {
  const given = { assumeAccessPlatform, ...(profile === undefined ? {} : { profile }) };
  if (trace !== "-") return given;
  return {
    ...given,
    trace: ({ kind, register, width, value }) =>
      remark(`${name} ${kind.padEnd(5)} ${register} 0x${value.toString(16).padStart(2 * width, "0")}`),
  };
}
