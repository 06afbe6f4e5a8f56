/**
 * Bringing the attributes of a function, and of a PF with its VFs, to given values: for `restore` (the values from the journal) and
 * for taking back a call that failed half-way.
 *
 * The order for a PF: remove VFs when the count or the driver has to change, give it its driver, make the VFs that were there, give
 * each its driver, and turn autoprobe to what it was. Every step looks first what is there, so a second run, or one after a
 * crash in the first, does the rest.
 *
 * @module
 */
import { NotFoundError } from "../../errors/mod.ts";
import type { Attribute, FunctionAttributes } from "../sysfs/attributes.ts";
import { isVfioDriver, rebind, requireDriver } from "../changes/driver_binding.ts";
import type { Change, JournalMark } from "../journal/journal.ts";
import { writeVfCount } from "../changes/vf_count.ts";

/** An attribute; `before` is the value that it gets. */
export type Original = Omit<Change, "after">;

/** What putting back needs beside the attributes. */
export interface PutBackHelp {
  /** Writes down a change that was not recorded yet. */
  record(changes: readonly Change[]): JournalMark;
  /** Throws when the host uses one of these functions, which are about to lose their drivers. */
  guard(addresses: readonly string[]): void;
  /** Told that a function is over, whatever came of it. */
  over?(): void;
}

/** What came of it. */
export interface PutBackResult<T extends Original> {
  /** What has its value now. */
  readonly done: readonly T[];
  /** What could not be given its value, and why. */
  readonly failed: readonly { readonly entry: T; readonly error: Error }[];
  /** Marks of what `record` wrote and is over. */
  readonly marks: readonly JournalMark[];
}

type Values = Partial<Record<Attribute, string>>;

/** Puts back one function, or one PF with VFs: `owner` is that function or PF, `originals` are about it and its VFs only. */
export function putBack<T extends Original>(
  attributes: FunctionAttributes,
  owner: string,
  originals: readonly T[],
  help: PutBackHelp,
): PutBackResult<T> {
  const done: T[] = [];
  const failed: { entry: T; error: Error }[] = [];
  const marks: JournalMark[] = [];
  const own = originals.filter((one) => one.function === owner);
  const ofVfs = originals.filter((one) => one.function !== owner);
  const values = valuesOf(own);

  let rebuilt = false;
  if (own.length > 0) {
    try {
      if (!attributes.exists(owner)) throw gone(owner);
      rebuilt = putBackOwner(attributes, owner, values, help, marks);
    } catch (error) {
      const cause = asError(error);
      return { done, failed: originals.map((entry) => ({ entry, error: cause })), marks: [] };
    }
    help.over?.();
  }

  for (const vf of new Set(ofVfs.map((one) => one.function))) {
    const entries = ofVfs.filter((one) => one.function === vf);
    try {
      if (attributes.exists(vf)) putBackDriver(attributes, vf, valuesOf(entries), help);
      // VFs that came after the first change are removed with it, and nothing of them is left to put back.
      else if (values.sriov_numvfs === undefined && values.driver === undefined) throw gone(vf);
      done.push(...entries);
    } catch (error) {
      const cause = asError(error);
      failed.push(...entries.map((entry) => ({ entry, error: cause })));
    }
    help.over?.();
  }

  try {
    const autoprobe = values.sriov_drivers_autoprobe ?? (marks.length > 0 ? "1" : undefined);
    if (autoprobe !== undefined && attributes.read(owner, "sriov_drivers_autoprobe") !== autoprobe) {
      attributes.setAutoprobe(owner, autoprobe);
    }
    const known = new Set(ofVfs.map((one) => one.function));
    if (rebuilt && autoprobe === "1") {
      for (const vf of attributes.vfs(owner)) {
        if (!known.has(vf) && attributes.driver(vf) === "") attributes.probe(vf);
      }
    }
    done.unshift(...own);
    return { done, failed, marks };
  } catch (error) {
    const cause = asError(error);
    failed.unshift(...own.map((entry) => ({ entry, error: cause })));
    return { done, failed, marks: [] };
  }
}

