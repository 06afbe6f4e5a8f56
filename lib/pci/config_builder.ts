/**
 * Builds the configuration space of an emulated function from a declaration.
 *
 * @module
 */

import { UsageError } from "../errors/mod.ts";
import { type BarShape, buildBars } from "./bar_builder.ts";
import { type CapabilityLayout, range } from "./capability_builder.ts";
import { CapabilityWriter } from "./capability_writer.ts";
import { ConfigSpaceImage } from "./config_writer.ts";
import { CONVENTIONAL_BYTES, EXTENDED_BYTES, HEADER, HEADER_BYTES } from "./header.ts";

/** A function to be built. */
export interface FunctionDeclaration {
  /**
   * A VF as kernel VFIO shows it to its user: IDs, BARs and Memory Space Enable, which hardware leaves out (PCIe 6.0 §9.3.4.1), are there. It
   * has no INTx. Default `false`.
   */
  readonly isVf?: boolean;
  /** Vendor ID. */
  readonly vendorId: number;
  /** Device ID. */
  readonly deviceId: number;
  /** Revision ID. Default 0. */
  readonly revisionId?: number;
  /** 24-bit class code, such as 0x020000 for an Ethernet controller. */
  readonly classCode: number;
  /** Subsystem vendor ID. Default: the vendor ID. */
  readonly subsystemVendorId?: number;
  /** Subsystem device ID. Default: the device ID. */
  readonly subsystemId?: number;
  /** Whether it pulls the INTx wire A. Default `false`. */
  readonly hasIntx?: boolean;
  /** Base address registers. */
  readonly bars?: readonly BarShape[];
  /** Standard capabilities, in list order. */
  readonly capabilities?: readonly CapabilityLayout[];
  /** Extended capabilities, in list order. */
  readonly extendedCapabilities?: readonly CapabilityLayout[];
}

/**
 * Builds a 4096-byte configuration space, and captures its reset state.
 *
 * @throws {UsageError} when a value is out of range, or the capabilities do not fit
 */
export function buildConfigSpace(declaration: FunctionDeclaration): ConfigSpaceImage {
  const { bars = [], capabilities = [], extendedCapabilities = [] } = declaration;
  const image = new ConfigSpaceImage(EXTENDED_BYTES);
  writeHeader(image, declaration);
  buildBars(image, HEADER.bars.offset, bars);
  writeList(image, capabilities, HEADER_BYTES, CONVENTIONAL_BYTES);
  writeList(image, extendedCapabilities, CONVENTIONAL_BYTES, EXTENDED_BYTES);
  if (capabilities.length > 0) image.set(HEADER.capabilitiesPointer.offset, 1, HEADER_BYTES);
  image.captureResetState();
  return image;
}

function writeHeader(image: ConfigSpaceImage, declaration: FunctionDeclaration): void {
  const { isVf = false, hasIntx = false, vendorId, deviceId, classCode, bars = [] } = declaration;
  const limits: [string, number, number][] = [
    ["vendor ID", vendorId, 0xffff],
    ["device ID", deviceId, 0xffff],
    ["class code", classCode, 0xffffff],
    ["revision ID", declaration.revisionId ?? 0, 0xff],
    ["subsystem vendor ID", declaration.subsystemVendorId ?? 0, 0xffff],
    ["subsystem ID", declaration.subsystemId ?? 0, 0xffff],
  ];
  for (const [what, value, max] of limits) range(what, value, 0, max);
  if (isVf && hasIntx) throw new UsageError("a VF has no INTx wire");

  const header = new CapabilityWriter(image, 0, HEADER);
  header.set("vendorId", vendorId);
  header.set("deviceId", deviceId);
  const hasIo = bars.some(({ kind }) => kind === "io"), hasMemory = bars.some(({ kind }) => kind !== "io");
  header.set("command", {}, [
    ...(hasIo && !isVf ? [] : ["ioSpace" as const]),
    ...(hasMemory ? [] : ["memorySpace" as const]),
    ...(isVf ? ["parityErrorResponse", "serrEnable", "interruptDisable"] as const : []),
  ]);
  header.set("status", { capabilitiesList: (declaration.capabilities ?? []).length > 0 });
  header.set("revisionId", { revisionId: declaration.revisionId ?? 0, classCode });
  header.set("subsystemVendorId", declaration.subsystemVendorId ?? vendorId);
  header.set("subsystemId", declaration.subsystemId ?? deviceId);
  if (!isVf) {
    // Both are scratch registers on PCIe: software may write them, hardware does nothing with them.
    header.allow("cacheLineSize", 0xff);
    header.allow("interruptLine", 0xff);
  }
  header.set("interruptPin", hasIntx ? 1 : 0);
}

/** Writes the capabilities of one list one behind the other, and links them. */
function writeList(
  image: ConfigSpaceImage,
  layouts: readonly CapabilityLayout[],
  start: number,
  end: number,
): void {
  let offset = start;
  layouts.forEach(({ capability: { list, id, kind }, version, lengthBytes, write }, i) => {
    if (offset + lengthBytes > end) {
      throw new UsageError(
        `${kind} capability: ${lengthBytes} bytes at 0x${offset.toString(16)} are outside its list's area`,
      );
    }
    const behind = (offset + lengthBytes + 3) & ~3, next = i + 1 < layouts.length ? behind : 0;
    if (list === "standard") image.set(offset, 2, id | (next << 8));
    else image.set(offset, 4, id | (version << 16) | (next << 20));
    write(image, offset);
    offset = behind;
  });
}
