/** A journal's bytes in memory, with the faults that a disk and a dying process have. */
import type { JournalStore } from "../../../../lib/host/journal/store.ts";
import { Crash } from "../sysfs/memory_sysfs.ts";

export class MemoryJournalStore implements JournalStore {
  readonly path = "journal.jsonl";
  bytes: Uint8Array<ArrayBuffer> | undefined;
  readonly copies: Uint8Array<ArrayBuffer>[] = [];
  frozen = false;
  /** When set, the next append writes only so many bytes, and the process is gone. */
  tearAt: number | undefined;

  get text(): string {
    return new TextDecoder().decode(this.bytes ?? new Uint8Array());
  }

  set text(text: string) {
    this.bytes = new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
  }

  read(): Uint8Array<ArrayBuffer> | undefined {
    return this.bytes?.slice();
  }

  append(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.frozen) throw new Crash();
    const old = this.bytes ?? new Uint8Array();
    const kept = this.tearAt === undefined ? bytes : bytes.subarray(0, Math.min(this.tearAt, bytes.length));
    const all = new Uint8Array(old.length + kept.length);
    all.set(old);
    all.set(kept, old.length);
    this.bytes = all;
    if (this.tearAt === undefined) return;
    this.tearAt = undefined;
    this.frozen = true;
    throw new Crash();
  }

  replace(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.frozen) throw new Crash();
    this.bytes = bytes.slice();
  }

  keepCopy(bytes: Uint8Array<ArrayBuffer>): string {
    this.copies.push(bytes.slice());
    return `${this.path}.damaged-1`;
  }

  exclusively<T>(work: () => T): T {
    return work();
  }
}
