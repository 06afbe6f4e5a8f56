/**
 * The result arrays of `takeUsed`.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import type { UsedBurst } from "./virtqueue.ts";

/** Arrays for up to `capacity` returned chains, made once and used for every call. @throws UsageError */
export function usedBurst(capacity: number): UsedBurst {
  if (!Number.isInteger(capacity) || capacity < 1 || capacity > 65535) {
    throw new UsageError(`a burst of ${shown(capacity)} chains`);
  }
  return { ids: new Uint16Array(capacity), lengths: new Uint32Array(capacity) };
}
