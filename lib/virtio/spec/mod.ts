/**
 * Numbers and layouts of the virtio standard: pure, shared by the driver's side and the emulated device's.
 *
 * @module
 */
export * from "./admin.ts";
export * from "./blk.ts";
export * from "./console.ts";
export * from "./device_id.ts";
export type * from "./device_type.ts";
export { deviceType, deviceTypeName, registerDeviceType } from "./device_types.ts";
export * from "./device_part_values.ts";
export * from "./device_parts.ts";
export * from "./entropy.ts";
export * from "./features.ts";
export * from "./ism.ts";
export * from "./legacy.ts";
export * from "./masks.ts";
export * from "./mmio.ts";
export * from "./net.ts";
export * from "./pci.ts";
export * from "./queue_state.ts";
export * from "./ring.ts";
export * from "./status.ts";
export * from "./transport_vq.ts";
export * from "./transport_vq_header.ts";
export * from "./transport_vq_payloads.ts";
// What the tables above are made of.
export type { Profile } from "../transport/transport.ts";
export type { Field, Fields, FieldType, Struct, Values } from "../../wire/mod.ts";
