/**
 * Capabilities of an emulated function: the bytes, and the write masks that follow from them.
 *
 * Which bits software may write comes from the same register tables that the decoders use; a builder only narrows
 * them where the function lacks an optional facility.
 *
 * @module
 */

import { UsageError } from "../errors/mod.ts";
import { fieldMask } from "../registers/declaration.ts";
import { type BarShape, buildBars } from "./bar_builder.ts";
import { ADDRESS_TRANSLATION } from "./capability/address_translation.ts";
import { ADVANCED_ERROR_REPORTING } from "./capability/advanced_error_reporting.ts";
import { ALTERNATIVE_ROUTING_ID } from "./capability/alternative_routing_id.ts";
import type { CapabilityDeclaration } from "./capability/declaration.ts";
import { EXPRESS, EXPRESS_TYPE, EXPRESS_V2_BYTES } from "./capability/express.ts";
import { EXPRESS_DEVICE_2, EXPRESS_LINK, EXPRESS_LINK_2 } from "./capability/express_registers.ts";
import { type BarPlace, MSIX } from "./capability/msix.ts";
import { POWER_MANAGEMENT } from "./capability/power_management.ts";
import { SRIOV } from "./capability/sriov.ts";
import { VENDOR_SPECIFIC, VENDOR_SPECIFIC_HEADER } from "./capability/vendor_specific.ts";
import { VIRTIO, VIRTIO_CFG_TYPE, VIRTIO_STRUCTURE_REGISTERS } from "./capability/virtio.ts";
import { CapabilityWriter } from "./capability_writer.ts";
import type { ConfigSpaceImage } from "./config_writer.ts";

/** Where MSI-X table and pending bits lie. */
export interface MsixShape {
  /** Number of vectors: 1 … 2048. */
  readonly vectors: number;
  /** Where the vector table is, 16 bytes a vector; the offset is a multiple of 8. */
  readonly table: BarPlace;
  /** Where the pending bits are, 8 bytes for every 64 vectors; the offset is a multiple of 8. */
  readonly pendingBits: BarPlace;
}

/** A vendor-specific capability with contents of the caller's. */
export interface VendorSpecificDeclaration {
  /** Discriminator. */
  readonly kind: "vendor-specific";
  /** Everything after the length byte. */
  readonly data: Uint8Array;
  /** Bits of `data` that software may write; none by default. */
  readonly writable?: Uint8Array;
}

/** A virtio structure (virtio 1.2 §4.1.4). */
export interface VirtioDeclaration {
  /** Discriminator. */
  readonly kind: "virtio";
  /** Which structure. The fields of `pciCfg` are all writable by the driver. */
  readonly structure: Exclude<keyof typeof VIRTIO_CFG_TYPE, "vendor">;
  /** BAR that holds it; 0 for `pciCfg`. */
  readonly bar?: number;
  /** Tells structures of one type apart; the region id of shared memory. Default 0. */
  readonly structureId?: number;
  /** Bytes from the start of the BAR. Default 0. */
  readonly regionOffset?: number;
  /** Size in bytes. Default 0. */
  readonly regionLength?: number;
  /** Notify only: 0, or a power of two of at least 2. Default 0. */
  readonly notifyOffMultiplier?: number;
}

/** SR-IOV of a PF, as its capability will say. It offers no VF migration and the six page sizes that the standard requires. */
export interface SriovShape {
  /** Most VFs that the PF can have; also InitialVFs, because VF migration is not offered. */
  readonly totalVfs: number;
  /** From the PF's routing ID to that of the first VF. */
  readonly firstVfOffset: number;
  /** From one VF's routing ID to the next. */
  readonly vfStride: number;
  /** Device ID of the VFs. */
  readonly vfDeviceId: number;
  /** Memory regions of one VF, each at least 4 KiB so that VFs can be mapped one by one. */
  readonly vfBars: readonly BarShape[];
}

/** What a capability needs before it is written. */
export interface CapabilityLayout {
  /** Its declaration. */
  readonly capability: CapabilityDeclaration;
  /** Version; 0 on the standard list. */
  readonly version: number;
  /** Size in bytes. */
  readonly lengthBytes: number;
  /** Writes everything after the list header. @throws {UsageError} when a value is out of range */
  readonly write: (image: ConfigSpaceImage, offset: number) => void;
}

/** @param lengthBytes of a capability whose declaration does not say it in advance */
function layOut<const C extends CapabilityDeclaration>(
  capability: C,
  write: (writer: CapabilityWriter<C["registers"]>) => void,
  lengthBytes: number = capability.lengthBytes as number,
  version: number = capability.list === "standard" ? 0 : 1,
): CapabilityLayout {
  return {
    capability,
    version,
    lengthBytes,
    write: (image, offset) => write(new CapabilityWriter(image, offset, capability.registers)),
  };
}

/**
 * Power Management, version 3: D0 and D3hot. No_Soft_Reset is clear: the function is reset on its way from D3hot to D0. Where it is set, Linux's
 * virtio driver leaves the device as it is over suspend to memory, from which functions come back reset all the same.
 */
