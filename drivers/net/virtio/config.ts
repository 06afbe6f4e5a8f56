/**
 * The network device's config space, read with its generation.
 *
 * @module
 */
import { DeviceError } from "../../../lib/errors/mod.ts";
import { NET_CONFIG, NET_FEATURE, NET_STATUS } from "../../../lib/virtio/spec/net.ts";
import { readField } from "../../config_field.ts";
import type { VirtioDevice } from "../../../lib/virtio/device.ts";

/** What the device says of itself; fields whose feature was not negotiated have the value that the standard implies. */
export interface NetConfig {
  /** Six bytes; undefined without MAC. */
  readonly mac: Uint8Array | undefined;
  /** True without STATUS. */
  readonly linkUp: boolean;
  /** Queue pairs that the device has; 1 without MQ. */
  readonly maxQueuePairs: number;
  /** Bytes of an Ethernet payload; 1500 without MTU. */
  readonly mtu: number;
  /** Mbit/s; undefined when unknown. */
  readonly speedMbps: number | undefined;
  /** Undefined when unknown. */
  readonly fullDuplex: boolean | undefined;
}

const DEFAULT_MTU = 1500;
const SPEED_UNKNOWN = 0xffff_ffff;
// virtio 1.4 §5.1.4: the limits of the fields.
const MTU_MINIMUM = 68;
const PAIRS_MAXIMUM = 0x8000;

/** Reads all fields that the negotiated features give a meaning. @throws DeviceError for values that cannot be */
export function readNetConfig(device: VirtioDevice): NetConfig {
  const read = (field: keyof typeof NET_CONFIG.fields) => readField(device, NET_CONFIG.fields, field);
  const config = device.readConsistent((): NetConfig => ({
    mac: device.has(NET_FEATURE.MAC)
      ? Uint8Array.of(read("mac0"), read("mac1"), read("mac2"), read("mac3"), read("mac4"), read("mac5"))
      : undefined,
    linkUp: readLinkUp(device),
    maxQueuePairs: device.has(NET_FEATURE.MQ) ? read("max_virtqueue_pairs") : 1,
    mtu: device.has(NET_FEATURE.MTU) ? read("mtu") : DEFAULT_MTU,
    ...readSpeed(device),
  }));
  const where = { function: device.transport.name };
  if (config.mtu < MTU_MINIMUM) {
    throw new DeviceError(`${config.mtu} is below the minimum of ${MTU_MINIMUM}`, { ...where, field: "mtu" });
  }
  if (config.maxQueuePairs < 1 || config.maxQueuePairs > PAIRS_MAXIMUM) {
    throw new DeviceError(`${config.maxQueuePairs} is not in 1 to ${PAIRS_MAXIMUM}`, {
      ...where,
      field: "max_virtqueue_pairs",
    });
  }
  return config;
}

/** Link status alone, for config changes: one field of one access needs no generation. */
export function readLinkUp(device: VirtioDevice): boolean {
  if (!device.has(NET_FEATURE.STATUS)) return true;
  return (readField(device, NET_CONFIG.fields, "status") & NET_STATUS.linkUp) !== 0;
}

/** A legacy device's address is set in the config space when there is no CTRL_MAC_ADDR (virtio 1.4 §5.1.4, "Legacy Interface"). */
export function canWriteMac(device: VirtioDevice): boolean {
  return device.transport.legacy && device.has(NET_FEATURE.MAC) && !device.has(NET_FEATURE.CTRL_MAC_ADDR);
}

/** Writes the address from first to last byte, which is how devices know that it is complete (§5.1.6.5.2.2). */
export function writeMac(device: VirtioDevice, mac: Uint8Array): void {
  mac.forEach((byte, at) => device.writeConfig(NET_CONFIG.fields.mac0.offset + at, 1, byte));
}

function readSpeed(device: VirtioDevice): Pick<NetConfig, "speedMbps" | "fullDuplex"> {
  if (!device.has(NET_FEATURE.SPEED_DUPLEX)) return { speedMbps: undefined, fullDuplex: undefined };
  const speed = readField(device, NET_CONFIG.fields, "speed");
  const duplex = readField(device, NET_CONFIG.fields, "duplex");
  return {
    // Values above 2^31 − 1 are reserved but for "unknown"; both say nothing.
    speedMbps: speed > 0x7fff_ffff || speed === SPEED_UNKNOWN ? undefined : speed,
    fullDuplex: duplex === 1 ? true : duplex === 0 ? false : undefined,
  };
}
