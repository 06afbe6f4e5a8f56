/**
 * Transport virtqueue: classes, commands and values of a management device's commands (virtio-comment, "Introduce the commands set of the transport
 * vq", August 2022; reference 4). It was never merged into the standard, so nothing of it means anything but under profile `transport-vq`.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import type { DeviceType } from "./device_type.ts";
import {
  TVQ_AVAIL_RES,
  TVQ_CONFIG_GET,
  TVQ_CONFIG_SET,
  TVQ_MDEV_ATTRIBUTE,
  TVQ_MSI_CONFIG,
  TVQ_MSI_VQ_CONFIG,
  TVQ_MSI_VQ_ENABLE,
  TVQ_MSI_VQ_MASK,
  TVQ_NO_DATA,
  TVQ_PACKED_VQ_STATE_GET,
  TVQ_PACKED_VQ_STATE_SET,
  TVQ_SPLIT_VQ_STATE_GET,
  TVQ_SPLIT_VQ_STATE_SET,
  TVQ_VQ_ADDR,
  TVQ_VQ_ASID_SET,
  TVQ_VQ_NOTIFICATION_AREA,
  TVQ_VQ_SIZE_SET,
  TVQ_VQ_STATUS_SET,
  type TvqFields,
  TvqPayload,
} from "./transport_vq_payloads.ts";

/** The device type of a function that has nothing but a transport virtqueue. The standard assigns no such type: 63 is provisional. */
export const MANAGEMENT_DEVICE: DeviceType = {
  id: 63,
  name: "management device",
  prefix: "",
  featureBits: {},
  config: {},
};

/** Queue numbers of a management device. */
export const MANAGEMENT_QUEUE = { transport: 0 } as const;

/** Class of a command. */
export const TVQ_CLASS = {
  AVAIL_RES: 1,
  MDEV: 2,
  FEAT: 3,
  STATUS: 4,
  GENERATION: 5,
  CONFIG: 6,
  MSI: 7,
  VQ_ADDR: 8,
  VQ_ENABLE: 9,
  VQ_SIZE: 10,
  VQ_NOTIFY: 11,
  VQ_STATE: 12,
  VQ_ASID: 13,
  VQ_RESET: 14,
} as const;

/** One command of a class. */
export class TvqCommand<O extends TvqFields = TvqFields, I extends TvqFields = TvqFields> {
  /** Without the prefix `VIRTIO_TRANSPTQ_CTRL_` (A-4.1: one of six spellings). */
  readonly name: string;
  /** Class number. */
  readonly class: number;
  /** Number in its class. */
  readonly command: number;
  /** `command-out-data`, which the device reads: fields that are always there. */
  readonly out: TvqPayload<O>;
  /** `command-in-data`, which the device writes: fields that are always there. */
  readonly in: TvqPayload<I>;
  /** Bytes that follow the fields of `out`, or are all of `in`: `dev_config`, `data`. */
  readonly tail: "out" | "in" | undefined;

  /** Declares it. @param number class, and number in it */
  constructor(
    name: string,
    number: readonly [keyof typeof TVQ_CLASS, number],
    out: TvqPayload<O>,
    into: TvqPayload<I>,
    tail?: "out" | "in",
  ) {
    this.name = name;
    this.class = TVQ_CLASS[number[0]];
    this.command = number[1];
    this.out = out;
    this.in = into;
    this.tail = tail;
  }
}

const QUEUE = new TvqPayload("queue_index", { queue_index: "u16" }, "scalar");
const FEATURES = new TvqPayload("features", { features: "u64" }, "scalar");
const STATUS_BYTE = new TvqPayload("status", { status: "u8" }, "scalar");

/**
 * All commands. Their numbers are as irregular as the draft prints them: GET before SET in class 6 only, and 11, 13 and 14 begin with 1. Numbers of
 * class MSI are commands here and nothing else: its values are `TVQ_MSI_STATE`.
 *
 * AVAIL_RES_GET and MDEV_CREATE are for device 0, the management device itself; all others are for a managed device.
 */
