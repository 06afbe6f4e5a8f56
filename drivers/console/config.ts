/**
 * The console's config space, and its feature wishes.
 *
 * @module
 */
import { DeviceError } from "../../lib/errors/mod.ts";
import { CONSOLE_CONFIG, CONSOLE_FEATURE } from "../../lib/virtio/spec/console.ts";
import type { VirtioDevice } from "../../lib/virtio/device.ts";
import type { FeatureWishes } from "../../lib/virtio/features.ts";
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
  const { cols, rows } = CONSOLE_CONFIG.fields;
  check(device, "rows", rows.offset + 2);
  return device.readConsistent(() => ({
    cols: device.readConfig(cols.offset, 2),
    rows: device.readConfig(rows.offset, 2),
  }));
}

/** Ports that the device may have; 1 without MULTIPORT. @throws DeviceError when there are no queues for so many */
export function readMaxPorts(device: VirtioDevice): number {
  if (!device.has(CONSOLE_FEATURE.MULTIPORT)) return 1;
  const { offset } = CONSOLE_CONFIG.fields.max_nr_ports;
  check(device, "max_nr_ports", offset + 4);
  const ports = device.readConfig(offset, 4);
  const { transport } = device;
  if (ports < 1 || 2 * ports + 2 > transport.queueCount) {
    throw new DeviceError(`${ports} ports, and ${transport.queueCount} queues`, {
      function: transport.name,
      field: "max_nr_ports",
    });
  }
  return ports;
}

function check(device: VirtioDevice, field: string, end: number): void {
  const { name, configSizeBytes } = device.transport;
  if (configSizeBytes >= end) return;
  throw new DeviceError(
    `the config space has ${configSizeBytes} bytes and ends before it, but its feature was offered`,
    { function: name, field },
  );
}
