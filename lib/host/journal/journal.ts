/**
 * The journal: what bring-up changed and what was there before, written to disk before each change.
 *
 * It is a text file of one JSON object a line. Lines are only added, until what they say has been undone. Several lines may be
 * about the same attribute of the same function: the first one's `before` is what a restore puts back. The last line may be torn,
 * because the process died while it wrote it; then the change it announces was never begun.
 *
 * @module
 */
import { processId } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../errors/mod.ts";
import { isAddress } from "../../vfio/bus.ts";
import type { Attribute, StepHook } from "../sysfs/attributes.ts";
import { sameIdentity } from "../functions/identity.ts";
import type { JournalEntry } from "../host.ts";
import type { JournalStore } from "./store.ts";

/** A journal entry as it is stored. */
export interface JournalRecord extends JournalEntry {
  /** PF, when the function is a VF: after the VF is gone, nothing else says whose it was. */
  readonly physicalFunction?: string;
}

/** A change that is about to be made: `before` is the value now, `after` the one that is about to be written. */
export type Change = Omit<JournalRecord, "pid" | "time">;

/** Names an entry. */
export type EntryKey = Pick<JournalEntry, "function" | "attribute">;

/** What the journal said of some attributes before a call recorded its changes to them. */
export interface JournalMark {
  /** What the call recorded. */
  readonly changes: readonly Change[];
  /** Entries that were there, by `keyOf`. */
  readonly earlier: ReadonlyMap<string, JournalRecord>;
}

const ATTRIBUTES: readonly string[] = [
  "driver",
  "driver_override",
  "sriov_numvfs",
  "sriov_drivers_autoprobe",
] satisfies Attribute[];

const NEWLINE = 0x0a;

