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
import { ADDRESS_TRANSLATION } from "./capability/address_translation.ts";
import { ADVANCED_ERROR_REPORTING } from "./capability/advanced_error_reporting.ts";
import { ALTERNATIVE_ROUTING_ID } from "./capability/alternative_routing_id.ts";
import type { CapabilityDeclaration } from "./capability/declaration.ts";
import { EXPRESS } from "./capability/express.ts";
import { MSI, MSI_MESSAGE_32, MSI_MESSAGE_64, msiBytes } from "./capability/msi.ts";
import { type BarPlace, MSIX } from "./capability/msix.ts";
import { POWER_MANAGEMENT } from "./capability/power_management.ts";
import { SERIAL_NUMBER } from "./capability/serial_number.ts";
import { SRIOV } from "./capability/sriov.ts";
import { VENDOR_SPECIFIC, VENDOR_SPECIFIC_HEADER } from "./capability/vendor_specific.ts";
import { VIRTIO, VIRTIO_CFG_TYPE, VIRTIO_STRUCTURE_REGISTERS } from "./capability/virtio.ts";
import { CapabilityWriter } from "./capability_writer.ts";
import type { ConfigSpaceImage } from "./config_writer.ts";
import { expressBytes, type ExpressDeclaration, writeExpress } from "./express_builder.ts";
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
  /** Its declaration. */
  readonly capability: CapabilityDeclaration;
  /** Version; 0 on the standard list. */
  readonly version: number;
  /** Size in bytes. */
  readonly lengthBytes: number;
  /** Writes everything after the list header. */
  readonly write: (image: ConfigSpaceImage, offset: number) => void;
}

