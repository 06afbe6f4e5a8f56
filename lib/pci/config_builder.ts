/**
 * Builds the configuration space of an emulated function from a declaration.
 *
 * @module
 */

import { UsageError } from "../errors/mod.ts";
import { type BarDeclaration, buildBars } from "./bar_builder.ts";
import {
  type CapabilityLayout,
  type ExtendedCapabilityDeclaration,
  layOutCapability,
  type StandardCapabilityDeclaration,
} from "./capability_builder.ts";
import { CapabilityWriter } from "./capability_writer.ts";
import { ConfigSpaceImage } from "./config_writer.ts";
import { CONVENTIONAL_BYTES, EXTENDED_BYTES, HEADER, HEADER_BYTES } from "./header.ts";

/**
 * Who looks at the function.
 *
 * `function`: an ordinary function or a PF. `vf`: a VF as hardware has it; vendor and device ID read 0xffff, BARs and
 * Memory Space Enable are hardwired to 0, and there is no INTx (PCIe 6.0 §9.3.4.1). `vf-for-user`: a VF as kernel VFIO
 * shows it to its user, with the missing parts filled in; it has no INTx either.
 */
export type FunctionShape = "function" | "vf" | "vf-for-user";

/** A function to be built. */
export interface FunctionDeclaration {
  /** Default `"function"`. */
  readonly shape?: FunctionShape;
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
  /** The device has several functions. Default `false`. */
  readonly multiFunction?: boolean;
  /** INTx wire. Default: none. */
  readonly interruptPin?: "A" | "B" | "C" | "D";
  /** Base address registers. */
  readonly bars?: readonly BarDeclaration[];
  /** Standard capabilities, in list order. */
  readonly capabilities?: readonly StandardCapabilityDeclaration[];
  /** Extended capabilities, in list order; the first one lies at 0x100. */
  readonly extendedCapabilities?: readonly ExtendedCapabilityDeclaration[];
}

/** Where a declared capability ended up. */
export interface PlacedCapability {
  /** The declaration. */
  readonly declaration: StandardCapabilityDeclaration | ExtendedCapabilityDeclaration;
  /** Byte offset in configuration space. */
  readonly offset: number;
  /** Size in bytes. */
  readonly lengthBytes: number;
}

/** A built configuration space. */
export interface BuiltConfigSpace {
  /** The space, with its reset state captured. */
  readonly image: ConfigSpaceImage;
  /** All capabilities, standard ones first, in the order of the declaration. */
  readonly placed: readonly PlacedCapability[];
}

/**
 * Builds a 4096-byte configuration space.
 *
 * @throws {UsageError} when a value is out of range, capabilities overlap, or they do not fit
 */
export function buildConfigSpace(declaration: FunctionDeclaration): BuiltConfigSpace {
  const image = new ConfigSpaceImage(EXTENDED_BYTES);
  writeHeader(image, declaration);
  // VF BARs are described by the PF's SR-IOV capability; a VF's own registers read 0.
  if (declaration.shape !== "vf") buildBars(image, HEADER.bars.offset, declaration.bars ?? []);
  const standard = placeList(image, declaration.capabilities ?? [], HEADER_BYTES, CONVENTIONAL_BYTES);
  const extended = placeList(
    image,
    declaration.extendedCapabilities ?? [],
    CONVENTIONAL_BYTES,
    EXTENDED_BYTES,
  );
  const first = extended[0]?.offset ?? CONVENTIONAL_BYTES;
  if (first !== CONVENTIONAL_BYTES) {
    throw new UsageError(`the first extended capability lies at 0x100, not at 0x${first.toString(16)}`);
  }
  image.set(HEADER.capabilitiesPointer.offset, 1, standard[0]?.offset ?? 0);
  image.captureResetState();
  return { image, placed: [...standard, ...extended] };
}

/** Offset of the first placed capability of a kind, for those who watch writes to it. */
export function placedOffset(
  built: BuiltConfigSpace,
  kind: PlacedCapability["declaration"]["kind"],
): number | undefined {
  return built.placed.find((capability) => capability.declaration.kind === kind)?.offset;
}

