/**
 * What a virtio device says of itself, as text.
 *
 * @module
 */
import { describeStatus, type VirtioFacts } from "../lib/virtio/mod.ts";
import { print } from "./output.ts";

/** Prints it, as a part of `show`. */
export function printVirtioFacts(virtio: VirtioFacts): void {
  print(
    `\tVirtio: device ${virtio.deviceId} (${virtio.deviceType}), status ${describeStatus(virtio.status)}`,
  );
  print(`\t\tQueues: ${virtio.queueSizes.map((size, index) => `${index}: ${size}`).join(", ") || "none"}`);
  print(`\t\tDevice configuration: ${virtio.configSizeBytes} bytes`);
  print(`\t\tFeatures 0x${virtio.features.toString(16)} (profile ${virtio.profile}):`);
  for (const name of virtio.featureNames) print(`\t\t\t${name}`);
}
