/**
 * The device side of virtio: queues, registers, devices, and the switch between them.
 *
 * @module
 */
export * from "./chain.ts";
export * from "./common_registers.ts";
export * from "./device_queue.ts";
export * from "./hostile.ts";
export * from "./models.ts";
export * from "./net_filter.ts";
export * from "./net_frame.ts";
export * from "./net_model.ts";
export * from "./net_switch.ts";
export * from "./pci_front.ts";
export * from "./rng_model.ts";
export * from "./split_device_queue.ts";
export * from "./status_rules.ts";