function writeHeader(image: ConfigSpaceImage, declaration: FunctionDeclaration): void {
  const { shape = "function", vendorId, deviceId, classCode } = declaration;
  const isVf = shape !== "function", isHardwareVf = shape === "vf";
  const limits: [string, number, number][] = [
    ["vendor ID", vendorId, 0xffff],
    ["device ID", deviceId, 0xffff],
    ["class code", classCode, 0xffffff],
    ["revision ID", declaration.revisionId ?? 0, 0xff],
    ["subsystem vendor ID", declaration.subsystemVendorId ?? 0, 0xffff],
    ["subsystem ID", declaration.subsystemId ?? 0, 0xffff],
  ];
  for (const [what, value, max] of limits) {
    if (!Number.isInteger(value) || value < 0 || value > max) {
      throw new UsageError(`${what} ${value} is out of range`, { hint: `at most 0x${max.toString(16)}` });
    }
  }
  if (isVf && declaration.interruptPin !== undefined) throw new UsageError("a VF has no INTx wire");

  const header = new CapabilityWriter(image, 0, HEADER);
  header.set("vendorId", isHardwareVf ? 0xffff : vendorId);
  header.set("deviceId", isHardwareVf ? 0xffff : deviceId);
  const hasIo = (declaration.bars ?? []).some((bar) => bar.space === "io");
  const hasMemory = (declaration.bars ?? []).some((bar) => bar.space !== "io");
  header.set("command", {}, [
    ...(hasIo && !isVf ? [] : ["ioSpace" as const]),
    ...(hasMemory && !isHardwareVf ? [] : ["memorySpace" as const]),
    ...(isVf ? ["parityErrorResponse", "serrEnable", "interruptDisable"] as const : []),
  ]);
  header.set("status", { capabilitiesList: (declaration.capabilities ?? []).length > 0 });
  header.set("revisionId", { revisionId: declaration.revisionId ?? 0, classCode });
  header.set("headerType", { multiFunction: declaration.multiFunction ?? false });
  header.set("subsystemVendorId", declaration.subsystemVendorId ?? vendorId);
  header.set("subsystemId", declaration.subsystemId ?? deviceId);
  if (!isVf) {
    // Both are scratch registers on PCIe: software may write them, hardware does nothing with them.
    header.allow("cacheLineSize", 0xff);
    header.allow("interruptLine", 0xff);
  }
  header.set("interruptPin", " ABCD".indexOf(declaration.interruptPin ?? " "));
}

/** Places the capabilities of one list, links them, and writes them. */
function placeList(
  image: ConfigSpaceImage,
  declarations: readonly (StandardCapabilityDeclaration | ExtendedCapabilityDeclaration)[],
  start: number,
  end: number,
): PlacedCapability[] {
  const layouts = declarations.map((declaration) => layOutCapability(declaration));
  const offsets = findPlaces(declarations, layouts, start, end);
  layouts.forEach(({ capability, version, write }, i) => {
    const offset = offsets[i]!, next = offsets[i + 1] ?? 0;
    if (capability.list === "standard") image.set(offset, 2, capability.id | (next << 8));
    else image.set(offset, 4, capability.id | (version << 16) | (next << 20));
    write(image, offset);
  });
  return declarations.map((declaration, i) => ({
    declaration,
    offset: offsets[i]!,
    lengthBytes: layouts[i]!.lengthBytes,
  }));
}

/** Gives every capability a place of its own: the declared one, or the first free one in the area. */
function findPlaces(
  declarations: readonly { readonly kind: string; readonly offset?: number }[],
  layouts: readonly CapabilityLayout[],
  start: number,
  end: number,
): number[] {
  const taken: { offset: number; end: number; kind: string }[] = [];
  const clash = (offset: number, length: number) =>
    taken.find((other) => offset < other.end && other.offset < offset + length);
  const claim = (index: number, offset: number): number => {
    const length = layouts[index]!.lengthBytes, { kind } = declarations[index]!;
    const text = `0x${offset.toString(16)}`;
    if (offset % 4 !== 0) throw new UsageError(`${kind} capability: offset ${text} is not a multiple of 4`);
    if (offset < start || offset + length > end) {
      throw new UsageError(`${kind} capability: ${length} bytes at ${text} are outside its list's area`);
    }
    const other = clash(offset, length);
    if (other !== undefined) throw new UsageError(`${kind} capability at ${text} overlaps ${other.kind}`);
    taken.push({ offset, end: offset + length, kind });
    return offset;
  };
  const fixed = declarations.map(({ offset }, i) => offset === undefined ? undefined : claim(i, offset));
  return fixed.map((offset, i) => {
    if (offset !== undefined) return offset;
    let free = start, other;
    while ((other = clash(free, layouts[i]!.lengthBytes)) !== undefined) free = (other.end + 3) & ~3;
    return claim(i, free);
  });
}
