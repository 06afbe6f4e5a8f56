/**
 * What the `net` commands share: a function opened and driven.
 *
 * @module
 */
import { VirtioNet, type VirtioNetOptions } from "../drivers/net/virtio_net.ts";
import type { Host } from "../lib/host/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import { openOptions, transportOptions } from "./opening.ts";
import type { Of } from "./parser.ts";

/** Opens a virtio-net function; `stack` closes it with all below it. */
export async function openNet(
  host: Host,
  address: string,
  options: Pick<
    Of<"net send">,
    "path" | "vfToken" | "unsafe" | "assumeAccessPlatform" | "trace" | "interrupts" | "queueSize"
  >,
  stack: AsyncDisposableStack,
): Promise<VirtioNet> {
  const device = stack.use(host.open(address, openOptions(options)));
  const transport = stack.use(openTransport(device, transportOptions(device, options)));
  const driving: VirtioNetOptions = {
    interrupts: options.interrupts,
    queueSize: options.queueSize,
  };
  return stack.use(await VirtioNet.open(transport, driving));
}
