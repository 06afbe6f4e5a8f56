/**
 * PCI functions as data: addresses, configuration space, capabilities, and their names.
 *
 * Everything here is pure: bytes in, plain objects out, no I/O. Bring the bytes from sysfs, from a VFIO region or
 * from a dump. The way back exists, too: {@linkcode buildConfigSpace} makes the configuration space of an emulated
 * function, with the write behaviour of hardware.
 *
 * @example Decode a configuration space
 * ```ts
 * import { buildConfigSpace, ConfigSpace, findCapability, walkCapabilities } from "./mod.ts";
 *
 * const { image } = buildConfigSpace({
 *   vendorId: 0x8086,
 *   deviceId: 0x10c9,
 *   classCode: 0x020000,
 *   capabilities: [{ kind: "express" }],
 * });
 * const config = new ConfigSpace(image.bytes);
 * const express = findCapability(walkCapabilities(config), "express");
 * console.log(config.vendorId.toString(16), express?.functionLevelReset); // 8086 true
 * ```
 *
 * @module
 */

export * from "./address.ts";
export * from "./bar_builder.ts";
export * from "./base_address.ts";
export * from "./builtin_names.ts";
export * from "./capabilities.ts";
export * from "./capability/access_control.ts";
export * from "./capability/address_translation.ts";
export * from "./capability/advanced_error_reporting.ts";
export * from "./capability/advanced_features.ts";
export * from "./capability/alternative_routing_id.ts";
export * from "./capability/downstream_port_containment.ts";
export * from "./capability/enhanced_allocation.ts";
export * from "./capability/express.ts";
export * from "./capability/express_registers.ts";
export * from "./capability/extended_vendor_specific.ts";
export * from "./capability/id.ts";
export * from "./capability/l1_substates.ts";
export * from "./capability/latency_tolerance.ts";
export * from "./capability/msi.ts";
export * from "./capability/msix.ts";
export * from "./capability/page_request.ts";
export * from "./capability/pasid.ts";
export * from "./capability/power_management.ts";
export * from "./capability/precision_time_measurement.ts";
export * from "./capability/resizable_bar.ts";
export * from "./capability/secondary_express.ts";
export * from "./capability/serial_number.ts";
export * from "./capability/sriov.ts";
export * from "./capability/subsystem_id.ts";
export * from "./capability/tph_requester.ts";
export * from "./capability/vendor_specific.ts";
export * from "./capability/virtio.ts";
export * from "./capability/virtual_channel.ts";
export * from "./capability/vital_product_data.ts";
export * from "./capability/window.ts";
export * from "./capability_builder.ts";
export * from "./capability_writer.ts";
export * from "./config_builder.ts";
export * from "./config_space.ts";
export * from "./config_writer.ts";
export * from "./describe.ts";
export * from "./express_builder.ts";
export * from "./format.ts";
export type { HostFacts } from "./format/header.ts";
export * from "./header.ts";
export * from "./ids.ts";
export * from "../registers/declaration.ts";
export * from "./virtio_ids.ts";