/** Works out ID, size and contents of a capability. @throws {UsageError} when a value is out of range */
export function layOutCapability(
  wanted: StandardCapabilityDeclaration | ExtendedCapabilityDeclaration,
): CapabilityLayout {
  switch (wanted.kind) {
    case "power-management":
      return layOut(POWER_MANAGEMENT, (writer) => writePowerManagement(writer, wanted));
    case "msi": {
      const { address64 = true, perVectorMasking = false } = wanted;
      return layOut(MSI, (writer) => writeMsi(writer, wanted), msiBytes(address64, perVectorMasking));
    }
    case "msi-x":
      return layOut(MSIX, (writer) => writeMsix(writer, wanted));
    case "vendor-specific":
      return layOut(VENDOR_SPECIFIC, (writer) => writeVendorSpecific(writer, wanted), wanted.data.length + 3);
    case "virtio":
      return layOut(VIRTIO, (writer) => writeVirtio(writer, wanted), virtioBytes(wanted));
    case "express":
      return layOut(EXPRESS, (writer) => writeExpress(writer, wanted), expressBytes(wanted));
    case "advanced-error-reporting":
      return layOut(ADVANCED_ERROR_REPORTING, writeAer, 0x48, 2);
    case "alternative-routing-id":
      return layOut(ALTERNATIVE_ROUTING_ID, (writer) => {
        writer.set("capabilities", {
          nextFunction: range("ARI next function", wanted.nextFunction ?? 0, 0, 0xff),
        });
        // Function groups are optional, and without them nothing in ARI Control is implemented.
        writer.set("control", {}, ["mfvcFunctionGroups", "acsFunctionGroups", "functionGroup"]);
      });
    case "address-translation":
      return layOut(ADDRESS_TRANSLATION, (writer) => {
        const depth = range("ATS invalidate queue depth", wanted.invalidateQueueDepth ?? 32, 1, 32);
        const { pageAlignedRequest = true } = wanted;
        writer.set("capabilities", { invalidateQueueDepth: depth & 0x1f, pageAlignedRequest });
        writer.set("control", {});
      });
    case "device-serial-number":
      return layOut(SERIAL_NUMBER, (writer) => writer.set("serialNumber", wanted.serialNumber));
    case "sr-iov":
      return layOut(SRIOV, (writer) => writeSriov(writer, wanted));
  }
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

function writePowerManagement(
  writer: CapabilityWriter<typeof POWER_MANAGEMENT.registers>,
  { noSoftReset = true }: PowerManagementDeclaration,
): void {
  writer.set("capabilities", { version: 3 });
  // PME and the data register are optional and left out, which hardwires their control fields to 0.
  writer.set("control", { noSoftReset }, ["pmeEnable", "dataSelect", "pmeStatus"]);
  // A write of an unsupported power state is discarded (PCIe 6.0 §7.5.2.2): this function knows D0 and D3hot.
  writer.restrict("control", 3, [0, 3]);
}

function writeMsi(writer: CapabilityWriter<typeof MSI.registers>, declaration: MsiDeclaration): void {
  const { vectors, address64 = true, perVectorMasking = false } = declaration;
  if (![1, 2, 4, 8, 16, 32].includes(vectors)) {
    throw new UsageError(`MSI cannot have ${vectors} vectors`, {
      hint: "use 1, 2, 4, 8, 16 or 32, or MSI-X",
    });
  }
  writer.set("control", { multipleMessageCapable: Math.log2(vectors), address64, perVectorMasking }, [
    "extendedMessageDataEnable",
  ]);
  if (address64) writer.by(MSI_MESSAGE_64).set("upperAddress", 0);
  const message = writer.by<MessageTable>(address64 ? MSI_MESSAGE_64 : MSI_MESSAGE_32);
  message.allow("address", 0xfffffffc);
  message.set("data", 0);
  if (perVectorMasking) message.allow("mask", vectors === 32 ? 0xffffffff : (1 << vectors) - 1);
}

type MessageTable = typeof MSI_MESSAGE_32 | typeof MSI_MESSAGE_64;

function writeMsix(
  writer: CapabilityWriter<typeof MSIX.registers>,
  { vectors, table, pendingBits }: MsixDeclaration,
): void {
  writer.set("control", { tableSize: range("MSI-X vector count", vectors, 1, 2048) - 1 });
  for (const [name, place] of [["table", table], ["pendingBits", pendingBits]] as const) {
    range("MSI-X BAR index", place.bar, 0, 5);
    if (place.offset % 8 !== 0) {
      throw new UsageError(`MSI-X offset 0x${place.offset.toString(16)} is not a multiple of 8`);
    }
    writer.set(name, (place.offset | place.bar) >>> 0);
  }
}

function writeVendorSpecific(
  writer: CapabilityWriter<typeof VENDOR_SPECIFIC.registers>,
  { data, writable = new Uint8Array() }: VendorSpecificDeclaration,
): void {
  const { image, offset } = writer;
  writer.by(VENDOR_SPECIFIC_HEADER).set(
    "length",
    range("vendor-specific capability length", data.length + 3, 3, 0xff),
  );
  data.forEach((byte, i) => image.set(offset + 3 + i, 1, byte));
  writable.forEach((mask, i) => image.addMask(image.writeMask, offset + 3 + i, 1, mask));
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

function writeAer(writer: CapabilityWriter<typeof ADVANCED_ERROR_REPORTING.registers>): void {
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
  writer.set("correctableMask", { advisoryNonFatal: true, correctedInternal: true, headerLogOverflow: true });
  writer.set("control", {}, ["ecrcGenerationEnable", "ecrcCheckEnable", "multipleHeaderRecordingEnable"]);
}

function writeSriov(
  writer: CapabilityWriter<typeof SRIOV.registers>,
  declaration: SriovDeclaration,
): void {
  const { totalVfs, vfBars = [], supportedPageSizes = 0x553, isLowestPf = true } = declaration;
  range("TotalVFs", totalVfs, 0, 0xffff);
  for (const bar of vfBars) {
    if (bar.space === "io") throw new UsageError(`VF BAR ${bar.index}: a VF has no I/O space`);
    if (bar.sizeBytes < 4096) {
      throw new UsageError(`VF BAR ${bar.index}: ${bar.sizeBytes} bytes is less than a page`);
    }
  }
  if ((supportedPageSizes & 1) === 0) throw new UsageError("an SR-IOV function must support 4 KiB pages");
  const { control, vfBars: firstBar } = SRIOV.registers;
  writer.set("control", {}, [
    "vfMigrationEnable",
    "vfMigrationInterruptEnable",
    "vf10BitTagRequesterEnable",
    ...(isLowestPf ? [] : ["ariCapableHierarchy" as const]),
  ]);
  writer.set("initialVfs", totalVfs);
  writer.set("totalVfs", totalVfs);
  writer.set("numVfs", 0);
  writer.set("functionDependencyLink", range("dependency", declaration.functionDependencyLink ?? 0, 0, 0xff));
  writer.set("firstVfOffset", range("First VF Offset", declaration.firstVfOffset, 0, 0xffff));
  writer.set("vfStride", range("VF Stride", declaration.vfStride, 0, 0xffff));
  writer.set("vfDeviceId", range("VF Device ID", declaration.vfDeviceId, 0, 0xffff));
  writer.set("supportedPageSizes", supportedPageSizes);
  writer.set("systemPageSize", 1);
  writer.allow("systemPageSize", supportedPageSizes);
  buildBars(writer.image, writer.offset + firstBar.offset, vfBars);
  // While VFs exist, their number, their page size and the numbering scheme must not change under them.
  const enable = { offset: writer.offset + control.offset, mask: fieldMask(control.fields.vfEnable) };
  writer.lock("control", fieldMask(control.fields.ariCapableHierarchy), enable);
  writer.lock("numVfs", 0xffff, enable);
  writer.lock("systemPageSize", 0xffffffff, enable);
}

function range(what: string, value: number, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new UsageError(`${what} ${value} is out of range`, {
      hint: `it is an integer from ${min} to ${max}`,
    });
  }
  return value;
}
