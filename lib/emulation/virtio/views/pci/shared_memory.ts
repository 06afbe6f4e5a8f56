/**
 * Shared memory regions of a virtio function: one BAR with all of them, and the capabilities that say where each lies (reference 1.7).
 *
 * @module
 */
import type { ServedMapping } from "../../../../sockets/vfio_user/server/served_device.ts";
import type { ModelSharedMemory } from "../../../device_model.ts";
import type { BarDeclaration, VendorCapability } from "../../../pci_function.ts";
import { PciDoorbells } from "./doorbells.ts";

/** BAR of the shared memory. */
export const SHARED_MEMORY_BAR = 2;
/** A region begins where any processor's pages do. */
const ALIGNMENT = 0x10000;

interface PlacedArea {
  readonly id: number;
  readonly sizeBytes: number;
  /** Bytes from the start of the BAR. */
  readonly start: number;
}

/** The BAR. Between its regions there is nothing: reads give 0, writes go nowhere. */
export class PciSharedMemory {
  /** The BAR itself, unless there are no regions: 64 bits wide, prefetchable. */
  readonly bars: readonly BarDeclaration[];
  /** `virtio_pci_cap64` of each region. */
  readonly capabilities: readonly VendorCapability[];
  /** Doorbells of all regions, by their offsets in the BAR. */
  readonly doorbells: PciDoorbells;
  readonly #model: ModelSharedMemory;
  readonly #areas: readonly PlacedArea[];

  /** Places the model's regions one after the other. */
  constructor(model: ModelSharedMemory) {
    this.#model = model;
    let end = 0;
    this.#areas = model.areas.map(({ id, sizeBytes }) => {
      const start = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      end = start + sizeBytes;
      return { id, sizeBytes, start };
    });
    const sizeBytes = 2 ** Math.ceil(Math.log2(Math.max(ALIGNMENT, end)));
    this.bars = end === 0 ? [] : [{ index: SHARED_MEMORY_BAR, sizeBytes, kind: "mem64", prefetchable: true }];
    this.doorbells = new PciDoorbells(
      this.#areas.flatMap(({ id, start }) =>
        model.doorbells(id).map(({ offset, sizeBytes }) => [{ offset: start + offset, sizeBytes }])
      ),
    );
    this.capabilities = this.#areas.map(({ id, start, sizeBytes }) => ({
      kind: "virtio",
      structure: "sharedMemory",
      bar: SHARED_MEMORY_BAR,
      structureId: id,
      regionOffset: start,
      regionLength: sizeBytes,
    }));
  }

  /** Reads; bytes that belong to no region are 0. */
  read(offset: number, into: Uint8Array): void {
    into.fill(0);
    for (const { id, start, from, to } of this.#parts(offset, into.byteLength)) {
      this.#model.read(id, from - start, into.subarray(from - offset, to - offset));
    }
  }

  /** Writes. @returns whether all bytes belonged to a region */
  write(offset: number, bytes: Uint8Array): boolean {
    let written = 0;
    for (const { id, start, from, to } of this.#parts(offset, bytes.byteLength)) {
      this.#model.write(id, from - start, bytes.subarray(from - offset, to - offset));
      written += to - from;
    }
    return written === bytes.byteLength;
  }

  map(offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    const area = this.#areas.find(({ start, sizeBytes: size }) =>
      offset >= start && offset + sizeBytes <= start + size
    );
    return area === undefined
      ? undefined
      : this.#model.map(area.id, offset - area.start, sizeBytes, writable);
  }

  /** A doorbell was rung. */
  rang(offset: number): void {
    const area = this.#areas.find(({ start, sizeBytes }) => offset >= start && offset < start + sizeBytes);
    if (area !== undefined) this.#model.rang(area.id, offset - area.start);
  }

  *#parts(
    offset: number,
    length: number,
  ): Generator<{ id: number; start: number; from: number; to: number }> {
    for (const { id, start, sizeBytes } of this.#areas) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + sizeBytes);
      if (from < to) yield { id, start, from, to };
    }
  }
}
