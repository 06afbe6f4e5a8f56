/**
 * Group administration commands: the driver's side of an owner device (virtio 1.4 §2.12, §2.13).
 *
 * @module
 */
export * from "./calls.ts";
export * from "./capabilities.ts";
export * from "./error.ts";
export * from "./frame.ts";
export * from "./group.ts";
export * from "./id_bitmap.ts";
export * from "./legacy_access.ts";
export * from "./legacy_registers.ts";
export * from "./member.ts";
export * from "./notify_info.ts";
export type { AdminQueueOptions } from "./options.ts";
export * from "./owner.ts";
export { PartsObject } from "./parts_object.ts";
export * from "./queues.ts";
