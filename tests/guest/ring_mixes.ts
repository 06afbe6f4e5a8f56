/** Every mix of the ring features that a driver can decline. */
import { assertEquals } from "@std/assert";
import { FEATURE, type RingOptions } from "../../lib/virtio/mod.ts";

/** Ring options that say all four, and what to call them. */
export interface RingMix {
  readonly name: string;
  readonly options: Required<Pick<RingOptions, "packed" | "inOrder" | "eventIndex" | "indirect">>;
}

/** The sixteen mixes. */
export const RING_MIXES: readonly RingMix[] = Array.from({ length: 16 }, (_, mix): RingMix => {
  const options = {
    packed: (mix & 8) !== 0,
    inOrder: (mix & 4) !== 0,
    eventIndex: (mix & 2) !== 0,
    indirect: (mix & 1) !== 0,
  };
  const { packed, inOrder, eventIndex, indirect } = options;
  const words = [
    packed ? "packed" : "split",
    ...(inOrder ? ["in order"] : []),
    ...(eventIndex ? ["event index"] : []),
    ...(indirect ? ["indirect"] : []),
  ];
  return { name: words.join(", "), options };
});

/** Compares what was negotiated with a mix: the device must have offered all of it. */
export function assertMix(features: bigint, mix: RingMix): void {
  assertEquals({
    packed: (features & FEATURE.RING_PACKED) !== 0n,
    inOrder: (features & FEATURE.IN_ORDER) !== 0n,
    eventIndex: (features & FEATURE.EVENT_IDX) !== 0n,
    indirect: (features & FEATURE.INDIRECT_DESC) !== 0n,
  }, mix.options);
}