export function powerManagement(): CapabilityLayout {
  return layOut(POWER_MANAGEMENT, (writer) => {
    writer.set("capabilities", { version: 3 });
    // PME and the data register are optional and left out, which hardwires their control fields to 0.
    writer.set("control", {}, ["pmeEnable", "dataSelect", "pmeStatus"]);
    // A write of an unsupported power state is discarded (PCIe 6.0 §7.5.2.2): this function knows D0 and D3hot.
    writer.restrict("control", 3, [0, 3]);
  });
}

/** MSI-X. */
export function msix({ vectors, table, pendingBits }: MsixShape): CapabilityLayout {
  return layOut(MSIX, (writer) => {
    writer.set("control", { tableSize: range("MSI-X vector count", vectors, 1, 2048) - 1 });
    for (const [name, place] of [["table", table], ["pendingBits", pendingBits]] as const) {
      range("MSI-X BAR index", place.bar, 0, 5);
      if (place.offset % 8 !== 0) {
        throw new UsageError(`MSI-X offset 0x${place.offset.toString(16)} is not a multiple of 8`);
      }
      writer.set(name, (place.offset | place.bar) >>> 0);
    }
  });
}

/** A capability of the vendor's. */
export function vendorCapability(wanted: VendorSpecificDeclaration | VirtioDeclaration): CapabilityLayout {
  if (wanted.kind === "virtio") {
    return layOut(VIRTIO, (writer) => writeVirtio(writer, wanted), virtioBytes(wanted));
  }
  const { data, writable = new Uint8Array() } = wanted;
  return layOut(VENDOR_SPECIFIC, (writer) => {
    const { image, offset } = writer;
    const length = range("vendor-specific capability length", data.length + 3, 3, 0xff);
    writer.by(VENDOR_SPECIFIC_HEADER).set("length", length);
    data.forEach((byte, i) => image.set(offset + 3 + i, 1, byte));
    writable.forEach((mask, i) => image.addMask(image.writeMask, offset + 3 + i, 1, mask));
  }, data.length + 3);
}

function virtioBytes({ structure }: VirtioDeclaration): number {
  if (structure === "sharedMemory") return 24;
  return structure === "notify" || structure === "pciCfg" ? 20 : 16;
}

function writeVirtio(
  header: CapabilityWriter<typeof VIRTIO.registers>,
  declaration: VirtioDeclaration,
): void {
  const { structure, bar = 0, structureId = 0, regionOffset = 0, regionLength = 0 } = declaration;
  const limit = structure === "sharedMemory" ? Number.MAX_SAFE_INTEGER : 0xffffffff;
  header.by(VENDOR_SPECIFIC_HEADER).set("length", virtioBytes(declaration));
  header.set("cfgType", VIRTIO_CFG_TYPE[structure]);
  const writer = header.by(VIRTIO_STRUCTURE_REGISTERS);
  writer.set("bar", range("virtio structure BAR", bar, 0, 5));
  writer.set("structureId", range("virtio structure id", structureId, 0, 0xff));
  writer.set("regionOffset", range("virtio structure offset", regionOffset, 0, limit) % 2 ** 32);
  writer.set("regionLength", range("virtio structure length", regionLength, 0, limit) % 2 ** 32);
  if (structure === "sharedMemory") {
    writer.set("regionOffsetHigh", Math.floor(regionOffset / 2 ** 32));
    writer.set("regionLengthHigh", Math.floor(regionLength / 2 ** 32));
  } else if (structure === "notify") {
    const multiplier = declaration.notifyOffMultiplier ?? 0;
    if (multiplier === 1 || (multiplier & (multiplier - 1)) !== 0) {
      throw new UsageError(
        `notify_off_multiplier ${multiplier} is neither 0 nor a power of two of at least 2`,
      );
    }
    writer.set("notifyOffMultiplier", multiplier);
  } else if (structure === "pciCfg") {
    // The driver aims this window by writing bar, offset and length (virtio 1.2 §4.1.4.9).
    for (const name of ["bar", "regionOffset", "regionLength", "pciCfgData"] as const) {
      writer.allow(name, 0xffffffff);
    }
  }
}

const EXPRESS_V1_BYTES = 0x14;

/**
 * PCI Express of an endpoint with function level reset (PCIe 6.0 §7.5.3): payloads of up to 256 bytes, one lane at 8 GT/s.
 *
 * @param structureVersion 1 (PCIe 1.1) has 20 bytes in place of 60, and a link of 2.5 GT/s: for functions short of room
 */
