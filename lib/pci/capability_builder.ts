/**
 * Capabilities of an emulated function: declarations, and the bytes and write masks that follow from them.
 *
 * Which bits software may write comes from the same register tables that the decoders use; a builder only narrows
 * them where the function lacks an optional facility.
 *
 * @module
 */

import { UsageError } from "../errors/mod.ts";
import { type BarDeclaration, buildBars } from "./bar_builder.ts";
import * as aer from "./capability/advanced_error_reporting.ts";
import { ARI_BYTES, ARI_CAPABILITIES, ARI_CONTROL } from "./capability/alternative_routing_id.ts";
import { ATS_BYTES, ATS_CAPABILITIES, ATS_CONTROL } from "./capability/address_translation.ts";
import { CAPABILITY_ID as ID, EXTENDED_CAPABILITY_ID as EXTENDED_ID } from "./capability/id.ts";
import { MSI_CONTROL, msiBytes } from "./capability/msi.ts";
import { type BarPlace, MSIX_BYTES, MSIX_CONTROL } from "./capability/msix.ts";
import * as pm from "./capability/power_management.ts";
import { SERIAL_NUMBER_BYTES } from "./capability/serial_number.ts";
import { SRIOV_BYTES, SRIOV_CONTROL, SRIOV_OFFSET } from "./capability/sriov.ts";
import { VIRTIO_CFG_TYPE } from "./capability/virtio.ts";
import type { CapabilityWriter } from "./capability_writer.ts";
import { buildExpress, type ExpressDeclaration } from "./express_builder.ts";
import { fieldMask } from "../registers/declaration.ts";

/** Where a capability goes; without an offset, to the next free place. */
export interface Placement {
  /** Byte offset, a multiple of 4. */
  readonly offset?: number;
}

/** Power Management, version 3. The function supports D0 and D3hot. */
export interface PowerManagementDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "power-management";
  /** The function keeps its state from D3hot to D0. Default `true`. */
  readonly noSoftReset?: boolean;
}

/** Message Signalled Interrupts. */
export interface MsiDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "msi";
  /** Vectors that the function asks for: 1, 2, 4 … 32. */
  readonly vectors: number;
  /** Message addresses of 64 bits. Default `true`. */
  readonly address64?: boolean;
  /** One mask and one pending bit per vector. Default `false`. */
  readonly perVectorMasking?: boolean;
}

/** MSI-X. */
export interface MsixDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "msi-x";
  /** Number of vectors: 1 … 2048. */
  readonly vectors: number;
  /** Where the vector table is; the offset is a multiple of 8. */
  readonly table: BarPlace;
  /** Where the pending bits are; the offset is a multiple of 8. */
  readonly pendingBits: BarPlace;
}

/** A vendor-specific capability with contents of the caller's. */
export interface VendorSpecificDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "vendor-specific";
  /** Everything after the length byte. */
  readonly data: Uint8Array;
  /** Bits of `data` that software may write; none by default. */
  readonly writable?: Uint8Array;
}

/** A virtio structure (virtio 1.2 §4.1.4). */
export interface VirtioDeclaration extends Placement {
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

/** A capability of the standard list. */
export type StandardCapabilityDeclaration =
  | ExpressDeclaration
  | MsiDeclaration
  | MsixDeclaration
  | PowerManagementDeclaration
  | VendorSpecificDeclaration
  | VirtioDeclaration;

/** Alternative Routing-ID Interpretation. */
export interface AriDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "alternative-routing-id";
  /** Function number of the next function in the device; 0, the default, at the last one. */
  readonly nextFunction?: number;
}

/** Address Translation Services. */
export interface AtsDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "address-translation";
  /** Invalidations that the function can queue: 1 … 32. Default 32. */
  readonly invalidateQueueDepth?: number;
  /** The untranslated address of a request is always page aligned. Default `true`. */
  readonly pageAlignedRequest?: boolean;
}

/** Advanced Error Reporting, version 2. */
export interface AerDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "advanced-error-reporting";
}

/** Device Serial Number. */
export interface SerialNumberDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "device-serial-number";
  /** The EUI-64. */
  readonly serialNumber: bigint;
}

