/**
 * Console device (virtio 1.4 §5.3).
 *
 * @module
 */
import { Struct, u16, u32 } from "../../wire/mod.ts";
import { DEVICE_ID } from "./device_id.ts";
import type { DeviceType } from "./device_type.ts";
import { masks } from "./masks.ts";

/** Bit numbers of `VIRTIO_CONSOLE_F_*`. */
export const CONSOLE_FEATURE_BIT = { SIZE: 0, MULTIPORT: 1, EMERG_WRITE: 2 } as const;

/** Name of a feature of the console device, without its `VIRTIO_CONSOLE_F_`. */
export type ConsoleFeatureName = keyof typeof CONSOLE_FEATURE_BIT;

/** The same as masks. */
export const CONSOLE_FEATURE: Readonly<Record<ConsoleFeatureName, bigint>> = masks(CONSOLE_FEATURE_BIT);

/** `struct virtio_console_config`. */
export const CONSOLE_CONFIG = new Struct("virtio_console_config", 12, {
  /** With SIZE: of port 0, in characters. */
  cols: u16(0),
  rows: u16(2),
  /** With MULTIPORT. */
  max_nr_ports: u32(4),
  /** With EMERG_WRITE: the low byte of what is written here is put out, whatever state the device is in. */
  emerg_wr: u32(8),
});

/** `struct virtio_console_control`; a name or a `CONSOLE_RESIZE` follows where the event says so. */
export const CONSOLE_CONTROL = new Struct("virtio_console_control", 8, {
  /** Port. */
  id: u32(0),
  event: u16(4),
  value: u16(6),
});

/** `struct virtio_console_resize`, behind a control message of event `resize`. */
export const CONSOLE_RESIZE = new Struct("virtio_console_resize", 4, {
  cols: u16(0),
  rows: u16(2),
});

/** Bytes of `virtio_console_control`. */
export const CONSOLE_CONTROL_BYTES = 8;

/**
 * `virtio_console_control.event`. Sent by the driver: `deviceReady`, `portReady`; by both: `portOpen`; the rest by the device.
 * The standard's text also calls `deviceAdd` and `deviceRemove` PORT_ADD and PORT_REMOVE.
 */
export const CONSOLE_EVENT = {
  deviceReady: 0,
  deviceAdd: 1,
  deviceRemove: 2,
  portReady: 3,
  consolePort: 4,
  resize: 5,
  portOpen: 6,
  portName: 7,
} as const;

/** The control queues; they exist with MULTIPORT only. */
export const CONSOLE_CONTROL_QUEUE = { receive: 2, transmit: 3 } as const;

/** Queue numbers of a port: 0 and 1 for port 0; 4 and 5 for port 1, behind the control queues. */
export function consoleQueues(port: number): { receive: number; transmit: number } {
  const receive = port === 0 ? 0 : 2 * port + 2;
  return { receive, transmit: receive + 1 };
}

/** The device type. */
export const CONSOLE_DEVICE: DeviceType = {
  id: DEVICE_ID.console,
  prefix: "VIRTIO_CONSOLE_F_",
  featureBits: CONSOLE_FEATURE_BIT,
  config: CONSOLE_CONFIG.fields,
  legacyConfigBytes: 12,
  optionalConfig: [["SIZE", 0, 4], ["MULTIPORT", 4, 8], ["EMERG_WRITE", 8, 12]],
};
