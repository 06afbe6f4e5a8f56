/**
 * PCI functions as data: addresses, configuration space, capabilities, and their names.
 *
 * Everything here is pure: bytes in, plain objects out, no I/O. Bring the bytes from sysfs, from a VFIO region or
 * from a dump.
 *
 * @example Decode a configuration space
 * ```ts
 * import { ConfigSpace, findCapability, formatFunction, walkCapabilities } from "@ringside/ringside/pci";
 *
 * const config = new ConfigSpace(new Uint8Array(256)); // as sysfs has it in `config`
 * const express = findCapability(walkCapabilities(config), "express");
 * console.log(config.vendorId.toString(16), express?.functionLevelReset);
 * console.log(formatFunction(config).join("\n")); // as lspci -vv prints it
 * ```
 *
 * A capability is one declaration, such as `SRIOV`: its ID, its length, its registers by name. The registers of a
 * live function are read and written by the same names.
 *
 * @example NumVFs of an opened PF
 * ```ts
 * import { ConfigSpace, findCapability, SRIOV, walkCapabilities } from "@ringside/ringside/pci";
 * import { Registers } from "@ringside/ringside/registers";
 * import { ConfigAccess } from "@ringside/ringside/vfio";
 *
 * const config = new ConfigAccess(device); // an opened function
 * const sriov = findCapability(walkCapabilities(new ConfigSpace(config.readAll())), "sr-iov");
 * if (sriov) new Registers(SRIOV.registers, config, sriov).read("numVfs");
 * ```
 *
 * @module
 */

export { PCI_ADDRESS_FORMS, PciAddress, type PciAddressParts, type VfPlacement } from "./address.ts";
export type { BaseAddress, ExpansionRom } from "./base_address.ts";
export {
  type CapabilityFinding,
  type CapabilityList,
  findCapabilities,
  findCapability,
  walkCapabilities,
  type WalkOptions,
} from "./capabilities.ts";
export { ACCESS_CONTROL } from "./capability/access_control.ts";
export { ADDRESS_TRANSLATION } from "./capability/address_translation.ts";
export {
  ADVANCED_ERROR_REPORTING,
  type ErrorDetails,
  ROOT_ERROR_REGISTERS,
} from "./capability/advanced_error_reporting.ts";
export { ADVANCED_FEATURES } from "./capability/advanced_features.ts";
export {
  CAPABILITIES,
  type Capability,
  type CapabilityOf,
  type MalformedCapability,
  type NullCapability,
  type OtherCapability,
} from "./capability/all.ts";
export { ALTERNATIVE_ROUTING_ID } from "./capability/alternative_routing_id.ts";
export type { CapabilityDeclaration, Decoded, DerivedOf } from "./capability/declaration.ts";
export { DOWNSTREAM_PORT_CONTAINMENT } from "./capability/downstream_port_containment.ts";
export {
  ENHANCED_ALLOCATION,
  type EnhancedAllocationEntry,
  type EnhancedAllocations,
} from "./capability/enhanced_allocation.ts";
export {
  EXPRESS,
  EXPRESS_TYPE,
  type ExpressCapability,
  type ExpressFacts,
  type ExpressLink,
  type ExpressType,
  type Link,
} from "./capability/express.ts";
export {
  EXPRESS_DEVICE_2,
  EXPRESS_LINK,
  EXPRESS_LINK_2,
  EXPRESS_REGISTERS,
  EXPRESS_ROOT,
  EXPRESS_SLOT,
} from "./capability/express_registers.ts";
export {
  DESIGNATED_VENDOR_SPECIFIC,
  type DvsecContents,
  EXTENDED_VENDOR_SPECIFIC,
  type VsecContents,
} from "./capability/extended_vendor_specific.ts";
export { L1_SUBSTATES, type L1SubstatesTimes } from "./capability/l1_substates.ts";
export { LATENCY_TOLERANCE, type LatencyLimits } from "./capability/latency_tolerance.ts";
export { MSI, MSI_MESSAGE_32, MSI_MESSAGE_64, type MsiFacts } from "./capability/msi.ts";
export { type BarPlace, MSIX, MSIX_ENTRY_BYTES, type MsixFacts } from "./capability/msix.ts";
export type { CapabilityListName } from "./capability/names.ts";
export { PAGE_REQUEST } from "./capability/page_request.ts";
export { PASID } from "./capability/pasid.ts";
export { POWER_MANAGEMENT, type PowerFacts } from "./capability/power_management.ts";
export { PRECISION_TIME_MEASUREMENT } from "./capability/precision_time_measurement.ts";
export {
  RESIZABLE_BAR,
  type ResizableBar,
  type ResizableBars,
  VF_RESIZABLE_BAR,
} from "./capability/resizable_bar.ts";
export { SECONDARY_EXPRESS } from "./capability/secondary_express.ts";
export { SERIAL_NUMBER, type SerialNumberText } from "./capability/serial_number.ts";
export { enabledVfAddresses, SRIOV, type SriovCapability, type SriovFacts } from "./capability/sriov.ts";
export { SUBSYSTEM_ID, type SubsystemFacts } from "./capability/subsystem_id.ts";
export { TPH_REQUESTER, type TphFacts } from "./capability/tph_requester.ts";
export { VENDOR_SPECIFIC, type VendorSpecificData } from "./capability/vendor_specific.ts";
export {
  VIRTIO,
  VIRTIO_CFG_TYPE,
  VIRTIO_STRUCTURE_REGISTERS,
  type VirtioCapability,
  type VirtioPlace,
  type VirtioStructure,
} from "./capability/virtio.ts";
export {
  VIRTUAL_CHANNEL,
  VIRTUAL_CHANNEL_RESOURCE,
  VIRTUAL_CHANNEL_WITH_MFVC,
  type VirtualChannels,
} from "./capability/virtual_channel.ts";
export { VITAL_PRODUCT_DATA } from "./capability/vital_product_data.ts";
export type { CapabilityHeader, CapabilityWindow } from "./capability/window.ts";
export {
  type BridgeHeader,
  type BridgeWindow,
  type CardBusHeader,
  type ClassCode,
  ConfigSpace,
  type SubsystemId,
} from "./config_space.ts";
export {
  describeFunction,
  type DescribeOptions,
  type FunctionDescription,
  type JsonValue,
} from "./describe.ts";
export { formatFunction } from "./format.ts";
export type { FormatOptions, HostFacts } from "./format/options.ts";
export { BRIDGE, CARD_BUS, CONVENTIONAL_BYTES, EXTENDED_BYTES, HEADER, HEADER_BYTES } from "./header.ts";
export type { BaseClassNames, DeviceNames, PciNames, SubclassNames, VendorNames } from "./ids.ts";
export type {
  AccessWidth,
  FieldAccess,
  FieldBits,
  FieldDeclaration,
  FieldsOf,
  RegisterDeclaration,
  RegisterTable,
  RegisterValue,
  RegisterValues,
  ValueOf,
} from "../registers/declaration.ts";
export * from "./virtio_ids.ts";
