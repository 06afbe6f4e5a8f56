/**
 * What the `ism` commands share: a function opened and driven.
 *
 * @module
 */
import { VirtioIsm, type VirtioIsmOptions } from "../../drivers/ism/virtio_ism.ts";
import type { Host } from "../../lib/host/mod.ts";
import type { Of } from "../parser.ts";
import { reach, type Reaching } from "../reaching.ts";

/** Opens a virtio-ism function; `stack` closes it with all below it, and its regions with it. */
export async function openIsm(
  host: Host,
  options: Reaching & Pick<Of<"ism info">, "interrupts">,
  stack: AsyncDisposableStack,
  driving: VirtioIsmOptions = {},
): Promise<VirtioIsm> {
  const transport = await reach(host, options, stack);
  return stack.use(await VirtioIsm.open(transport, { interrupts: options.interrupts, ...driving }));
}
