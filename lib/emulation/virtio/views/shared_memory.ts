/**
 * Shared memory regions of a virtio device, one after the other in a region that its driver reaches (reference 1.7).
 *
 * @module
 */
import type { ServedMapping } from "../../../sockets/vfio_user/server/served_device.ts";
import type { ModelSharedMemory } from "../../device_model.ts";
import type { DoorbellPlace } from "./doorbell_fds.ts";

/** A region begins where any processor's pages do. */
const ALIGNMENT = 0x10000;

/** One of them. */
export interface PlacedArea {
  /** 1 to 255. */
  readonly id: number;
  /** In bytes. */
  readonly sizeBytes: number;
  /** Bytes from the start of what holds them. */
  readonly start: number;
}

/** Where they are. Between them there is nothing: reads give 0, writes go nowhere. */
export class PlacedSharedMemory {
  /** The regions. */
  readonly areas: readonly PlacedArea[];
  /** Where the last one ends. */
  readonly endBytes: number;
  /** Where eventfds stand for writes to them, a list for each eventfd. */
  readonly places: readonly (readonly DoorbellPlace[])[];
  readonly #model: ModelSharedMemory;

  /** Places the model's regions one after the other. @param from where the first may begin */
  constructor(model: ModelSharedMemory, from = 0) {
    this.#model = model;
    let end = from;
    this.areas = model.areas.map(({ id, sizeBytes }) => {
      const start = Math.ceil(end / ALIGNMENT) * ALIGNMENT;
      end = start + sizeBytes;
      return { id, sizeBytes, start };
    });
    this.endBytes = end;
    this.places = this.areas.flatMap(({ id, start }) =>
      model.doorbells(id).map(({ offset, sizeBytes }) => [{ offset: start + offset, sizeBytes }])
    );
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

  /** The file behind a part of a region; undefined when there is nothing to map. */
  map(offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    const area = this.areas.find(({ start, sizeBytes: size }) =>
      offset >= start && offset + sizeBytes <= start + size
    );
    return area === undefined
      ? undefined
      : this.#model.map(area.id, offset - area.start, sizeBytes, writable);
  }

  /** A doorbell was rung. */
  rang(offset: number): void {
    const area = this.areas.find(({ start, sizeBytes }) => offset >= start && offset < start + sizeBytes);
    if (area !== undefined) this.#model.rang(area.id, offset - area.start);
  }

  *#parts(
    offset: number,
    length: number,
  ): Generator<{ id: number; start: number; from: number; to: number }> {
    for (const { id, start, sizeBytes } of this.areas) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + length, start + sizeBytes);
      if (from < to) yield { id, start, from, to };
    }
  }
}
