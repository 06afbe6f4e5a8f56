/**
 * A function as plain data for `JSON.stringify`: the decoded header and capabilities, with addresses, offsets, IDs
 * and raw registers as hexadecimal text, because that is how one looks them up.
 *
 * @module
 */

import { typedCall } from "../errors/doors.ts";
import type { PciAddress } from "./address.ts";
import { BUILTIN_NAMES } from "./builtin_names.ts";
import { walkCapabilities } from "./capabilities.ts";
import type { ConfigSpace } from "./config_space.ts";
import { lookup, lookupClass, type PciNames } from "./ids.ts";
import { hex } from "./hex.ts";

/** Anything that JSON can hold. */
export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };

/** What a description needs besides the configuration space. All of it is optional. */
export interface DescribeOptions {
  /** Address of the function. */
  readonly address?: PciAddress;
  /** Names. Default: the built-in table. */
  readonly names?: PciNames;
  /** Size of each BAR in bytes, by index. */
  readonly barSizes?: readonly (number | undefined)[];
}

/** A function as plain data. Numbers that people read in hexadecimal are text such as `"0x1af4"`. */
export interface FunctionDescription {
  /** Address, when it was given. */
  readonly address?: string;
  /** It reads as all ones: the function was removed, has no power, or the link to it is down. What else is here means nothing then. */
  readonly gone?: true;
  /** Vendor ID. */
  readonly vendorId: string;
  /** Device ID. */
  readonly deviceId: string;
  /** Name of the vendor. */
  readonly vendor?: string;
  /** Name of the device. */
  readonly device?: string;
  /** 24-bit class code. */
  readonly classCode: string;
  /** Name of the class. */
  readonly class?: string;
  /** Revision ID. */
  readonly revision: string;
  /** Header type. */
  readonly headerType: number;
  /** The device has several functions. */
  readonly multiFunction: boolean;
  /** Subsystem IDs. */
  readonly subsystem?: JsonValue;
  /** Command register. */
  readonly command: JsonValue;
  /** Status register. */
  readonly status: JsonValue;
  /** INTx wire. */
  readonly interruptPin?: string;
  /** Base address registers. */
  readonly bars: JsonValue[];
  /** What a bridge has besides. */
  readonly bridge?: JsonValue;
  /** What a CardBus bridge has besides. */
  readonly cardBus?: JsonValue;
  /** Capabilities, each with its `kind`. */
  readonly capabilities: JsonValue[];
  /** What is wrong with the capability lists. */
  readonly findings: JsonValue[];
}

/** Describes a function as plain data. */
export function describeFunction(config: ConfigSpace, options: DescribeOptions = {}): FunctionDescription {
  const description = typedCall("describeFunction", [config, options], () => {
    const names = options.names ?? BUILTIN_NAMES;
    return toJson({
      address: options.address?.toString(),
      gone: config.isPresent ? undefined : true,
      vendorId: `0x${hex(config.vendorId, 4)}`,
      deviceId: `0x${hex(config.deviceId, 4)}`,
      ...lookup(names, config.vendorId, config.deviceId),
      classCode: `0x${hex(config.classCode.value, 6)}`,
      class: lookupClass(names, config.classCode).name,
      revision: `0x${hex(config.revisionId, 2)}`,
      headerType: config.headerType,
      multiFunction: config.isMultiFunction,
      subsystem: config.subsystem,
      command: config.command,
      status: config.status,
      interruptPin: config.interruptPin,
      bars: config.bars(options.barSizes),
      bridge: config.bridge,
      cardBus: config.cardBus,
      ...walkCapabilities(config),
    });
  });
  return description as unknown as FunctionDescription;
}

/** Fields whose numbers are written in hexadecimal; every `bigint` is, too. */
const HEX_FIELDS: ReadonlySet<string> = new Set(
  (
    "address badTypes correctableSource data deviceId dataVendorId dvsecId dvsecVendorId headerLog id " +
    "endpointBitmap laneErrorStatus legacyBase mask next notifyOffMultiplier offset pending raw regionLength regionOffset " +
    "source supportedPageSizes systemPageSize uncorrectableSource vendorId vfDeviceId vsecId"
  ).split(" "),
);

/** Of those the ids of 16 bits, which have four digits everywhere. */
const ID_FIELDS: ReadonlySet<string> = new Set([
  "dataVendorId",
  "deviceId",
  "dvsecVendorId",
  "vendorId",
  "vfDeviceId",
]);

/** Turns decoded data into JSON values: see {@linkcode HEX_FIELDS}; bytes become a string of hex digits. */
function toJson(value: unknown, field: string = ""): JsonValue {
  if (typeof value === "bigint") return `0x${hex(value, 1)}`;
  if (typeof value === "number") {
    return HEX_FIELDS.has(field) ? `0x${hex(value, ID_FIELDS.has(field) ? 4 : 1)}` : value;
  }
  if (typeof value === "boolean" || typeof value === "string") return value;
  if (value instanceof Uint8Array) return value.toHex();
  if (Array.isArray(value)) return value.map((item) => toJson(item, field));
  if (typeof value !== "object" || value === null) return null;
  const result: { [key: string]: JsonValue } = {};
  for (const [key, item] of Object.entries(value)) if (item !== undefined) result[key] = toJson(item, key);
  return result;
}
