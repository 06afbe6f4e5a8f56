/**
 * Where a device stands in a virtqueue, as a plain value (reference §6): defined with the constants, since the emulated device has it too.
 *
 * @module
 */
export * from "../spec/queue_state.ts";
