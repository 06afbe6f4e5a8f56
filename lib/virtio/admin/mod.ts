/**
 * Group administration commands: the driver's side of an owner device (virtio 1.4 §2.12, §2.13).
 *
 * @module
 */
export type * from "./calls.ts";
export type * from "./capabilities.ts";
export * from "./device_part_text.ts";
export * from "./error.ts";
export type * from "./frame.ts";
export type * from "./group.ts";
export { KNOWN_ADMIN_OPCODES } from "./group.ts";
export type * from "./id_bitmap.ts";
export * from "./legacy_access.ts";
export type * from "./legacy_registers.ts";
export type * from "./member.ts";
export type * from "./member_context.ts";
export type * from "./notify_info.ts";
export type { AdminQueueOptions } from "./options.ts";
export type * from "./owner.ts";
export type { PartsObject } from "./parts_object.ts";
export type * from "./queues.ts";
export type { CommandSite, CommandWaiter } from "../control/engine.ts";