/** What `putBack` would come to, as far as that can be known without a change. */
export function foresee<T extends Original>(
  attributes: FunctionAttributes,
  owner: string,
  originals: readonly T[],
  { guard }: Pick<PutBackHelp, "guard">,
): Pick<PutBackResult<T>, "done" | "failed"> {
  const own = originals.filter((one) => one.function === owner);
  const ofVfs = originals.filter((one) => one.function !== owner);
  const values = valuesOf(own);
  try {
    if (own.length > 0) {
      if (!attributes.exists(owner)) throw gone(owner);
      if (givesUpVfs(attributes, owner, values)) guard(attributes.vfs(owner));
      foreseeDriver(attributes, owner, values, guard);
    }
  } catch (error) {
    const cause = asError(error);
    return { done: [], failed: originals.map((entry) => ({ entry, error: cause })) };
  }
  const done = [...own];
  const failed: { entry: T; error: Error }[] = [];
  for (const vf of new Set(ofVfs.map((one) => one.function))) {
    const entries = ofVfs.filter((one) => one.function === vf);
    try {
      if (attributes.exists(vf)) foreseeDriver(attributes, vf, valuesOf(entries), guard);
      else if (values.sriov_numvfs === undefined && values.driver === undefined) throw gone(vf);
      done.push(...entries);
    } catch (error) {
      const cause = asError(error);
      failed.push(...entries.map((entry) => ({ entry, error: cause })));
    }
  }
  return { done, failed };
}

function foreseeDriver(
  attributes: FunctionAttributes,
  address: string,
  values: Values,
  guard: PutBackHelp["guard"],
): void {
  const current = attributes.driver(address), driver = values.driver ?? current;
  if (driver === current) return;
  if (current !== "" && !isVfioDriver(current)) guard([address]);
  if (driver !== "") requireDriver(attributes, address, driver);
}

/** VFs go when the count or the driver of their PF changes. */
function givesUpVfs(attributes: FunctionAttributes, owner: string, values: Values): boolean {
  const current = attributes.numVfs(owner);
  const otherDriver = values.driver !== undefined && values.driver !== attributes.driver(owner);
  const otherCount = values.sriov_numvfs !== undefined && Number(values.sriov_numvfs) !== current;
  return current > 0 && (otherDriver || otherCount);
}

/** @returns true when VFs were made anew, with autoprobe off. */
function putBackOwner(
  attributes: FunctionAttributes,
  owner: string,
  values: Values,
  help: PutBackHelp,
  marks: JournalMark[],
): boolean {
  const wanted = values.sriov_numvfs === undefined ? undefined : Number(values.sriov_numvfs);
  if (givesUpVfs(attributes, owner, values)) {
    help.guard(attributes.vfs(owner));
    writeVfCount(attributes, owner, 0);
  }
  putBackDriver(attributes, owner, values, help);
  if (wanted === undefined || wanted === 0 || wanted === attributes.numVfs(owner)) return false;

  // Each VF is given what it had; the kernel's own choice would start drivers for nothing.
  if (attributes.read(owner, "sriov_drivers_autoprobe") === "1") {
    if (values.sriov_drivers_autoprobe === undefined) {
      const change = {
        function: owner,
        attribute: "sriov_drivers_autoprobe",
        before: "1",
        after: "0",
      } as const;
      marks.push(help.record([change]));
    }
    attributes.setAutoprobe(owner, "0");
  }
  writeVfCount(attributes, owner, wanted);
  return true;
}

function putBackDriver(
  attributes: FunctionAttributes,
  address: string,
  values: Values,
  help: PutBackHelp,
): void {
  const current = attributes.driver(address);
  const driver = values.driver ?? current;
  const override = values.driver_override ?? attributes.driverOverride(address);
  if (driver !== current && current !== "" && !isVfioDriver(current)) help.guard([address]);
  rebind(attributes, address, driver, override);
}

function valuesOf(originals: readonly Original[]): Values {
  return Object.fromEntries(originals.map((one) => [one.attribute, one.before]));
}

function gone(address: string): NotFoundError {
  return new NotFoundError(`${address} is not there any more`, {
    hint: `when it will not come back: ringside restore --forget ${address}`,
  });
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
