/**
 * What the `ism` commands share: a function opened and driven.
 *
 * @module
 */
import { VirtioIsm, type VirtioIsmOptions } from "../../drivers/ism/virtio_ism.ts";
import type { Host } from "../../lib/host/mod.ts";
import { openTransport } from "../../lib/virtio/mod.ts";
import { openOptions, transportOptions } from "../opening.ts";
import type { Of } from "../parser.ts";

/** Options of every `ism` command. */
export type IsmOptions = Pick<
  Of<"ism info">,
  "function" | "interrupts" | "path" | "vfToken" | "unsafe" | "assumeAccessPlatform" | "trace" | "json"
>;

/** Opens a virtio-ism function; `stack` closes it with all below it, and its regions with it. */
export async function openIsm(
  host: Host,
  options: IsmOptions,
  stack: AsyncDisposableStack,
  driving: VirtioIsmOptions = {},
): Promise<VirtioIsm> {
  const device = stack.use(host.open(options.function, openOptions(options)));
  const transport = stack.use(openTransport(device, transportOptions(device, options)));
  return stack.use(await VirtioIsm.open(transport, { interrupts: options.interrupts, ...driving }));
}
