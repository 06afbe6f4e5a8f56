/**
 * `ringside tvq FUNCTION resources`
 *
 * @module
 */
import type { ManagementResources } from "../../drivers/management/virtio_management.ts";
import type { Host } from "../../lib/host/mod.ts";
import { countText, print, printJson } from "../output.ts";
import type { Of } from "../parser.ts";
import { openManagement } from "./management.ts";

/** Shows what is left to create devices of. */
export async function tvqResources(host: Host, options: Of<"tvq resources">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { address } = host.describe(options.function);
  const { driver } = await openManagement(host, options, stack, address);
  const resources = await driver.resources();
  if (options.json) return printJson({ function: address, ...resources });
  print(`${address}: ${resourcesText(resources)}`);
}

/** `64 virtqueues left, 1 to 16 a device; 64 devices`. */
export function resourcesText({ queues, minQueues, maxQueues, devices }: ManagementResources): string {
  const each = minQueues === maxQueues ? `${minQueues}` : `${minQueues} to ${maxQueues}`;
  return `${countText(queues, "virtqueue")} left, ${each} a device; room for ${countText(devices, "device")}`;
}
