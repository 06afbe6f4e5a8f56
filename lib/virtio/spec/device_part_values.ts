/**
 * What is in device parts: typed views of each kind (virtio 1.4 §2.13.1, §5.1.8; reference 3.6).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { ProtocolError, UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { Struct, u16 } from "../../wire/mod.ts";
import { DEV_PART, DEV_PART_OPTIONAL, DEV_PART_VQ_CFG } from "./admin.ts";
import { checkPart, type DevicePart, partLabel, partValueBytes } from "./device_parts.ts";
import { COMMON_CFG, type CommonRegisterName, NO_VECTOR } from "./pci.ts";

/** Value of a VQ_NOTIFY_CFG part, 8 bytes. */
export const DEV_PART_VQ_NOTIFY_CFG = new Struct("virtio_dev_part_vq_notify_data", 8, {
  queue_notify_off: u16(0),
  queue_notif_config_data: u16(2),
});

/** Registers of one queue, as a VQ_CFG part has them. */
export interface VqCfgPart {
  /** Number of the queue. */
  readonly queue: number;
  /** `queue_size`. */
  readonly size: number;
  /** `queue_msix_vector`; null: none. */
  readonly vector: number | null;
  /** `queue_enable`. */
  readonly enabled: boolean;
  /** `queue_desc`. */
  readonly descriptorArea: bigint;
  /** `queue_driver`. */
  readonly driverArea: bigint;
  /** `queue_device`. */
  readonly deviceArea: bigint;
}

/** Doorbell of one queue, as a VQ_NOTIFY_CFG part has it. */
export interface VqNotifyCfgPart {
  /** Number of the queue. */
  readonly queue: number;
  /** `queue_notify_off`. */
  readonly notifyOff: number;
  /** `queue_notif_config_data`; 0 without NOTIF_CONFIG_DATA. */
  readonly notifyData: number;
}

/** One configuration command of a network device. */
export interface NetCvqCfgPart {
  /** `NET_CTRL_CLASS`. */
  readonly class: number;
  /** Command of that class. */
  readonly command: number;
  /** Command-specific data. For VLAN_ADD the whole table. */
  readonly data: Uint8Array;
}

/** A DEV_FEATURES or DRV_FEATURES part; the first is optional. @param words le64 words, 1 by default */
export function featuresPart(
  type: typeof DEV_PART.DEV_FEATURES | typeof DEV_PART.DRV_FEATURES,
  features: bigint,
  words = 1,
): DevicePart {
  requireType(features, "bigint", "featuresPart: features");
  if (!Number.isInteger(words) || words < 1 || words > 512) {
    throw new UsageError(`featuresPart: ${shown(words)} words`);
  }
  const value = new Uint8Array(8 * words);
  if (features < 0n || features >> BigInt(64 * words) !== 0n) {
    throw new UsageError(`features 0x${features.toString(16)} do not fit ${words} words of 64 bits`);
  }
  const view = new DataView(value.buffer);
  for (let i = 0; i < words; i++) {
    view.setBigUint64(8 * i, features >> BigInt(64 * i) & 0xffff_ffff_ffff_ffffn, true);
  }
  const flags = type === DEV_PART.DEV_FEATURES ? DEV_PART_OPTIONAL : 0;
  return { type, flags, selector: 0n, value };
}

/** Features of a DEV_FEATURES or DRV_FEATURES part, of however many words. @throws ProtocolError */
export function readFeaturesPart(part: DevicePart): bigint {
  checkPart(part);
  const { value } = part;
  if (value.length === 0 || value.length % 8 !== 0) throw wrong(part, "no le64 words");
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  let features = 0n;
  for (let at = 0; at < value.length; at += 8) features |= view.getBigUint64(at, true) << BigInt(8 * at);
  return features;
}

const COMMON_NAMES: ReadonlyMap<bigint, CommonRegisterName> = new Map(
  (Object.keys(COMMON_CFG) as CommonRegisterName[]).map((name) => [BigInt(COMMON_CFG[name].offset), name]),
);

/** A PCI_COMMON_CFG part. @throws UsageError for a value that does not fit the register */
export function commonCfgPart(register: CommonRegisterName, value: number | bigint): DevicePart {
  if (typeof register !== "string" || !Object.hasOwn(COMMON_CFG, register)) {
    throw new UsageError(`${shown(register)} is no common register`);
  }
  const { offset, width } = COMMON_CFG[register];
  const wide = integer(value, register);
  if (wide < 0n || wide >> BigInt(8 * width) !== 0n) {
    throw new UsageError(`${register}: ${value} does not fit ${width} bytes`);
  }
  const bytes = Uint8Array.from({ length: width }, (_, i) => Number(wide >> BigInt(8 * i) & 0xffn));
  return { type: DEV_PART.PCI_COMMON_CFG, flags: 0, selector: BigInt(offset), value: bytes };
}

