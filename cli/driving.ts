/**
 * What the `net` commands share: a function opened and driven.
 *
 * @module
 */
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import type { Host } from "../lib/host/mod.ts";
import { reach, type Reaching } from "./opening.ts";
import type { Of } from "./parser.ts";

/** Opens a virtio-net function; `stack` closes it with all below it. */
export async function openNet(
  host: Host,
  address: string,
  options: Reaching & Pick<Of<"net send">, "interrupts" | "queueSize">,
  stack: AsyncDisposableStack,
): Promise<VirtioNet> {
  const { interrupts, queueSize } = options;
  return stack.use(await VirtioNet.open(reach(host, options, stack, address), { interrupts, queueSize }));
}
