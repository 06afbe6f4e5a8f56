/**
 * Order between memory that a device reads or writes and what the driver does next.
 *
 * On x86-64 both are nothing: stores become visible in their order, also a store to an uncached register behind those to memory, loads are made in
 * theirs, and the engine keeps the order in which they were written. AArch64 promises neither. JavaScript's atomics do not make up for it: they are
 * store-release and load-acquire there, and a plain store to a doorbell may overtake a store-release before it. WebAssembly has what is missing,
 * `atomic.fence`, which V8 makes a full barrier of the inner shareable domain (`DMB ISH`). Linux maps cached memory so, and the devices that are coherent.
 *
 * @module
 */
import { LOADS_IN_ORDER } from "./load_order.ts";

/** `(module (func (export "f") atomic.fence))` */
const FENCE = new Uint8Array([
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...[0x01, 0x04, 0x01, 0x60, 0x00, 0x00],
  ...[0x03, 0x02, 0x01, 0x00],
  ...[0x07, 0x05, 0x01, 0x01, 0x66, 0x00, 0x00],
  ...[0x0a, 0x07, 0x01, 0x05, 0x00, 0xfe, 0x03, 0x00, 0x0b],
]);

/** A full fence of this processor. @internal */
export function makeFence(): () => void {
  return new WebAssembly.Instance(new WebAssembly.Module(FENCE)).exports.f as () => void;
}

const barrier = LOADS_IN_ORDER ? () => {} : makeFence();

/**
 * Stands between stores to memory that a device reads and the store that tells it so: a doorbell, or a flag in memory. Linux: `dma_wmb`, and what `writel`
 * does first.
 */
export function dmaWriteBarrier(): void {
  barrier();
}

/** Stands between the load by which a driver sees that a device has written (a flag, a phase bit) and loads of what it wrote. Linux: `dma_rmb`. */
export function dmaReadBarrier(): void {
  barrier();
}
