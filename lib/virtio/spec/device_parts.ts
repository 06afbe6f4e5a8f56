/**
 * Device parts: pieces of a device's state, each with a header that says which (virtio 1.4 §2.13, §2.12.1.5; reference 3.6). Here: their bytes,
 * their order, and what each is allowed to be; `device_part_values.ts` has what is in them.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { ProtocolError } from "../../errors/mod.ts";
import {
  DEV_PART,
  DEV_PART_HEADER,
  DEV_PART_OPTIONAL,
  DEV_PART_VQ_CFG,
  DEV_PART_VQ_NOTIFY_CFG,
  devPartName,
} from "./admin.ts";
import { DEVICE_ID } from "./device_id.ts";
import { COMMON_CFG, type CommonRegisterName } from "./pci.ts";

/** One part. */
export interface DevicePart {
  /** `DEV_PART` number. */
  readonly type: number;
  /** `DEV_PART_OPTIONAL`, or 0. */
  readonly flags: number;
  /** 8 bytes, meaning by type. */
  readonly selector: bigint;
  /** `length` bytes. */
  readonly value: Uint8Array;
}

/** `struct virtio_dev_part_hdr`: which part, without its value. */
export interface DevicePartHeader {
  /** `DEV_PART` number. */
  readonly type: number;
  /** `DEV_PART_OPTIONAL`, or 0. */
  readonly flags: number;
  /** 8 bytes, meaning by type. */
  readonly selector: bigint;
  /** Bytes of the value. */
  readonly length: number;
}

const HEADER_BYTES = DEV_PART_HEADER.sizeBytes;
/** A command's data is a multiple of 8 bytes (N-3.3), parts are not: so many zeros may follow the last one. */
const PADDING_BYTES_MAX = 7;

/** First and last type of the parts that belong to one type of device; types past them are reserved. */
export const DEV_PART_OF_TYPE = { first: 0x200, last: 0x5ff } as const;

/**
 * Parts of devices of all types, in the order in which they are exchanged. Where one is there, those before it must be, too; only the two of features
 * do not need each other (virtio 1.4, table "Device parts order").
 */
const COMMON_PARTS: readonly number[] = [
  DEV_PART.DEV_FEATURES,
  DEV_PART.DRV_FEATURES,
  DEV_PART.PCI_COMMON_CFG,
  DEV_PART.DEVICE_STATUS,
  DEV_PART.VQ_CFG,
  DEV_PART.VQ_NOTIFY_CFG,
];

const KNOWN_PARTS: ReadonlySet<number> = new Set(Object.values(DEV_PART));

/** Bytes of values whose length the type alone says. */
const VALUE_BYTES: ReadonlyMap<number, number> = new Map([
  [DEV_PART.DEVICE_STATUS, 1],
  [DEV_PART.VQ_CFG, DEV_PART_VQ_CFG.sizeBytes],
  [DEV_PART.VQ_NOTIFY_CFG, DEV_PART_VQ_NOTIFY_CFG.sizeBytes],
]);

/** Fields of `virtio_pci_common_cfg`, by the selector of their parts: their offset. */
export const COMMON_FIELDS: ReadonlyMap<bigint, CommonRegisterName> = new Map(
  (Object.keys(COMMON_CFG) as CommonRegisterName[]).map((name) => [BigInt(COMMON_CFG[name].offset), name]),
);

/** The header of a part. */
export function partHeader({ type, flags, selector, value }: DevicePart): DevicePartHeader {
  return { type, flags, selector, length: value.length };
}

/** Makes sure of the types of a part that a caller passed. @throws UsageError for what is no part */
export function checkPart(part: DevicePart): void {
  requireType(part, "object", "a device part", "type", "selector");
  requireType(part.type, "number", "a device part: type");
  requireType(part.selector, "bigint", "a device part: selector");
  requireType(part.value, "bytes", "a device part: value");
}

/** Bytes that a part takes, header included. */
export function partBytes({ value }: DevicePart): number {
  return HEADER_BYTES + value.length;
}

/** `struct virtio_dev_part`, one behind the other, without padding. @throws UsageError for a field that does not fit */
export function encodeParts(parts: readonly DevicePart[]): Uint8Array<ArrayBuffer> {
  requireType(parts, "array", "encodeParts: parts");
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + partBytes(part), 0));
  let at = 0;
  for (const part of parts) {
    putHeader(bytes, at, partHeader(part));
    bytes.set(part.value, at + HEADER_BYTES);
    at += partBytes(part);
  }
  return bytes;
}

