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

export { PciAddress, type PciAddressParts, type VfPlacement } from "./address.ts";
export type { BaseAddress, ExpansionRom } from "./base_address.ts";
export {
  type CapabilityFinding,
  type CapabilityList,
  findCapability,
  walkCapabilities,
  type WalkOptions,
} from "./capabilities.ts";
export * from "./capability/all.ts";
export type { CapabilityDeclaration, Decoded, DerivedOf } from "./capability/declaration.ts";
export type { BarPlace } from "./capability/msix.ts";
export { ACCESS_CONTROL } from "./capability/access_control.ts";
export { ADDRESS_TRANSLATION } from "./capability/address_translation.ts";
export { ADVANCED_ERROR_REPORTING, ROOT_ERROR_REGISTERS } from "./capability/advanced_error_reporting.ts";
export { ADVANCED_FEATURES } from "./capability/advanced_features.ts";
export { ALTERNATIVE_ROUTING_ID } from "./capability/alternative_routing_id.ts";
export { DEBUG_PORT } from "./capability/debug_port.ts";
export { SATA } from "./capability/sata.ts";
export { MULTICAST } from "./capability/multicast.ts";
export { ROOT_COMPLEX_LINK, ROOT_COMPLEX_LINK_ENTRY } from "./capability/root_complex_link.ts";
export { EVENT_COLLECTOR } from "./capability/event_collector.ts";
export { DEVICE_3 } from "./capability/device_3.ts";
export { PHYSICAL_LAYER_32, PHYSICAL_LAYER_64 } from "./capability/physical_layer.ts";
export {
  INTEGRITY_AND_DATA_ENCRYPTION,
  LINK_IDE_STREAM,
  SELECTIVE_IDE_STREAM,
} from "./capability/integrity_and_data_encryption.ts";
export { DOWNSTREAM_PORT_CONTAINMENT } from "./capability/downstream_port_containment.ts";
export { ENHANCED_ALLOCATION } from "./capability/enhanced_allocation.ts";
export { EXPRESS } from "./capability/express.ts";
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
  EXTENDED_VENDOR_SPECIFIC,
} from "./capability/extended_vendor_specific.ts";
export { L1_SUBSTATES } from "./capability/l1_substates.ts";
export { LATENCY_TOLERANCE } from "./capability/latency_tolerance.ts";
export { MSI, MSI_MESSAGE_32, MSI_MESSAGE_64 } from "./capability/msi.ts";
export { MSIX } from "./capability/msix.ts";
export { PAGE_REQUEST } from "./capability/page_request.ts";
export { PASID } from "./capability/pasid.ts";
export { POWER_MANAGEMENT } from "./capability/power_management.ts";
export { PRECISION_TIME_MEASUREMENT } from "./capability/precision_time_measurement.ts";
export { RESIZABLE_BAR, VF_RESIZABLE_BAR } from "./capability/resizable_bar.ts";
export { SECONDARY_EXPRESS } from "./capability/secondary_express.ts";
export { SERIAL_NUMBER } from "./capability/serial_number.ts";
export { SRIOV } from "./capability/sriov.ts";
export { SUBSYSTEM_ID } from "./capability/subsystem_id.ts";
export { TPH_REQUESTER } from "./capability/tph_requester.ts";
export { VENDOR_SPECIFIC } from "./capability/vendor_specific.ts";
export { VIRTIO, VIRTIO_CFG_TYPE } from "./capability/virtio.ts";
export {
  VIRTUAL_CHANNEL,
  VIRTUAL_CHANNEL_RESOURCE,
  VIRTUAL_CHANNEL_WITH_MFVC,
} from "./capability/virtual_channel.ts";
export { VITAL_PRODUCT_DATA } from "./capability/vital_product_data.ts";
export type { CapabilityListName } from "./capability/names.ts";
export type { CapabilityHeader, CapabilityWindow } from "./capability/window.ts";
export {
  type BridgeHeader,
  type BridgeWindow,
  type CardBusHeader,
  type CardBusMemoryWindow,
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
export { type DumpedFunction, parseDump } from "./dump.ts";
export { formatFunction } from "./format.ts";
export type { FormatOptions, HostFacts } from "./format/options.ts";
export { BRIDGE, CARD_BUS, CONVENTIONAL_BYTES, EXTENDED_BYTES, HEADER } from "./header.ts";
export type { IdNames, PciNames } from "./ids.ts";
