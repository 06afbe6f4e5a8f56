/**
 * Shared memory regions of a virtio function: one BAR with all of them, and the capabilities that say where each lies (reference 1.7).
 *
 * @module
 */
import type { ModelSharedMemory } from "../../../device_model.ts";
import type { BarDeclaration, VendorCapability } from "../../../pci_function.ts";
import { DoorbellFds } from "../doorbell_fds.ts";
import { PlacedSharedMemory } from "../shared_memory.ts";

/** BAR of the shared memory. */
export const SHARED_MEMORY_BAR = 2;
/** Smallest BAR of them. */
const SMALLEST_BAR = 0x10000;

/** The BAR. */
export class PciSharedMemory extends PlacedSharedMemory {
  /** The BAR itself, unless there are no regions: 64 bits wide, prefetchable. */
  readonly bars: readonly BarDeclaration[];
  /** `virtio_pci_cap64` of each region. */
  readonly capabilities: readonly VendorCapability[];
  /** Doorbells of all regions, by their offsets in the BAR. */
  readonly doorbells: DoorbellFds;

  /** Places the model's regions one after the other. */
  constructor(model: ModelSharedMemory) {
    super(model);
    this.doorbells = new DoorbellFds(this.places);
    const sizeBytes = 2 ** Math.ceil(Math.log2(Math.max(SMALLEST_BAR, this.endBytes)));
    this.bars = this.endBytes === 0
      ? []
      : [{ index: SHARED_MEMORY_BAR, sizeBytes, kind: "mem64", prefetchable: true }];
    this.capabilities = this.areas.map(({ id, start, sizeBytes }) => ({
      kind: "virtio",
      structure: "sharedMemory",
      bar: SHARED_MEMORY_BAR,
      structureId: id,
      regionOffset: start,
      regionLength: sizeBytes,
    }));
  }
}
