/**
 * Entropy device (virtio 1.2 §5.4): one queue of device-writable buffers, no feature bits, no config space.
 *
 * @module
 */

import { DEVICE_ID } from "./device_id.ts";
import type { DeviceType } from "./device_type.ts";

/** Queue numbers. */
export const ENTROPY_QUEUE = { requests: 0 } as const;
/** Bytes of config space. */
export const ENTROPY_CONFIG_BYTES = 0;

/** The device type. */
export const ENTROPY_DEVICE: DeviceType = {
  id: DEVICE_ID.entropy,
  prefix: "",
  featureBits: {},
  config: {},
  legacyConfigBytes: 0,
};
