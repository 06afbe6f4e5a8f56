/**
 * The console's config space, and its feature wishes.
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import { CONSOLE_CONFIG, CONSOLE_FEATURE } from "../../lib/virtio/spec/console.ts";
import type { VirtioDevice } from "../../lib/virtio/device.ts";
import type { FeatureWishes } from "../../lib/virtio/features.ts";
import { readField } from "../config_field.ts";
import type { VirtioConsoleOptions } from "./options.ts";

/** Size of a port in characters. */
export interface ConsoleSize {
  /** Columns. */
  readonly cols: number;
  /** Rows. */
  readonly rows: number;
}

/** Wishes for `Session.negotiate`. */
export function consoleWishes(options: VirtioConsoleOptions): FeatureWishes {
  const { SIZE, MULTIPORT, EMERG_WRITE } = CONSOLE_FEATURE;
  return { wanted: SIZE | EMERG_WRITE | (options.multiport === false ? 0n : MULTIPORT) };
}

/** Size of port 0; undefined without SIZE. @throws DeviceError */
export function readSize(device: VirtioDevice): ConsoleSize | undefined {
  if (!device.has(CONSOLE_FEATURE.SIZE)) return undefined;
  return device.readConsistent(() => ({
    cols: readField(device, CONSOLE_CONFIG.fields, "cols"),
    rows: readField(device, CONSOLE_CONFIG.fields, "rows"),
  }));
}

/** Ports that the device may have; 1 without MULTIPORT. @throws DeviceError when there are no queues for so many */
export function readMaxPorts(device: VirtioDevice): number {
  if (!device.has(CONSOLE_FEATURE.MULTIPORT)) return 1;
  const ports = readField(device, CONSOLE_CONFIG.fields, "max_nr_ports");
  const { transport } = device;
  if (ports < 1 || 2 * ports + 2 > transport.queueCount) {
    throw new DeviceError(`${ports} ports, and ${transport.queueCount} queues`, {
      function: transport.name,
      field: "max_nr_ports",
    });
  }
  return ports;
}