/** Headers, 16 bytes each. @throws UsageError for a field that does not fit */
export function encodePartHeaders(headers: readonly DevicePartHeader[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(HEADER_BYTES * headers.length);
  headers.forEach((header, i) => putHeader(bytes, HEADER_BYTES * i, header));
  return bytes;
}

/**
 * Parts as they lie in a command or its result; up to 7 zeros may follow them.
 * @returns parts with values of their own
 * @throws ProtocolError for a header or value that goes past the end
 */
export function decodeParts(bytes: Uint8Array): DevicePart[] {
  requireType(bytes, "bytes", "decodeParts: bytes");
  const parts: DevicePart[] = [];
  let at = 0;
  while (!isPadding(bytes, at)) {
    const { type, flags, selector, length } = takeHeader(bytes, at, parts.length);
    const from = at + HEADER_BYTES;
    if (length > bytes.length - from) {
      throw new ProtocolError(
        `device parts: part ${parts.length} (${
          devPartName(type)
        }) has a value of ${length} bytes at offset ${from}, there are ${bytes.length - from}`,
        { hint: "the answer was cut off, or these are no device parts" },
      );
    }
    parts.push({ type, flags, selector, value: bytes.slice(from, from + length) });
    at = from + length;
  }
  return parts;
}

/**
 * Headers as they lie in a command or its result; up to 7 zeros may follow them.
 * @param count how many there must be; default: as many as there are
 * @throws ProtocolError for a header that is cut off, or fewer than `count`
 */
export function decodePartHeaders(bytes: Uint8Array, count?: number): DevicePartHeader[] {
  const headers: DevicePartHeader[] = [];
  while (count === undefined ? !isPadding(bytes, HEADER_BYTES * headers.length) : headers.length < count) {
    headers.push(takeHeader(bytes, HEADER_BYTES * headers.length, headers.length));
  }
  return headers;
}

/** A name for one part, for messages: `VQ_CFG of queue 3`. */
export function partLabel({ type, selector }: DevicePartHeader | DevicePart): string {
  const name = devPartName(type);
  switch (type) {
    case DEV_PART.PCI_COMMON_CFG:
      return `${name} at offset ${selector}`;
    case DEV_PART.VQ_CFG:
    case DEV_PART.VQ_NOTIFY_CFG:
      return `${name} of queue ${selector}`;
    case DEV_PART.NET_CVQ_CFG:
      return `${name} ${selector & 0xffn}.${selector >> 8n & 0xffn}`;
    default:
      return selector === 0n ? name : `${name} with selector 0x${selector.toString(16)}`;
  }
}

/**
 * What is wrong with the order of parts that are exchanged together; undefined when nothing is. The types follow the table, none comes twice with
 * the same selector, and none lacks a part that stands before it.
 * @param there types that were exchanged before. DEV_FEATURES is optional, so nothing lacks it when parts are set
 */
export function partOrderProblem(
  parts: readonly (DevicePartHeader | DevicePart)[],
  there: Iterable<number> = [],
): string | undefined {
  const present = new Set<number>(there);
  const seen = new Set<string>();
  let last: DevicePartHeader | DevicePart | undefined;
  for (const part of parts) {
    if (last !== undefined && part.type < last.type) {
      return `${partLabel(part)} comes after ${partLabel(last)}, it belongs before`;
    }
    const key = `${part.type} ${part.selector}`;
    if (seen.has(key)) return `${partLabel(part)} comes twice`;
    seen.add(key);
    const missing = partsBefore(part.type).find((type) => !present.has(type));
    if (missing !== undefined) return `${partLabel(part)} needs ${devPartName(missing)} before it`;
    present.add(part.type);
    last = part;
  }
  return undefined;
}

function partsBefore(type: number): readonly number[] {
  return type === DEV_PART.DRV_FEATURES ? [] : COMMON_PARTS.slice(0, Math.max(0, COMMON_PARTS.indexOf(type)));
}

/** What is wrong with one part by itself, for a device of a type; undefined when nothing is, or when it is unknown and optional. */
export function partProblem(part: DevicePart, deviceId: number): string | undefined {
  const { type, flags } = part;
  if (KNOWN_PARTS.has(type) && (type !== DEV_PART.NET_CVQ_CFG || deviceId === DEVICE_ID.net)) {
    return partValueProblem(part);
  }
  return (flags & DEV_PART_OPTIONAL) !== 0 ? undefined : `${partLabel(part)} is unknown, and not optional`;
}

/** What is wrong with the length of a known part's value, or with the place that it is for; undefined when nothing is. */
export function partValueProblem(part: DevicePart): string | undefined {
  const { type, selector, value: { length } } = part;
  if (type === DEV_PART.DEV_FEATURES || type === DEV_PART.DRV_FEATURES) {
    return length > 0 && length % 8 === 0
      ? undefined
      : `${partLabel(part)}: ${length} bytes are no le64 words`;
  }
  const field = COMMON_FIELDS.get(selector);
  if (type === DEV_PART.PCI_COMMON_CFG && field === undefined) {
    return `${partLabel(part)}: no field of virtio_pci_common_cfg begins there`;
  }
  const expected = type === DEV_PART.PCI_COMMON_CFG ? COMMON_CFG[field!].width : VALUE_BYTES.get(type);
  return expected === undefined || expected === length
    ? undefined
    : `${partLabel(part)} has a value of ${length} bytes, it must have ${expected}`;
}

function putHeader(
  bytes: Uint8Array,
  at: number,
  { type, flags, selector, length }: DevicePartHeader,
): void {
  DEV_PART_HEADER.encodeInto(bytes, at, { part_type: type, flags, selector, length });
}

function takeHeader(bytes: Uint8Array, at: number, number: number): DevicePartHeader {
  if (bytes.length - at < HEADER_BYTES) {
    throw new ProtocolError(
      `device parts: header ${number} takes ${HEADER_BYTES} bytes at offset ${at}, there are ${
        Math.max(0, bytes.length - at)
      }`,
      { hint: "the answer was cut off, or these are no device parts" },
    );
  }
  const { part_type, flags, selector, length } = DEV_PART_HEADER.decode(bytes, at);
  return { type: part_type, flags, selector, length };
}

/** At the end, or a few zeros before it. */
function isPadding(bytes: Uint8Array, at: number): boolean {
  if (bytes.length - at > PADDING_BYTES_MAX) return false;
  for (let i = at; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}
