/**
 * Putting the host back as the journal says.
 *
 * @module
 */
import { RefusedError } from "../../errors/mod.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";
import { identityOf, sameIdentity } from "../functions/identity.ts";
import type { Guards } from "../functions/guards.ts";
import type { RestoreOptions, RestoreReport } from "../host.ts";
import { type Change, type Journal, type JournalRecord, keyOf } from "../journal/journal.ts";
import type { FunctionLocks } from "../functions/lock.ts";
import { expectedVfs } from "../changes/vf_count.ts";
import { foresee, putBack } from "./put_back.ts";

/** What a restore works on. */
export interface RestoreParts {
  /** What is written to. */
  readonly attributes: FunctionAttributes;
  /** What says which values to write. */
  readonly journal: Journal;
  /** Taken for each function while it is put back. */
  readonly locks: FunctionLocks;
  /** Asked before a function of the host loses its driver. */
  readonly guards: Guards;
}

/** Entries that have to be put back together: those of a PF and its VFs, or those of one function. */
interface Unit {
  readonly owner: string;
  readonly functions: readonly string[];
}

/**
 * Puts back what the journal holds: for a PF with its VFs, for a single VF, or (no address) for all. What could not be put back stays
 * in the journal. A second run has nothing to do, or goes on where the first one ended.
 * @throws ProtocolError when the journal is damaged; every other failure is in the report.
 */
export function restore(
  parts: RestoreParts,
  addresses: ReadonlySet<string> | undefined,
  options: Pick<RestoreOptions, "force" | "dryRun" | "onProgress"> = {},
): RestoreReport {
  const done: JournalRecord[] = [];
  const unchanged: JournalRecord[] = [];
  const failed: { entry: JournalRecord; error: Error }[] = [];
  const units = unitsOf(parts.journal.entries(), addresses);
  const total = units.reduce((sum, unit) => sum + unit.functions.length, 0);
  let over = 0, before = 0;
  for (const unit of units) {
    const told = { ...options, over: () => options.onProgress?.(++over, total) };
    const result = restoreUnit(parts, unit, told);
    // Those of a unit that could not be begun, too.
    before += unit.functions.length;
    over = before;
    done.push(...result.done);
    unchanged.push(...result.unchanged);
    failed.push(...result.failed);
  }
  return {
    done: done.map(entryOf),
    unchanged: unchanged.map(entryOf),
    failed: failed.map(({ entry, error }) => ({ entry: entryOf(entry), error })),
  };
}

/** Entries that a restore would act on: not those whose value is back, nor those of VFs that are gone with their PF's count. */
export function pending(attributes: FunctionAttributes, records: readonly JournalRecord[]): JournalRecord[] {
  return records.filter((record) => {
    if (!attributes.exists(record.function)) {
      const pf = record.physicalFunction;
      return !records.some((one) =>
        one.function === pf && one.attribute === "sriov_numvfs" && one.before === "0"
      );
    }
    return stranger(attributes, record) !== undefined ||
      attributes.read(record.function, record.attribute) !== record.before;
  });
}

/** What is at the address of an entry, where it is another device than that of the entry. */
function stranger(attributes: FunctionAttributes, record: JournalRecord): string | undefined {
  if (record.identity === undefined) return undefined;
  const found = identityOf(attributes, record.function);
  return found === undefined || sameIdentity(found, record.identity) ? undefined : found;
}

function replaced(record: JournalRecord, found: string): RefusedError {
  return new RefusedError(
    `${record.function} is another device now: ${found}; the journal is about ${record.identity}`,
    { hint: `drop the entries of the one that is gone: ringside restore --forget ${record.function}` },
  );
}

function ownerOf(record: JournalRecord): string {
  return record.physicalFunction ?? record.function;
}

function unitsOf(records: readonly JournalRecord[], addresses: ReadonlySet<string> | undefined): Unit[] {
  const units: Unit[] = [];
  for (const owner of new Set(records.map(ownerOf))) {
    const functions = [
      ...new Set(records.filter((one) => ownerOf(one) === owner).map((one) => one.function)),
    ];
    const vfs = functions.filter((name) => name !== owner);
    if (addresses?.has(owner) ?? functions.includes(owner)) {
      units.push({ owner, functions: [owner, ...vfs] });
    } else {
      for (const vf of vfs) {
        if (addresses?.has(vf) ?? true) units.push({ owner, functions: [vf] });
      }
    }
  }
  return units;
}

