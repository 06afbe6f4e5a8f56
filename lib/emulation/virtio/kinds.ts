/**
 * The kinds of virtio device of this library.
 *
 * @module
 */
import type { DeviceKind } from "../device_kind.ts";
import { BLK_KIND } from "./blk/kind.ts";
import { CONSOLE_KIND } from "./console/kind.ts";
import { ISM_KIND } from "./ism/kind.ts";
import { MANAGEMENT_KIND } from "./management/kind.ts";
import { NET_KIND } from "./net/kind.ts";
import { RNG_KIND } from "./rng/kind.ts";

/** One record each. */
export const VIRTIO_KINDS: readonly DeviceKind[] = [
  NET_KIND,
  RNG_KIND,
  BLK_KIND,
  CONSOLE_KIND,
  ISM_KIND,
  MANAGEMENT_KIND,
];