/** The register of a PCI_COMMON_CFG part, and its value. @throws ProtocolError when no register begins there, or its width is another */
export function readCommonCfgPart(part: DevicePart): { register: CommonRegisterName; value: bigint } {
  checkPart(part);
  const register = COMMON_NAMES.get(part.selector);
  if (register === undefined) throw wrong(part, "no field of virtio_pci_common_cfg begins there");
  checkLength(part);
  return {
    register,
    value: part.value.reduce((sum, byte, i) => sum | BigInt(byte) << BigInt(8 * i), 0n),
  };
}

/** A DEVICE_STATUS part. */
export function statusPart(status: number): DevicePart {
  requireType(status, "number", "statusPart: status");
  return { type: DEV_PART.DEVICE_STATUS, flags: 0, selector: 0n, value: Uint8Array.of(status) };
}

/** `device_status` of a DEVICE_STATUS part. @throws ProtocolError */
export function readStatusPart(part: DevicePart): number {
  checkLength(part);
  return part.value[0]!;
}

/** A VQ_CFG part. @throws UsageError for what does not fit */
export function vqCfgPart(cfg: VqCfgPart): DevicePart {
  requireType(cfg, "object", "vqCfgPart: cfg");
  const value = DEV_PART_VQ_CFG.encode({
    size: cfg.size,
    vector: cfg.vector ?? NO_VECTOR,
    enabled: cfg.enabled ? 1 : 0,
    desc: cfg.descriptorArea,
    driver: cfg.driverArea,
    device: cfg.deviceArea,
  });
  return { type: DEV_PART.VQ_CFG, flags: 0, selector: integer(cfg.queue, "queue"), value };
}

/** Registers of a VQ_CFG part. @throws ProtocolError for another length, queue number, or `enabled` that is neither 0 nor 1 */
export function readVqCfgPart(part: DevicePart): VqCfgPart {
  checkLength(part);
  const queue = queueOf(part);
  const { size, vector, enabled, desc, driver, device } = DEV_PART_VQ_CFG.decode(part.value);
  if (enabled > 1) throw wrong(part, `enabled is ${enabled}, neither 0 nor 1`);
  return {
    queue,
    size,
    vector: vector === NO_VECTOR ? null : vector,
    enabled: enabled === 1,
    descriptorArea: desc,
    driverArea: driver,
    deviceArea: device,
  };
}

/** A VQ_NOTIFY_CFG part. @throws UsageError for what does not fit */
export function vqNotifyCfgPart(cfg: VqNotifyCfgPart): DevicePart {
  requireType(cfg, "object", "vqNotifyCfgPart: cfg");
  const { queue, notifyOff, notifyData } = cfg;
  const value = DEV_PART_VQ_NOTIFY_CFG.encode({
    queue_notify_off: notifyOff,
    queue_notif_config_data: notifyData,
  });
  return { type: DEV_PART.VQ_NOTIFY_CFG, flags: 0, selector: integer(queue, "queue"), value };
}

/** Doorbell of a VQ_NOTIFY_CFG part. @throws ProtocolError for another length or queue number */
export function readVqNotifyCfgPart(part: DevicePart): VqNotifyCfgPart {
  checkLength(part);
  const { queue_notify_off, queue_notif_config_data } = DEV_PART_VQ_NOTIFY_CFG.decode(part.value);
  return { queue: queueOf(part), notifyOff: queue_notify_off, notifyData: queue_notif_config_data };
}

/** A NET_CVQ_CFG part. */
export function netCvqCfgPart(cfg: NetCvqCfgPart): DevicePart {
  requireType(cfg, "object", "netCvqCfgPart: cfg");
  const { class: kind, command, data } = cfg;
  requireType(data, "bytes", "netCvqCfgPart: data");
  integer(kind, "class");
  integer(command, "command");
  return { type: DEV_PART.NET_CVQ_CFG, flags: 0, selector: BigInt(kind | command << 8), value: data };
}

/** Class, command and data of a NET_CVQ_CFG part. */
export function readNetCvqCfgPart(part: DevicePart): NetCvqCfgPart {
  checkPart(part);
  const { selector, value } = part;
  return { class: Number(selector & 0xffn), command: Number(selector >> 8n & 0xffn), data: value };
}

/** @throws UsageError for what is no whole number */
function integer(value: number | bigint, field: string): bigint {
  if (typeof value === "bigint" || Number.isInteger(value)) return BigInt(value);
  throw new UsageError(`${field}: ${shown(value)} is no whole number`);
}

function queueOf(part: DevicePart): number {
  if (part.selector > 0xffffn) throw wrong(part, "the selector is no queue number");
  return Number(part.selector);
}

function checkLength(part: DevicePart): void {
  checkPart(part);
  const expected = partValueBytes(part);
  if (expected !== part.value.length) {
    throw wrong(part, `a value of ${part.value.length} bytes, it must have ${expected}`);
  }
}

function wrong(part: DevicePart, message: string): ProtocolError {
  return new ProtocolError(`device parts: ${partLabel(part)}: ${message}`);
}
