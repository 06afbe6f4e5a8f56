/**
 * Mapped memory, DMA memory and IOVA allocation.
 *
 * @module
 */
export { MappedMemory } from "../../ffi/mod.ts";
export * from "./dma.ts";
export * from "./iova.ts";
export * from "./shared_dma.ts";
export * from "./pooled_dma.ts";
