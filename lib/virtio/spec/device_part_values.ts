/**
 * What is in device parts: typed views of each kind (virtio 1.4 §2.13.1, §5.1.8; reference 3.6).
 *
 * @module
 */
import { ProtocolError, UsageError } from "../../errors/mod.ts";
import { DEV_PART, DEV_PART_OPTIONAL, DEV_PART_VQ_CFG, DEV_PART_VQ_NOTIFY_CFG } from "./admin.ts";
import { COMMON_FIELDS, type DevicePart, partLabel, partValueProblem } from "./device_parts.ts";
import { COMMON_CFG, type CommonRegisterName, NO_VECTOR } from "./pci.ts";

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

/** A DEV_FEATURES or DRV_FEATURES part of 64 bits; the first is optional. @throws UsageError for more */
export function featuresPart(
  type: typeof DEV_PART.DEV_FEATURES | typeof DEV_PART.DRV_FEATURES,
  features: bigint,
): DevicePart {
  if (BigInt.asUintN(64, features) !== features) {
    throw new UsageError(`features 0x${features.toString(16)} are not of 64 bits`);
  }
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, features, true);
  const flags = type === DEV_PART.DEV_FEATURES ? DEV_PART_OPTIONAL : 0;
  return { type, flags, selector: 0n, value };
}

/** Features of a DEV_FEATURES or DRV_FEATURES part, of however many words. @throws ProtocolError */
export function readFeaturesPart(part: DevicePart): bigint {
  return wide(checkValue(part));
}

/** A PCI_COMMON_CFG part. @throws UsageError for a value that does not fit the register */
export function commonCfgPart(register: CommonRegisterName, value: number | bigint): DevicePart {
  const { offset, width } = COMMON_CFG[register];
  const bits = BigInt(value);
  if (BigInt.asUintN(8 * width, bits) !== bits) {
    throw new UsageError(`${register}: ${value} does not fit ${width} bytes`);
  }
  const bytes = Uint8Array.from({ length: width }, (_, i) => Number(bits >> BigInt(8 * i) & 0xffn));
  return { type: DEV_PART.PCI_COMMON_CFG, flags: 0, selector: BigInt(offset), value: bytes };
}

/** The register of a PCI_COMMON_CFG part, and its value. @throws ProtocolError when no register begins there, or its width is another */
export function readCommonCfgPart(part: DevicePart): { register: CommonRegisterName; value: bigint } {
  const value = wide(checkValue(part));
  return { register: COMMON_FIELDS.get(part.selector)!, value };
}

/** A DEVICE_STATUS part. */
export function statusPart(status: number): DevicePart {
  return { type: DEV_PART.DEVICE_STATUS, flags: 0, selector: 0n, value: Uint8Array.of(status) };
}

/** `device_status` of a DEVICE_STATUS part. @throws ProtocolError */
export function readStatusPart(part: DevicePart): number {
  return checkValue(part)[0]!;
}

/** A VQ_CFG part. @throws UsageError for what does not fit */
export function vqCfgPart(cfg: VqCfgPart): DevicePart {
  const value = DEV_PART_VQ_CFG.encode({
    size: cfg.size,
    vector: cfg.vector ?? NO_VECTOR,
    enabled: cfg.enabled ? 1 : 0,
    desc: cfg.descriptorArea,
    driver: cfg.driverArea,
    device: cfg.deviceArea,
  });
  return { type: DEV_PART.VQ_CFG, flags: 0, selector: BigInt(cfg.queue), value };
}

/** Registers of a VQ_CFG part. @throws ProtocolError for another length, queue number, or `enabled` that is neither 0 nor 1 */
export function readVqCfgPart(part: DevicePart): VqCfgPart {
  const { size, vector, enabled, desc, driver, device } = DEV_PART_VQ_CFG.decode(checkValue(part));
  if (enabled > 1) throw wrong(`${partLabel(part)}: enabled is ${enabled}, neither 0 nor 1`);
  return {
    queue: queueOf(part),
    size,
    vector: vector === NO_VECTOR ? null : vector,
    enabled: enabled === 1,
    descriptorArea: desc,
    driverArea: driver,
    deviceArea: device,
  };
}

/** A VQ_NOTIFY_CFG part. @throws UsageError for what does not fit */
export function vqNotifyCfgPart({ queue, notifyOff, notifyData }: VqNotifyCfgPart): DevicePart {
  const value = DEV_PART_VQ_NOTIFY_CFG.encode({
    queue_notify_off: notifyOff,
    queue_notif_config_data: notifyData,
  });
  return { type: DEV_PART.VQ_NOTIFY_CFG, flags: 0, selector: BigInt(queue), value };
}

/** Doorbell of a VQ_NOTIFY_CFG part. @throws ProtocolError for another length or queue number */
export function readVqNotifyCfgPart(part: DevicePart): VqNotifyCfgPart {
  const { queue_notify_off, queue_notif_config_data } = DEV_PART_VQ_NOTIFY_CFG.decode(checkValue(part));
  return { queue: queueOf(part), notifyOff: queue_notify_off, notifyData: queue_notif_config_data };
}

/** A NET_CVQ_CFG part. */
export function netCvqCfgPart({ class: kind, command, data }: NetCvqCfgPart): DevicePart {
  return { type: DEV_PART.NET_CVQ_CFG, flags: 0, selector: BigInt(kind | command << 8), value: data };
}

/** Class, command and data of a NET_CVQ_CFG part. */
export function readNetCvqCfgPart({ selector, value }: DevicePart): NetCvqCfgPart {
  return { class: Number(selector & 0xffn), command: Number(selector >> 8n & 0xffn), data: value };
}

function queueOf(part: DevicePart): number {
  if (part.selector <= 0xffffn) return Number(part.selector);
  throw wrong(`${partLabel(part)}: the selector is no queue number`);
}

/** @returns the part's value @throws ProtocolError for a length that it cannot have */
function checkValue(part: DevicePart): Uint8Array {
  const problem = partValueProblem(part);
  if (problem === undefined) return part.value;
  throw wrong(problem);
}

/** A number of however many bytes, the lowest first. */
function wide(bytes: Uint8Array): bigint {
  return bytes.reduce((sum, byte, i) => sum | BigInt(byte) << BigInt(8 * i), 0n);
}

function wrong(message: string): ProtocolError {
  return new ProtocolError(`device parts: ${message}`);
}