export function express(structureVersion: 1 | 2 = 2): CapabilityLayout {
  return layOut(EXPRESS, (writer) => {
    writer.set("capabilities", { version: structureVersion, deviceType: EXPRESS_TYPE.endpoint });
    writer.set("deviceCapabilities", {
      maxPayloadSupported: 1,
      extendedTag: true,
      // All functions since PCIe 1.1 set this.
      roleBasedErrorReporting: true,
      functionLevelReset: true,
    });
    // Reset values are the standard's: relaxed ordering and no snoop allowed, reads of 512 bytes.
    writer.set("deviceControl", { relaxedOrdering: true, noSnoop: true, maxReadRequest: 2 }, [
      "phantomFunctions",
      "auxiliaryPower",
    ]);
    writer.set("deviceStatus", {}, ["emergencyPowerReduction"]);
    const link = writer.by(EXPRESS_LINK), speed = structureVersion === 1 ? 1 : 3, width = 1;
    link.set("capabilities", { maxSpeed: speed, maxWidth: width, aspmOptionalityCompliance: true });
    link.set("control", {}, ["clockPowerManagement"]);
    link.set("status", { speed, width, slotClock: true });
    if (structureVersion === 1) return;
    const device2 = writer.by(EXPRESS_DEVICE_2), link2 = writer.by(EXPRESS_LINK_2);
    device2.set("capabilities", { completionTimeoutDisable: true });
    // All that the second control register has besides is optional and left out.
    device2.allow("control", fieldMask(EXPRESS_DEVICE_2.control.fields.completionTimeoutDisable));
    // Bit n - 1 for every speed code up to the best: no rate in between may be left out.
    link2.set("capabilities", { supportedSpeeds: (1 << speed) - 1 });
    link2.set("control", { targetSpeed: speed });
    link2.set("status", {});
  }, structureVersion === 1 ? EXPRESS_V1_BYTES : EXPRESS_V2_BYTES);
}

/** Advanced Error Reporting, version 2, of a function without End-End TLP prefixes. */
export function advancedErrorReporting(): CapabilityLayout {
  return layOut(
    ADVANCED_ERROR_REPORTING,
    (writer) => {
      writer.set("uncorrectableStatus", {});
      writer.set("uncorrectableMask", {});
      // Reset values of severity and correctable mask are the standard's (PCIe 6.0 §7.8.4.4 and §7.8.4.6).
      writer.set("uncorrectableSeverity", {
        dataLinkProtocol: true,
        surpriseDown: true,
        flowControlProtocol: true,
        receiverOverflow: true,
        malformedTlp: true,
        uncorrectableInternal: true,
      });
      writer.set("correctableStatus", {});
      writer.set("correctableMask", {
        advisoryNonFatal: true,
        correctedInternal: true,
        headerLogOverflow: true,
      });
      writer.set("control", {}, ["ecrcGenerationEnable", "ecrcCheckEnable", "multipleHeaderRecordingEnable"]);
    },
    0x38,
    2,
  );
}

/** Alternative Routing-ID Interpretation of a device's only physical function, without function groups. */
export function alternativeRoutingId(): CapabilityLayout {
  return layOut(ALTERNATIVE_ROUTING_ID, () => {});
}

/** Address Translation Services, with a queue of 32 invalidations. */
export function addressTranslation(): CapabilityLayout {
  return layOut(ADDRESS_TRANSLATION, (writer) => {
    writer.set("capabilities", { pageAlignedRequest: true });
    writer.set("control", {});
  });
}

/** Single Root I/O Virtualization. */
export function sriov(
  { totalVfs, firstVfOffset, vfStride, vfDeviceId, vfBars }: SriovShape,
): CapabilityLayout {
  return layOut(SRIOV, (writer) => {
    range("TotalVFs", totalVfs, 0, 0xffff);
    for (const { index, kind, sizeBytes } of vfBars) {
      if (kind === "io") throw new UsageError(`VF BAR ${index}: a VF has no I/O space`);
      if (sizeBytes < 4096) throw new UsageError(`VF BAR ${index}: ${sizeBytes} bytes is less than a page`);
    }
    const { control, vfBars: firstBar } = SRIOV.registers;
    writer.set("control", {}, [
      "vfMigrationEnable",
      "vfMigrationInterruptEnable",
      "vf10BitTagRequesterEnable",
    ]);
    writer.set("initialVfs", totalVfs);
    writer.set("totalVfs", totalVfs);
    writer.set("numVfs", 0);
    writer.set("firstVfOffset", range("First VF Offset", firstVfOffset, 0, 0xffff));
    writer.set("vfStride", range("VF Stride", vfStride, 0, 0xffff));
    writer.set("vfDeviceId", range("VF Device ID", vfDeviceId, 0, 0xffff));
    writer.set("supportedPageSizes", SUPPORTED_PAGE_SIZES);
    writer.set("systemPageSize", 1);
    writer.allow("systemPageSize", SUPPORTED_PAGE_SIZES);
    buildBars(writer.image, writer.offset + firstBar.offset, vfBars);
    // While VFs exist, their number, their page size and the numbering scheme must not change under them.
    const enable = { offset: writer.offset + control.offset, mask: fieldMask(control.fields.vfEnable) };
    writer.lock("control", fieldMask(control.fields.ariCapableHierarchy), enable);
    writer.lock("numVfs", 0xffff, enable);
    writer.lock("systemPageSize", 0xffffffff, enable);
  });
}

/** Bit n: pages of 2^(n+12) bytes. The six sizes that the standard requires. */
const SUPPORTED_PAGE_SIZES = 0x553;

/** A number, checked. @throws {UsageError} */
export function range(what: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new UsageError(`${what} ${value} is out of range`, {
      hint: `it is an integer from ${min} to ${max}`,
    });
  }
  return value;
}
