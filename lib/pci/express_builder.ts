/**
 * The PCI Express capability of an emulated endpoint (PCIe 6.0 §7.5.3).
 *
 * @module
 */

import { UsageError } from "../errors/mod.ts";
import { EXPRESS_TYPE, EXPRESS_V2_BYTES, linkSpeedGigatransfers } from "./capability/express.ts";
import {
  EXPRESS_DEVICE_2,
  EXPRESS_LINK,
  EXPRESS_LINK_2,
  EXPRESS_REGISTERS,
} from "./capability/express_registers.ts";
import type { CapabilityWriter } from "./capability_writer.ts";
import { fieldMask, type RegisterTable } from "../registers/declaration.ts";

/** PCI Express of an endpoint. */
export interface ExpressDeclaration {
  /** Byte offset, a multiple of 4; without one, the next free place. */
  readonly offset?: number;
  /** Discriminator. */
  readonly kind: "express";
  /** Version of the structure. Default 2. Version 1 (PCIe 1.1) has 20 bytes in place of 60, 12 without a link: for functions short of room. */
  readonly structureVersion?: 1 | 2;
  /** A plain endpoint, the default, or one that is integrated into the root complex and has no link. */
  readonly deviceType?: "endpoint" | "rootComplexEndpoint";
  /** Function level reset. Default `true`. */
  readonly functionLevelReset?: boolean;
  /** Largest payload that the function takes, in bytes: 128, 256 … 4096. Default 256. */
  readonly maxPayloadBytes?: number;
  /** Raw rate of the link in GT/s: 2.5, 5, 8, 16, 32 or 64. Default 8, and 2.5 for version 1. */
  readonly gigatransfers?: number;
  /** Number of lanes: 1, 2, 4, 8 or 16. Default 1. */
  readonly width?: number;
  /** Tags of 8 bits. Default `true`. */
  readonly extendedTag?: boolean;
}

const V1_BYTES = { endpoint: 0x14, rootComplexEndpoint: 0x0c } as const;

/** Size of the structure in bytes. */
export function expressBytes({ structureVersion, deviceType = "endpoint" }: ExpressDeclaration): number {
  return structureVersion === 1 ? V1_BYTES[deviceType] : EXPRESS_V2_BYTES;
}

/** Writes a PCI Express capability. @throws {UsageError} when a value is not one of those listed */
export function writeExpress(
  writer: CapabilityWriter<typeof EXPRESS_REGISTERS>,
  declaration: ExpressDeclaration,
): void {
  writeDevice(writer, declaration);
  if (declaration.deviceType !== "rootComplexEndpoint") writeLink(writer, declaration);
}

function writeDevice(
  writer: CapabilityWriter<typeof EXPRESS_REGISTERS>,
  declaration: ExpressDeclaration,
): void {
  const { deviceType = "endpoint", functionLevelReset = true, extendedTag = true } = declaration;
  const { structureVersion = 2 } = declaration, sizes = [128, 256, 512, 1024, 2048, 4096];
  const maxPayloadBytes = oneOf("max payload size", declaration.maxPayloadBytes ?? 256, sizes);
  writer.set("capabilities", { version: structureVersion, deviceType: EXPRESS_TYPE[deviceType] });
  writer.set("deviceCapabilities", {
    maxPayloadSupported: Math.log2(maxPayloadBytes) - 7,
    extendedTag,
    // All functions since PCIe 1.1 set this.
    roleBasedErrorReporting: true,
    functionLevelReset,
  });
  // Reset values are the standard's: relaxed ordering and no snoop allowed, reads of 512 bytes.
  writer.set("deviceControl", { relaxedOrdering: true, noSnoop: true, maxReadRequest: 2 }, [
    "phantomFunctions",
    "auxiliaryPower",
    ...(extendedTag ? [] : ["extendedTag" as const]),
    ...(functionLevelReset ? [] : ["initiateFunctionLevelReset" as const]),
  ]);
  // A function level reset must not change the payload size that the rest of the hierarchy counts on (§6.6.2).
  writer.keepThroughFlr("deviceControl", fieldMask(EXPRESS_REGISTERS.deviceControl.fields.maxPayload));
  writer.set("deviceStatus", {}, ["emergencyPowerReduction"]);
  if (structureVersion === 1) return;
  const second = writer.by(EXPRESS_DEVICE_2);
  second.set("capabilities", { completionTimeoutDisable: true });
  second.set("control", {}, [
    "completionTimeout",
    "ariForwarding",
    "atomicOpRequester",
    "atomicOpEgressBlocking",
    "idoRequest",
    "idoCompletion",
    "ltr",
    "emergencyPowerReduction",
    "tag10BitRequester",
    "obff",
    "endToEndTlpPrefixBlocking",
  ]);
}

function writeLink(capability: CapabilityWriter<RegisterTable>, declaration: ExpressDeclaration): void {
  const codes = [1, 2, 3, 4, 5, 6];
  const gigatransfers = oneOf(
    "link speed",
    declaration.gigatransfers ?? (declaration.structureVersion === 1 ? 2.5 : 8),
    codes.map((c) => linkSpeedGigatransfers(c) ?? 0),
  );
  const speed = codes.find((code) => linkSpeedGigatransfers(code) === gigatransfers) ?? 1;
  const width = oneOf("link width", declaration.width ?? 1, [1, 2, 4, 8, 16]);
  const link = capability.by(EXPRESS_LINK), second = capability.by(EXPRESS_LINK_2);
  link.set("capabilities", { maxSpeed: speed, maxWidth: width, aspmOptionalityCompliance: true });
  link.set("control", {}, ["clockPowerManagement"]);
  link.keepThroughFlr("control", 0xffff);
  link.set("status", { speed, width, slotClock: true });
  if (declaration.structureVersion === 1) return;
  // Bit n - 1 for every speed code up to the best: no rate in between may be left out.
  second.set("capabilities", { supportedSpeeds: (1 << speed) - 1 });
  second.set("control", { targetSpeed: speed });
  second.set("status", {});
}

function oneOf(what: string, value: number, choices: readonly number[]): number {
  if (!choices.includes(value)) {
    throw new UsageError(`${what} ${value} does not exist`, { hint: `choose from ${choices.join(", ")}` });
  }
  return value;
}