function restoreUnit(
  parts: RestoreParts,
  unit: Unit,
  { force, dryRun, over }: Pick<RestoreOptions, "force" | "dryRun"> & { readonly over: () => void },
): {
  done: readonly JournalRecord[];
  unchanged: readonly JournalRecord[];
  failed: readonly { readonly entry: JournalRecord; readonly error: Error }[];
} {
  const { attributes, journal, guards } = parts;
  const select = (): JournalRecord[] =>
    journal.entries().filter((one) => unit.functions.includes(one.function));
  try {
    const current = unit.functions.includes(unit.owner) ? attributes.vfs(unit.owner) : [];
    const concerned = [...new Set([...unit.functions, ...current])];
    if (dryRun) parts.locks.refuseIfHeld(concerned);
    using _held = dryRun ? undefined : parts.locks.acquireAll(concerned);
    // Read again: another process may have been at work until it let go of the locks.
    const records = select();
    for (const record of records) {
      const found = stranger(attributes, record);
      if (found !== undefined) throw replaced(record, found);
    }
    const found = new Map(records.map((one) => [keyOf(one), valueNow(attributes, one)]));
    const help = {
      record: (changes: readonly Change[]) => journal.record(changes),
      over,
      guard: (addresses: readonly string[]) => {
        if (force) return;
        guards.refuseIfUsed(
          addresses,
          `put back ${unit.owner}`,
          "take the device out of use, or restore with --force",
        );
      },
    };
    if (dryRun) {
      const { done, failed } = foresee(attributes, unit.owner, records, help);
      const changes = (one: JournalRecord) =>
        willBeThere(attributes, unit, records, one) && one.before !== found.get(keyOf(one));
      return { done: done.filter(changes), unchanged: done.filter((one) => !changes(one)), failed };
    }
    const result = putBack(attributes, unit.owner, records, help);
    for (const mark of result.marks) journal.rollBack(mark);
    const kept = keptForPf(journal, unit);
    journal.forget(result.done.filter((one) => !kept(one)));
    const changed = (one: JournalRecord) => {
      const now = valueNow(attributes, one);
      return now !== undefined && now !== found.get(keyOf(one));
    };
    return {
      done: result.done.filter(changed),
      unchanged: result.done.filter((one) => !changed(one)),
      failed: result.failed,
    };
  } catch (error) {
    const cause = error instanceof Error ? error : new Error(String(error));
    return { done: [], unchanged: [], failed: select().map((entry) => ({ entry, error: cause })) };
  }
}

/** Whether the function of an entry is there when all is put back: VFs go with their PF's count. */
function willBeThere(
  attributes: FunctionAttributes,
  { owner, functions }: Unit,
  records: readonly JournalRecord[],
  { function: address }: JournalRecord,
): boolean {
  if (address === owner || !functions.includes(owner)) return attributes.exists(address);
  const of = (attribute: string) =>
    records.find((one) => one.function === owner && one.attribute === attribute)?.before;
  const count = of("sriov_numvfs"), driver = of("driver");
  if (count !== undefined) return expectedVfs(attributes, owner, Number(count)).includes(address);
  return (driver === undefined || driver === attributes.driver(owner)) && attributes.exists(address);
}

/** Undefined when the function is not there. */
function valueNow(attributes: FunctionAttributes, record: JournalRecord): string | undefined {
  return attributes.exists(record.function)
    ? attributes.read(record.function, record.attribute) ?? ""
    : undefined;
}

/**
 * A VF that is put back alone must keep its entry while the VF count of its PF is still to be put back: then the VF is made anew,
 * and has to become again what it was.
 */
function keptForPf(journal: Journal, unit: Unit): (record: JournalRecord) => boolean {
  if (unit.functions.includes(unit.owner)) return () => false;
  const kept = journal.entries().some((one) =>
    one.function === unit.owner && one.attribute === "sriov_numvfs"
  );
  return () => kept;
}

/** An entry as users see it. */
export function entryOf(record: JournalRecord): JournalRecord {
  const { physicalFunction: _, ...entry } = record;
  return entry;
}