export const TVQ_COMMAND = {
  AVAIL_RES_GET: new TvqCommand("AVAIL_RES_GET", ["AVAIL_RES", 0], TVQ_NO_DATA, TVQ_AVAIL_RES),
  MDEV_CREATE: new TvqCommand(
    "MDEV_CREATE",
    ["MDEV", 0],
    TVQ_MDEV_ATTRIBUTE,
    new TvqPayload("device_id", { device_id: "u64" }, "scalar"),
    "out",
  ),
  MDEV_DESTROY: new TvqCommand("MDEV_DESTROY", ["MDEV", 1], TVQ_NO_DATA, TVQ_NO_DATA),
  FEAT_DEVICE_GET: new TvqCommand("FEAT_DEVICE_GET", ["FEAT", 0], TVQ_NO_DATA, FEATURES),
  FEAT_DRIVER_SET: new TvqCommand("FEAT_DRIVER_SET", ["FEAT", 1], FEATURES, TVQ_NO_DATA),
  FEAT_DRIVER_GET: new TvqCommand("FEAT_DRIVER_GET", ["FEAT", 2], TVQ_NO_DATA, FEATURES),
  STATUS_SET: new TvqCommand("STATUS_SET", ["STATUS", 0], STATUS_BYTE, TVQ_NO_DATA),
  STATUS_GET: new TvqCommand("STATUS_GET", ["STATUS", 1], TVQ_NO_DATA, STATUS_BYTE),
  GENERATION_GET: new TvqCommand(
    "GENERATION_GET",
    ["GENERATION", 0],
    TVQ_NO_DATA,
    new TvqPayload("generation", { generation: "u8" }, "scalar"),
  ),
  CONFIG_GET: new TvqCommand("CONFIG_GET", ["CONFIG", 0], TVQ_CONFIG_GET, TVQ_NO_DATA, "in"),
  CONFIG_SET: new TvqCommand("CONFIG_SET", ["CONFIG", 1], TVQ_CONFIG_SET, TVQ_NO_DATA, "out"),
  MSI_VQ_SET: new TvqCommand("MSI_VQ_SET", ["MSI", 0], TVQ_MSI_VQ_CONFIG, TVQ_NO_DATA),
  MSI_VQ_ENABLE: new TvqCommand("MSI_VQ_ENABLE", ["MSI", 1], TVQ_MSI_VQ_ENABLE, TVQ_NO_DATA),
  MSI_VQ_MASK: new TvqCommand("MSI_VQ_MASK", ["MSI", 2], TVQ_MSI_VQ_MASK, TVQ_NO_DATA),
  MSI_CONFIG_SET: new TvqCommand("MSI_CONFIG_SET", ["MSI", 3], TVQ_MSI_CONFIG, TVQ_NO_DATA),
  MSI_CONFIG_ENABLE: new TvqCommand(
    "MSI_CONFIG_ENABLE",
    ["MSI", 4],
    new TvqPayload("enable", { enable: "u8" }, "scalar"),
    TVQ_NO_DATA,
  ),
  MSI_CONFIG_MASK: new TvqCommand(
    "MSI_CONFIG_MASK",
    ["MSI", 5],
    new TvqPayload("mask", { mask: "u8" }, "scalar"),
    TVQ_NO_DATA,
  ),
  VQ_ADDR_SET: new TvqCommand("VQ_ADDR_SET", ["VQ_ADDR", 0], TVQ_VQ_ADDR, TVQ_NO_DATA),
  VQ_ENABLE_SET: new TvqCommand("VQ_ENABLE_SET", ["VQ_ENABLE", 0], TVQ_VQ_STATUS_SET, TVQ_NO_DATA),
  VQ_ENABLE_GET: new TvqCommand("VQ_ENABLE_GET", ["VQ_ENABLE", 1], QUEUE, STATUS_BYTE),
  VQ_SIZE_SET: new TvqCommand("VQ_SIZE_SET", ["VQ_SIZE", 0], TVQ_VQ_SIZE_SET, TVQ_NO_DATA),
  VQ_SIZE_GET: new TvqCommand(
    "VQ_SIZE_GET",
    ["VQ_SIZE", 1],
    QUEUE,
    new TvqPayload("size", { size: "u16" }, "scalar"),
  ),
  VQ_NOTIFY_GET: new TvqCommand("VQ_NOTIFY_GET", ["VQ_NOTIFY", 1], QUEUE, TVQ_VQ_NOTIFICATION_AREA),
  /** Of a split queue; of a packed one as `TVQ_PACKED_STATE` has them. */
  VQ_STATE_SET: new TvqCommand("VQ_STATE_SET", ["VQ_STATE", 0], TVQ_SPLIT_VQ_STATE_SET, TVQ_NO_DATA),
  VQ_STATE_GET: new TvqCommand("VQ_STATE_GET", ["VQ_STATE", 1], QUEUE, TVQ_SPLIT_VQ_STATE_GET),
  VQ_ASID_SET: new TvqCommand("VQ_ASID_SET", ["VQ_ASID", 1], TVQ_VQ_ASID_SET, TVQ_NO_DATA),
  VQ_RESET_DO: new TvqCommand("VQ_RESET_DO", ["VQ_RESET", 1], QUEUE, TVQ_NO_DATA),
} as const;

/** The commands of class VQ_STATE of a device that negotiated RING_PACKED: the same numbers, other payloads. */
export const TVQ_PACKED_STATE = {
  SET: new TvqCommand("VQ_STATE_SET", ["VQ_STATE", 0], TVQ_PACKED_VQ_STATE_SET, TVQ_NO_DATA),
  GET: new TvqCommand("VQ_STATE_GET", ["VQ_STATE", 1], QUEUE, TVQ_PACKED_VQ_STATE_GET),
} as const;

const BY_NUMBER: ReadonlyMap<string, TvqCommand> = new Map(
  Object.values(TVQ_COMMAND).map((one) => [`${one.class}.${one.command}`, one as TvqCommand]),
);

/** The command of a class with this number; undefined when there is none. */
export function tvqCommand(ofClass: number, number: number): TvqCommand | undefined {
  return BY_NUMBER.get(`${ofClass}.${number}`);
}

/** Its name; `class 9, command 7` for one that the draft does not have. */
export function tvqCommandName(ofClass: number, number: number): string {
  requireType(ofClass, "number", "tvqCommandName: ofClass");
  requireType(number, "number", "tvqCommandName: number");
  return tvqCommand(ofClass, number)?.name ?? `class ${ofClass}, command ${number}`;
}

/** Values of class MSI. For a mask 0 is masked, while for an enable 0 is disabled. */
export const TVQ_MSI_STATE = {
  VQ_ENABLE: 1,
  VQ_DISABLE: 0,
  VQ_MASK: 0,
  VQ_UNMASK: 1,
  CFG_ENABLE: 1,
  CFG_DISABLE: 0,
  CFG_MASK: 0,
  CFG_UNMASK: 1,
} as const;

/** Values of class VQ_ENABLE. */
export const TVQ_VQ_STATUS = { ENABLE: 1, DISABLE: 0 } as const;

/** `mask` on the wire: inverted. */
export function tvqMask(masked: boolean): number {
  return masked ? TVQ_MSI_STATE.VQ_MASK : TVQ_MSI_STATE.VQ_UNMASK;
}