/** Single Root I/O Virtualization. */
export interface SriovDeclaration extends Placement {
  /** Discriminator. */
  readonly kind: "sr-iov";
  /** Most VFs that the PF can have; also InitialVFs, because VF migration is not offered. */
  readonly totalVfs: number;
  /** From the PF's routing ID to that of the first VF. */
  readonly firstVfOffset: number;
  /** From one VF's routing ID to the next. */
  readonly vfStride: number;
  /** Device ID of the VFs. */
  readonly vfDeviceId: number;
  /** Memory regions of one VF, each at least 4 KiB so that VFs can be mapped one by one. */
  readonly vfBars?: readonly BarDeclaration[];
  /** Bit n: pages of 2^(n+12) bytes. Default 0x553, the six sizes that the standard requires. */
  readonly supportedPageSizes?: number;
  /** Function number of the PF that this one depends on: its own, the default 0, when there is none. */
  readonly functionDependencyLink?: number;
  /** Whether ARI Capable Hierarchy can be set: only in the lowest numbered PF. Default `true`. */
  readonly isLowestPf?: boolean;
}

/** A capability of the extended list. */
export type ExtendedCapabilityDeclaration =
  | AerDeclaration
  | AriDeclaration
  | AtsDeclaration
  | SerialNumberDeclaration
  | SriovDeclaration;

/** What a capability needs before it is written. */
export interface CapabilityLayout {
  /** Capability ID. */
  readonly id: number;
  /** Version; 0 on the standard list. */
  readonly version: number;
  /** Size in bytes. */
  readonly lengthBytes: number;
  /** Writes everything after the list header. */
  readonly write: (writer: CapabilityWriter) => void;
}

/** Works out ID, size and contents of a standard capability. @throws {UsageError} when a value is out of range */
export function layOutStandard(declaration: StandardCapabilityDeclaration): CapabilityLayout {
  switch (declaration.kind) {
    case "power-management":
      return {
        id: ID.powerManagement,
        version: 0,
        lengthBytes: pm.POWER_MANAGEMENT_BYTES,
        write: (writer) => writePowerManagement(writer, declaration),
      };
    case "msi": {
      const lengthBytes = msiBytes(declaration.address64 ?? true, declaration.perVectorMasking ?? false);
      return { id: ID.msi, version: 0, lengthBytes, write: (writer) => writeMsi(writer, declaration) };
    }
    case "msi-x":
      return {
        id: ID.msix,
        version: 0,
        lengthBytes: MSIX_BYTES,
        write: (writer) => writeMsix(writer, declaration),
      };
    case "vendor-specific":
      return {
        id: ID.vendorSpecific,
        version: 0,
        lengthBytes: declaration.data.length + 3,
        write: (writer) => {
          range("vendor-specific capability length", declaration.data.length + 3, 3, 0xff);
          writer.set8(2, declaration.data.length + 3);
          writer.setBytes(3, declaration.data);
          if (declaration.writable !== undefined) writer.allowBytes(3, declaration.writable);
        },
      };
    case "virtio":
      return {
        id: ID.vendorSpecific,
        version: 0,
        lengthBytes: virtioBytes(declaration),
        write: (writer) => writeVirtio(writer, declaration),
      };
    case "express":
      return buildExpress(declaration);
  }
}

/** Works out ID, size and contents of an extended capability. @throws {UsageError} when a value is out of range */
export function layOutExtended(declaration: ExtendedCapabilityDeclaration): CapabilityLayout {
  switch (declaration.kind) {
    case "advanced-error-reporting":
      return {
        id: EXTENDED_ID.advancedErrorReporting,
        version: 2,
        lengthBytes: aer.ADVANCED_ERROR_REPORTING_BYTES,
        write: writeAer,
      };
    case "alternative-routing-id":
      return {
        id: EXTENDED_ID.alternativeRoutingId,
        version: 1,
        lengthBytes: ARI_BYTES,
        write: (writer) => {
          const nextFunction = range("ARI next function", declaration.nextFunction ?? 0, 0, 0xff);
          writer.register(ARI_CAPABILITIES, { nextFunction });
          // Function groups are optional, and without them nothing in ARI Control is implemented.
          writer.register(ARI_CONTROL, {}, ["mfvcFunctionGroups", "acsFunctionGroups", "functionGroup"]);
        },
      };
    case "address-translation":
      return {
        id: EXTENDED_ID.addressTranslation,
        version: 1,
        lengthBytes: ATS_BYTES,
        write: (writer) => {
          const depth = range("ATS invalidate queue depth", declaration.invalidateQueueDepth ?? 32, 1, 32);
          const pageAlignedRequest = declaration.pageAlignedRequest ?? true;
          writer.register(ATS_CAPABILITIES, { invalidateQueueDepth: depth & 0x1f, pageAlignedRequest });
          writer.register(ATS_CONTROL, {});
        },
      };
    case "device-serial-number":
      return {
        id: EXTENDED_ID.deviceSerialNumber,
        version: 1,
        lengthBytes: SERIAL_NUMBER_BYTES,
        write: (writer) => {
          writer.set32(4, Number(declaration.serialNumber & 0xffffffffn));
          writer.set32(8, Number((declaration.serialNumber >> 32n) & 0xffffffffn));
        },
      };
    case "sr-iov":
      return {
        id: EXTENDED_ID.sriov,
        version: 1,
        lengthBytes: SRIOV_BYTES,
        write: (writer) => writeSriov(writer, declaration),
      };
  }
}

