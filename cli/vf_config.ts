/**
 * The configuration space of a VF, with the ids that it does not have itself.
 *
 * @module
 */
import type { PciFunctionInfo } from "../lib/host/mod.ts";

/** A VF's own configuration space says ffff:ffff (SR-IOV §3.4.1); the kernel knows its ids from the PF. */
export function withIds(config: Uint8Array<ArrayBuffer>, about: PciFunctionInfo): Uint8Array<ArrayBuffer> {
  if (about.physicalFunction === undefined) return config;
  const copy = config.slice();
  const view = new DataView(copy.buffer);
  view.setUint16(0, about.vendorId, true);
  view.setUint16(2, about.deviceId, true);
  return copy;
}