/** The journal over its store. */
export class Journal {
  readonly #store: JournalStore;
  readonly #step: StepHook;
  /** Whole lines that were read or written last, and what they say: as a rule the file has only grown since. */
  #known: { readonly text: string; readonly entries: ReadonlyMap<string, JournalRecord> } = {
    text: "",
    entries: new Map(),
  };

  /** Reads and writes through `store`, and tells `onStep` of each write. */
  constructor(store: JournalStore, onStep: StepHook = () => {}) {
    this.#store = store;
    this.#step = onStep;
  }

  /** Path, for messages. */
  get path(): string {
    return this.#store.path;
  }

  /**
   * One entry for each attribute that was changed and not put back, in the order of the first changes.
   * @throws ProtocolError naming the first line that is no entry; a copy of the file is kept.
   */
  entries(): JournalRecord[] {
    return [...this.#read().entries.values()];
  }

  /** Writes down changes that are about to be made; when this returns, they are on the disk. @throws ProtocolError, SyscallError */
  record(changes: readonly Change[]): JournalMark {
    const earlier = new Map<string, JournalRecord>();
    if (changes.length === 0) return { changes, earlier };
    return this.#store.exclusively(() => {
      const { entries, torn, whole } = this.#read();
      const lines: JournalRecord[] = [];
      for (const change of changes) {
        const known = entries.get(keyOf(change));
        if (known !== undefined) earlier.set(keyOf(change), known);
        if (known?.after === change.after && sameDevice(known, change)) continue;
        lines.push({ ...change, pid: processId(), time: new Date().toISOString() });
      }
      // A new line must not be joined to a torn one.
      if (torn) this.#replace(whole);
      if (lines.length > 0) {
        this.#step("before journal append");
        this.#store.append(encode(lines));
        this.#step("after journal append");
      }
      return { changes, earlier };
    });
  }

  /** Drops entries whose values are back in place. */
  forget(keys: readonly EntryKey[]): void {
    this.#rewrite((entries) => {
      for (const key of keys) entries.delete(keyOf(key));
    });
  }

  /** Makes the journal say what it said before `record`, when the changes have been taken back. */
  rollBack(mark: JournalMark): void {
    this.#rewrite((entries) => {
      for (const change of mark.changes) {
        const known = mark.earlier.get(keyOf(change));
        if (known === undefined) entries.delete(keyOf(change));
        else entries.set(keyOf(change), known);
      }
    });
  }

  #rewrite(edit: (entries: Map<string, JournalRecord>) => void): void {
    if (this.#store.read() === undefined) return;
    this.#store.exclusively(() => {
      const { entries } = this.#read();
      edit(entries);
      const bytes = encode([...entries.values()]);
      this.#replace(bytes);
      this.#known = { text: new TextDecoder().decode(bytes), entries };
    });
  }

  #replace(bytes: Uint8Array<ArrayBuffer>): void {
    this.#step("before journal replace");
    this.#store.replace(bytes);
    this.#step("after journal replace");
  }

  #read(): { entries: Map<string, JournalRecord>; torn: boolean; whole: Uint8Array<ArrayBuffer> } {
    const bytes = this.#store.read() ?? new Uint8Array();
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    const whole = bytes.slice(0, end);
    const text = new TextDecoder().decode(whole);
    const grown = text.startsWith(this.#known.text);
    const entries = new Map(grown ? this.#known.entries : []);
    const fresh = (grown ? text.slice(this.#known.text.length) : text).split("\n").slice(0, -1);
    fresh.forEach((line, index) => {
      const record = parseRecord(line);
      if (record === undefined) this.#damaged(bytes, text.split("\n").length - fresh.length + index);
      const first = entries.get(keyOf(record));
      // A device that came after another at the same address has nothing of what was before with that one; its changes went with it.
      const goesOn = first !== undefined && sameDevice(first, record);
      entries.set(keyOf(record), goesOn ? { ...record, ...firstOf(first) } : record);
    });
    this.#known = { text, entries: new Map(entries) };
    return { entries, torn: end < bytes.length, whole };
  }

  #damaged(bytes: Uint8Array<ArrayBuffer>, line: number): never {
    const copy = this.#store.keepCopy(bytes);
    const kept = copy === undefined ? "" : `; a copy is kept in ${copy}`;
    throw new ProtocolError(`${this.path}: line ${line} is not a journal entry${kept}`, {
      hint:
        `nothing was changed; mend or delete line ${line} of ${this.path}, and the other lines count again`,
    });
  }
}

/** What stays as the first of several lines has it. */
function firstOf({ before, names }: JournalRecord): Partial<JournalRecord> {
  return { before, ...(names !== undefined && { names }) };
}

/** Whether two entries can be about the same device. */
function sameDevice(one: Pick<JournalEntry, "identity">, other: Pick<JournalEntry, "identity">): boolean {
  return one.identity === undefined || other.identity === undefined ||
    sameIdentity(one.identity, other.identity);
}

/** Text that two entries about the same attribute share. */
export function keyOf(entry: EntryKey): string {
  return `${entry.function} ${entry.attribute}`;
}

function encode(records: readonly JournalRecord[]): Uint8Array<ArrayBuffer> {
  const text = records.map((record) => `${JSON.stringify(record)}\n`).join("");
  return new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;
}

function parseRecord(line: string): JournalRecord | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const fields = value as Readonly<Record<string, unknown>>;
  const { before, after, pid, time, attribute, physicalFunction, identity, names } = fields;
  if (!isFunction(fields["function"]) || !isAttribute(attribute)) return undefined;
  if (typeof before !== "string" || typeof after !== "string" || typeof time !== "string") return undefined;
  if (typeof pid !== "number" || !Number.isInteger(pid)) return undefined;
  if (!isValueOf(attribute, before)) return undefined;
  if (identity !== undefined && typeof identity !== "string") return undefined;
  if (physicalFunction !== undefined && !isFunction(physicalFunction)) return undefined;
  if (names !== undefined && !isNames(names)) return undefined;
  // In the order in which they were written.
  return {
    function: fields["function"],
    attribute,
    before,
    after,
    ...(physicalFunction !== undefined && { physicalFunction }),
    ...(identity !== undefined && { identity }),
    ...(names !== undefined && { names }),
    pid,
    time,
  };
}

function isFunction(value: unknown): value is string {
  return typeof value === "string" && isAddress(value);
}

function isNames(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((one) => typeof one === "string");
}

function isAttribute(value: unknown): value is Attribute {
  return typeof value === "string" && ATTRIBUTES.includes(value);
}

/** What a restore would write must at least look like a value of the attribute: the file can be edited by hand. */
function isValueOf(attribute: Attribute, value: string): boolean {
  switch (attribute) {
    case "driver":
    case "driver_override":
      return /^[\w.-]*$/.test(value);
    case "sriov_numvfs":
      return /^\d{1,5}$/.test(value);
    case "sriov_drivers_autoprobe":
      return /^[01]$/.test(value);
  }
}
