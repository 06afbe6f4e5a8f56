/**
 * What the `net` commands share: functions opened and driven.
 *
 * @module
 */
import { VirtioNet } from "../drivers/net/virtio_net.ts";
import type { Host } from "../lib/host/mod.ts";
import type { Of } from "./parser.ts";
import { reachAll, type Reaching } from "./reaching.ts";

type Driving = Reaching & Pick<Of<"net send">, "interrupts" | "queueSize">;

/** Opens the virtio-net function that a command is about; `stack` closes it with all below it. */
export async function openNet(host: Host, options: Driving, stack: AsyncDisposableStack): Promise<VirtioNet> {
  const [net] = await openNets(host, options, stack, [options.function]);
  return net!;
}

/** As `openNet`, of several. */
export async function openNets(
  host: Host,
  options: Driving,
  stack: AsyncDisposableStack,
  names: readonly string[],
): Promise<VirtioNet[]> {
  const { interrupts, queueSize } = options;
  const nets: VirtioNet[] = [];
  for (const transport of await reachAll(host, options, stack, names)) {
    nets.push(stack.use(await VirtioNet.open(transport, { interrupts, queueSize })));
  }
  return nets;
}