function writePowerManagement(writer: CapabilityWriter, declaration: PowerManagementDeclaration): void {
  writer.register(pm.POWER_MANAGEMENT_CAPABILITIES, { version: 3 });
  // PME and the data register are optional and left out, which hardwires their control fields to 0.
  writer.register(pm.POWER_MANAGEMENT_CONTROL, { noSoftReset: declaration.noSoftReset ?? true }, [
    "pmeEnable",
    "dataSelect",
    "pmeStatus",
  ]);
  // A write of an unsupported power state is discarded (PCIe 6.0 §7.5.2.2): this function knows D0 and D3hot.
  writer.valueRule(4, 3, [0, 3]);
}

function writeMsi(writer: CapabilityWriter, declaration: MsiDeclaration): void {
  const { vectors, address64 = true, perVectorMasking = false } = declaration;
  if (![1, 2, 4, 8, 16, 32].includes(vectors)) {
    throw new UsageError(`MSI cannot have ${vectors} vectors`, {
      hint: "use 1, 2, 4, 8, 16 or 32, or MSI-X",
    });
  }
  writer.register(MSI_CONTROL, { multipleMessageCapable: Math.log2(vectors), address64, perVectorMasking }, [
    "extendedMessageDataEnable",
  ]);
  writer.allow(4, 4, 0xfffffffc);
  if (address64) writer.allow(8, 4, 0xffffffff);
  const data = address64 ? 12 : 8;
  writer.allow(data, 2, 0xffff);
  if (perVectorMasking) writer.allow(data + 4, 4, vectors === 32 ? 0xffffffff : (1 << vectors) - 1);
}

function writeMsix(writer: CapabilityWriter, { vectors, table, pendingBits }: MsixDeclaration): void {
  writer.register(MSIX_CONTROL, { tableSize: range("MSI-X vector count", vectors, 1, 2048) - 1 });
  for (const [at, place] of [[4, table], [8, pendingBits]] as const) {
    range("MSI-X BAR index", place.bar, 0, 5);
    if (place.offset % 8 !== 0) {
      throw new UsageError(`MSI-X offset 0x${place.offset.toString(16)} is not a multiple of 8`);
    }
    writer.set32(at, place.offset | place.bar);
  }
}

function virtioBytes({ structure }: VirtioDeclaration): number {
  if (structure === "sharedMemory") return 24;
  return structure === "notify" || structure === "pciCfg" ? 20 : 16;
}

function writeVirtio(writer: CapabilityWriter, declaration: VirtioDeclaration): void {
  const { structure, bar = 0, structureId = 0, regionOffset = 0, regionLength = 0 } = declaration;
  range("virtio structure BAR", bar, 0, 5);
  range("virtio structure id", structureId, 0, 0xff);
  const limit = structure === "sharedMemory" ? Number.MAX_SAFE_INTEGER : 0xffffffff;
  range("virtio structure offset", regionOffset, 0, limit);
  range("virtio structure length", regionLength, 0, limit);
  writer.set8(2, virtioBytes(declaration));
  writer.set8(3, VIRTIO_CFG_TYPE[structure]);
  writer.set8(4, bar);
  writer.set8(5, structureId);
  writer.set32(8, regionOffset % 2 ** 32);
  writer.set32(12, regionLength % 2 ** 32);
  if (structure === "sharedMemory") {
    writer.set32(16, Math.floor(regionOffset / 2 ** 32));
    writer.set32(20, Math.floor(regionLength / 2 ** 32));
  } else if (structure === "notify") {
    const multiplier = declaration.notifyOffMultiplier ?? 0;
    if (multiplier === 1 || (multiplier & (multiplier - 1)) !== 0) {
      throw new UsageError(
        `notify_off_multiplier ${multiplier} is neither 0 nor a power of two of at least 2`,
      );
    }
    writer.set32(16, multiplier);
  } else if (structure === "pciCfg") {
    // The driver aims this window by writing bar, offset and length (virtio 1.2 §4.1.4.9).
    writer.allow(4, 1, 0xff);
    writer.allow(8, 4, 0xffffffff);
    writer.allow(12, 4, 0xffffffff);
    writer.allow(16, 4, 0xffffffff);
  }
}

function writeAer(writer: CapabilityWriter): void {
  writer.register(aer.UNCORRECTABLE_STATUS, {});
  writer.register(aer.UNCORRECTABLE_MASK, {});
  // Reset values of severity and correctable mask are the standard's (PCIe 6.0 §7.8.4.4 and §7.8.4.6).
  writer.register(aer.UNCORRECTABLE_SEVERITY, {
    dataLinkProtocol: true,
    surpriseDown: true,
    flowControlProtocol: true,
    receiverOverflow: true,
    malformedTlp: true,
    uncorrectableInternal: true,
  });
  writer.register(aer.CORRECTABLE_STATUS, {});
  writer.register(aer.CORRECTABLE_MASK, {
    advisoryNonFatal: true,
    correctedInternal: true,
    headerLogOverflow: true,
  });
  writer.register(aer.AER_CONTROL, {}, [
    "ecrcGenerationEnable",
    "ecrcCheckEnable",
    "multipleHeaderRecordingEnable",
  ]);
}

function writeSriov(writer: CapabilityWriter, declaration: SriovDeclaration): void {
  const { totalVfs, vfBars = [], supportedPageSizes = 0x553, isLowestPf = true } = declaration;
  range("TotalVFs", totalVfs, 0, 0xffff);
  for (const bar of vfBars) {
    if (bar.space === "io") throw new UsageError(`VF BAR ${bar.index}: a VF has no I/O space`);
    if (bar.sizeBytes < 4096) {
      throw new UsageError(`VF BAR ${bar.index}: ${bar.sizeBytes} bytes is less than a page`);
    }
  }
  if ((supportedPageSizes & 1) === 0) throw new UsageError("an SR-IOV function must support 4 KiB pages");
  writer.register(SRIOV_CONTROL, {}, [
    "vfMigrationEnable",
    "vfMigrationInterruptEnable",
    "vf10BitTagRequesterEnable",
    ...(isLowestPf ? [] : ["ariCapableHierarchy" as const]),
  ]);
  writer.set16(SRIOV_OFFSET.initialVfs, totalVfs);
  writer.set16(SRIOV_OFFSET.totalVfs, totalVfs);
  writer.allow(SRIOV_OFFSET.numVfs, 2, 0xffff);
  writer.set8(
    SRIOV_OFFSET.functionDependencyLink,
    range("dependency", declaration.functionDependencyLink ?? 0, 0, 0xff),
  );
  writer.set16(SRIOV_OFFSET.firstVfOffset, range("First VF Offset", declaration.firstVfOffset, 0, 0xffff));
  writer.set16(SRIOV_OFFSET.vfStride, range("VF Stride", declaration.vfStride, 0, 0xffff));
  writer.set16(SRIOV_OFFSET.vfDeviceId, range("VF Device ID", declaration.vfDeviceId, 0, 0xffff));
  writer.set32(SRIOV_OFFSET.supportedPageSizes, supportedPageSizes);
  writer.set32(SRIOV_OFFSET.systemPageSize, 1);
  writer.allow(SRIOV_OFFSET.systemPageSize, 4, supportedPageSizes);
  buildBars(writer.image, writer.offset + SRIOV_OFFSET.vfBar0, vfBars);
  // While VFs exist, their number, their page size and the numbering scheme must not change under them.
  const enable = {
    offset: writer.offset + SRIOV_OFFSET.control,
    mask: fieldMask(SRIOV_CONTROL.fields.vfEnable),
  };
  writer.lockRule(SRIOV_OFFSET.control, fieldMask(SRIOV_CONTROL.fields.ariCapableHierarchy), enable);
  for (let i = 0; i < 2; i++) writer.lockRule(SRIOV_OFFSET.numVfs + i, 0xff, enable);
  for (let i = 0; i < 4; i++) writer.lockRule(SRIOV_OFFSET.systemPageSize + i, 0xff, enable);
}

function range(what: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new UsageError(`${what} ${value} is out of range`, {
      hint: `it is an integer from ${min} to ${max}`,
    });
  }
  return value;
}
