/**
 * `Host` over a sysfs tree, whoever serves it.
 *
 * @module
 */
import { requireType, typedErrors } from "../errors/doors.ts";
import { ClosedError, RemovalRequestedError, UsageError } from "../errors/mod.ts";
import { busOf } from "../vfio/bus.ts";
import type { VfioDevice } from "../vfio/device.ts";
import { FunctionAttributes, type StepHook } from "./sysfs/attributes.ts";
import { checkBindable, isVfioDriver, notTakenBack, rebind } from "./changes/driver_binding.ts";
import { identityOf, sameIdentity } from "./functions/identity.ts";
import { FunctionReader } from "./functions/reader.ts";
import { Guards } from "./functions/guards.ts";
import type {
  Binding,
  BindOptions,
  ChangeProgress,
  Finding,
  FunctionInfo,
  Host,
  JournalEntry,
  ListOptions,
  OpenOptions,
  RestoreOptions,
  RestoreReport,
  SriovOptions,
} from "./host.ts";
import type { HostUsage } from "./functions/host_usage.ts";
import { type Change, Journal, type JournalRecord } from "./journal/journal.ts";
import { FileJournalStore, type JournalStore } from "./journal/store.ts";
import { FunctionLocks } from "./functions/lock.ts";
import { type NameSource, PciIdsNames } from "./functions/names.ts";
import { putBack } from "./plan/put_back.ts";
import { entryOf, pending, restore } from "./plan/restore.ts";
import type { Sysfs } from "./sysfs/sysfs.ts";
import { checkVfCount, expectedVfs, vfStates, writeVfCount } from "./changes/vf_count.ts";
import type { KernelLog } from "./functions/kernel_log.ts";
import { attachedTo } from "./functions/attached_devices.ts";

/** What an opener is told. */
export interface OpenRequest {
  /** Full address. */
  readonly address: string;
  /** What the host says of it. */
  readonly info: FunctionInfo;
  /** What the caller asked for. */
  readonly options: OpenOptions;
  /** The device calls it when it has been closed: the function's lock is let go of. */
  readonly onClosed: () => void;
}

/** What a `SysfsHost` is made of. */
export interface SysfsHostParts {
  readonly name: string;
  /** The host owns it and disposes of it. */
  readonly sysfs: Sysfs;
  /** Directory of the journal; made when first needed. */
  readonly stateDirectory: string;
  /** Directory of the functions' locks; made when first needed. */
  readonly lockDirectory: string;
  /** Further lock directories that `heldBy` looks in. */
  readonly otherLockDirectories?: readonly string[];
  /** Opens a function that is bound to a VFIO driver and locked. */
  readonly opener: (request: OpenRequest) => VfioDevice;
  /** How to find out whether the host uses a function. */
  readonly usage: (attributes: FunctionAttributes) => HostUsage;
  /** Findings of `doctor`. */
  readonly examine: (host: Host, attributes: FunctionAttributes) => Finding[];
  /** Throws a `RefusedError` when this user may not change the host. */
  readonly checkMayChange?: () => void;
  /** What the kernel logs meanwhile; absent where there is no kernel of its own, or this user may not read it. */
  readonly kernelLog?: () => KernelLog | undefined;
  /** How this process is called where it holds a function; default its command line. */
  readonly holder?: string | undefined;
  /** Default: `pci.ids` of this machine, and the built-in table. */
  readonly names?: NameSource;
  /** Default: a file in `stateDirectory`. */
  readonly journalStore?: JournalStore;
  /** For tests: see `StepHook`. */
  readonly onStep?: StepHook;
}

/** The one implementation of `Host`; `LinuxHost` and `EmulatedHost` only choose its parts. */
export class SysfsHost implements Host {
  static {
    typedErrors(this);
  }

  readonly name: string;
  readonly #parts: SysfsHostParts;
  readonly #attributes: FunctionAttributes;
  readonly #reader: FunctionReader;
  readonly #locks: FunctionLocks;
  readonly #guards: Guards;
  readonly #journal: Journal;
  /** Functions that this host has open. */
  readonly #open = new Set<string>();
  #closed = false;

  /** Puts the parts together; nothing is read or changed. */
  constructor(parts: SysfsHostParts) {
    requireType(parts, "object", "new SysfsHost: parts", "name", "sysfs", "usage", "opener");
    requireType(parts.usage, "function", "new SysfsHost: usage");
    this.name = parts.name;
    this.#parts = parts;
    this.#attributes = new FunctionAttributes(parts.sysfs, parts.onStep);
    this.#locks = new FunctionLocks(parts.lockDirectory, parts.otherLockDirectories, parts.holder);
    this.#reader = new FunctionReader(this.#attributes, parts.names ?? new PciIdsNames(), this.#locks);
    this.#guards = new Guards(this.#attributes, parts.usage(this.#attributes));
    this.#journal = new Journal(
      parts.journalStore ?? new FileJournalStore(parts.stateDirectory),
      parts.onStep,
    );
  }

  list(options: ListOptions = {}): FunctionInfo[] {
    this.#use();
    return this.#reader.list(options.all ?? false);
  }

  describe(address: string): FunctionInfo {
    return this.#reader.describe(this.#locate(address));
  }

  readConfig(address: string): Uint8Array<ArrayBuffer> {
    return this.#reader.readConfig(this.#locate(address));
  }

  barSizes(address: string): number[] {
    return this.#reader.barSizes(this.#locate(address));
  }

  bind(functions: string | readonly string[], options: BindOptions = {}): Binding[] {
    const addresses = this.#locateAll(functions);
    const bindings = addresses.map((address): Binding => {
      const driver = options.driver ?? busOf(address).vfioDriver;
      checkBindable(this.#attributes, address, driver);
      return { function: address, before: this.#attributes.driver(address), driver };
    });
    const moves = bindings.filter(({ before, driver }) => before !== driver);
    if (moves.length === 0) return bindings;
    const vfs = new Map(moves.map((one) => [one.function, this.#attributes.vfs(one.function)]));
    refuseVfsOfMoved(vfs, addresses);
    const concerned = moves.flatMap((one) => [one.function, ...vfs.get(one.function)!]);
    using _held = this.#hold(concerned, options.dryRun);
    if (!options.force) {
      const what = moves.map((one) => `${one.function} to ${one.driver}`).join(", ");
      this.#guards.refuseIfUsed(concerned, `bind ${what}`);
    }
    if (options.dryRun) return bindings;
    this.#change(
      moves.map(({ function: address, driver }) => {
        const removal = vfs.get(address)!.length === 0
          ? []
          : [...vfStates(this.#attributes, address), this.#countChange(address, 0)];
        return {
          owner: address,
          changes: [
            ...removal,
            { ...this.#changeTo(address, "driver", driver), ...this.#namesOf(address) },
            this.#changeTo(address, "driver_override", driver),
          ],
          make: () => {
            // A PF keeps its VFs only as long as its driver, and vfio-pci takes no PF that has VFs.
            if (removal.length > 0) writeVfCount(this.#attributes, address, 0);
            rebind(this.#attributes, address, driver, driver);
          },
        };
      }),
      options.onProgress,
    );
    return bindings;
  }

  setVfCount(functions: string | readonly string[], count: number, options: SriovOptions = {}): string[] {
    const addresses = this.#locateAll(functions);
    for (const address of addresses) checkVfCount(this.#attributes, address, count);
    const plans = addresses.map((address) => this.#planVfCount(address, count, options));
    const needed = plans.filter((one) => one.changes.length > 0);
    if (needed.length > 0) {
      const leaving = needed.flatMap((one) => one.leaving);
      // The process that has the PF open may give it VFs: only it knows the VF token.
      const own = needed.map((one) => one.owner).filter((address) => !this.#open.has(address));
      using _held = this.#hold([...own, ...leaving], options.dryRun);
      if (!options.force) {
        const of = needed.filter((one) => one.leaving.length > 0).map((one) => one.owner);
        this.#guards.refuseIfUsed(leaving, `remove the VFs of ${of.join(", ")}`);
      }
      if (!options.dryRun) this.#change(needed, options.onProgress);
    }
    return addresses.flatMap((address) =>
      options.dryRun ? expectedVfs(this.#attributes, address, count) : this.#attributes.vfs(address)
    );
  }

  /** What it takes for a PF to have so many VFs; no changes where it has them already. */
  #planVfCount(address: string, count: number, options: SriovOptions): Work & { leaving: string[] } {
    const current = this.#attributes.numVfs(address);
    const autoprobeBefore = this.#attributes.read(address, "sriov_drivers_autoprobe");
    const autoprobe = this.#autoprobeFor(address, count, options) ?? autoprobeBefore;
    if (current === count && (options.driversAutoprobe === undefined || autoprobe === autoprobeBefore)) {
      return { owner: address, leaving: [], changes: [], make: () => {} };
    }
    const leaving = current === count ? [] : this.#attributes.vfs(address);
    const changes = leaving.length === 0 ? [] : vfStates(this.#attributes, address);
    const probing = autoprobe !== autoprobeBefore && autoprobe !== undefined;
    if (probing) changes.push(this.#changeTo(address, "sriov_drivers_autoprobe", autoprobe));
    if (current !== count) changes.push(this.#countChange(address, count));
    const make = (): void => {
      if (probing) this.#attributes.setAutoprobe(address, autoprobe);
      writeVfCount(this.#attributes, address, count, this.#parts.kernelLog);
    };
    return { owner: address, leaving, changes, make };
  }

  restore(functions?: string | readonly string[], options: RestoreOptions = {}): RestoreReport {
    this.#use();
    const names = functions === undefined ? [] : typeof functions === "string" ? [functions] : functions;
    if (options.forget && names.length === 0) {
      throw new UsageError("restore with forget, and no function", { hint: "say whose entries to drop" });
    }
    const known = this.#journal.entries();
    // A function may be gone, and its entries are still to be reported.
    const addresses = new Set(names.map((name) => noted(known, name) ?? this.#reader.addressOf(name)));
    const isAbout = (address: string) => (one: JournalRecord) =>
      one.function === address || one.physicalFunction === address;
    for (const address of addresses) if (!known.some(isAbout(address))) this.#reader.locate(address);
    const concerned = known.filter((one) =>
      names.length === 0 || addresses.has(one.function) || addresses.has(one.physicalFunction ?? "")
    );
    if (concerned.length === 0) return { done: [], unchanged: [], failed: [] };
    if (!options.dryRun) this.#parts.checkMayChange?.();
    if (options.forget) {
      if (!options.dryRun) this.#journal.forget(concerned);
      return { done: concerned.map(entryOf), unchanged: [], failed: [] };
    }
    const parts = {
      attributes: this.#attributes,
      journal: this.#journal,
      locks: this.#locks,
      guards: this.#guards,
    };
    return restore(parts, names.length === 0 ? undefined : addresses, options);
  }

  journal(): JournalEntry[] {
    this.#use();
    return pending(this.#attributes, this.#journal.entries()).map(entryOf);
  }

  open(text: string, options: OpenOptions = {}): VfioDevice {
    const address = this.#locate(text);
    const info = this.#reader.describe(address);
    if (info.driver === undefined || !isVfioDriver(info.driver)) {
      const state = info.driver === undefined ? "has no driver" : `is bound to ${info.driver}`;
      throw new UsageError(
        `${address} ${state}; only a function that is bound to ${busOf(address).vfioDriver} can be opened`,
        {
          hint: `ringside bind ${address}`,
        },
      );
    }
    const lock = this.#locks.acquire(address);
    const onClosed = (): void => {
      this.#open.delete(address);
      lock.release();
    };
    using opened = new DisposableStack();
    opened.defer(onClosed);
    this.#guards.refuseIfGroupShared(address);
    let device: VfioDevice;
    try {
      device = this.#parts.opener({ address, info, options, onClosed });
    } catch (error) {
      throw this.#leftMeanwhile(address, info.driver, error);
    }
    this.#open.add(address);
    opened.move();
    return device;
  }

  /** Nobody's lock keeps the host's user from unbinding or unplugging what is being opened, and what is found missing then says nothing of that. */
  #leftMeanwhile(address: string, driver: string, error: unknown): unknown {
    if (error instanceof RemovalRequestedError) return error;
    let what: string;
    try {
      const now = this.#attributes.exists(address) ? this.#attributes.driver(address) : undefined;
      if (now === driver) return error;
      what = now === undefined ? "removed" : `unbound from ${driver}`;
    } catch {
      // The host is gone itself: what was said first is nearer to it.
      return error;
    }
    return new RemovalRequestedError(`${address} was not opened: it was ${what} meanwhile`, {
      hint: `ringside bind ${address}, when it is there`,
      cause: error,
    });
  }

  examine(): Finding[] {
    this.#use();
    return this.#parts.examine(this, this.#attributes);
  }

  /** Lets go of the tree. Devices that were opened stay open, with their locks. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#parts.sysfs[Symbol.dispose]();
  }

  #use(): void {
    if (this.#closed) throw new ClosedError(`host ${this.name}`);
  }

  /** An interface or a disk goes with its driver, and its function is called by its name until it is put back. */
  #locate(text: string): string {
    this.#use();
    try {
      return this.#reader.locate(text);
    } catch (error) {
      const was = error instanceof UsageError ? this.#notedThere(text) : undefined;
      if (was === undefined) throw error;
      return was;
    }
  }

  /** The function that a name is noted of, where that is still the same device. */
  #notedThere(name: string): string | undefined {
    let records: readonly JournalRecord[];
    try {
      records = this.#journal.entries();
    } catch {
      // Whoever needs the journal hears what is wrong with it.
      return undefined;
    }
    const record = records.find((one) => one.names?.includes(name));
    if (record === undefined) return undefined;
    const found = identityOf(this.#attributes, record.function);
    if (found === undefined) return undefined;
    return record.identity === undefined || sameIdentity(record.identity, found)
      ? record.function
      : undefined;
  }

  #locateAll(functions: string | readonly string[]): string[] {
    const names = typeof functions === "string" ? [functions] : functions;
    requireType(names, "array", "functions");
    if (names.length === 0) throw new UsageError("no function is named");
    return [...new Set(names.map((name) => this.#locate(name)))];
  }

  /** Locks functions that are about to be changed; a dry run only looks whether it could. @throws RefusedError */
  #hold(addresses: readonly string[], dryRun: boolean | undefined): Disposable {
    if (!dryRun) {
      this.#parts.checkMayChange?.();
      return this.#locks.acquireAll(addresses);
    }
    this.#locks.refuseIfHeld(addresses);
    return { [Symbol.dispose]: () => {} };
  }

  /** What hangs on a function: its names while it has none of its own. */
  #namesOf(address: string): Pick<Change, "names"> {
    const { netInterfaces, blockDevices } = attachedTo(this.#attributes, address);
    const names = [...netInterfaces, ...blockDevices];
    return names.length === 0 ? {} : { names };
  }

  #autoprobeFor(address: string, count: number, options: SriovOptions): string | undefined {
    if (options.driversAutoprobe !== undefined) return options.driversAutoprobe ? "1" : "0";
    return count > 0 && isVfioDriver(this.#attributes.driver(address)) ? "0" : undefined;
  }

  #changeTo(address: string, attribute: Change["attribute"], after: string): Change {
    const physicalFunction = this.#attributes.physicalFunction(address);
    const before = this.#attributes.read(address, attribute) ?? "";
    return {
      function: address,
      attribute,
      before,
      after,
      physicalFunction,
      identity: identityOf(this.#attributes, address),
    };
  }

  #countChange(address: string, count: number): Change {
    return this.#changeTo(address, "sriov_numvfs", `${count}`);
  }

  /** Records all changes at once, makes them function by function, and takes all of them back when one fails. */
  #change(works: readonly Work[], onProgress: ChangeProgress["onProgress"]): void {
    // VFs that came after the PF's first recorded count are not what a restore goes back to.
    const known = this.#journal.entries();
    const recorded = works.flatMap(({ owner, changes }) => {
      const recounted = known.some((one) => one.function === owner && one.attribute === "sriov_numvfs");
      return changes.filter((one) => !(recounted && one.function !== owner));
    });
    const mark = this.#journal.record(recorded);
    const begun: Work[] = [];
    try {
      for (const work of works) {
        begun.unshift(work);
        work.make();
        onProgress?.(begun.length, works.length);
      }
    } catch (error) {
      this.#takeBack(begun, mark, error);
      throw error;
    }
  }

  #takeBack(works: readonly Work[], mark: ReturnType<Journal["record"]>, error: unknown): void {
    try {
      const help = { record: (more: readonly Change[]) => this.#journal.record(more), guard: () => {} };
      const results = works.map(({ owner, changes }) => putBack(this.#attributes, owner, changes, help));
      const failed = results.flatMap((one) => one.failed);
      if (failed.length > 0) throw notTakenBack(error, failed.map((one) => one.error));
      for (const extra of results.flatMap((one) => one.marks)) this.#journal.rollBack(extra);
      this.#journal.rollBack(mark);
    } catch (second) {
      throw second === error || !(second instanceof Error) ? error : notTakenBackOnce(error, second);
    }
  }
}

/** Changes to a function, or to a PF and its VFs, and what makes them. */
interface Work {
  readonly owner: string;
  readonly changes: readonly Change[];
  readonly make: () => void;
}

/** The function that a name stood for when its driver was taken. */
function noted(known: readonly JournalRecord[], name: string): string | undefined {
  return known.find((one) => one.names?.includes(name))?.function;
}

/** @throws UsageError when a PF would take VFs along that are to be bound themselves */
function refuseVfsOfMoved(vfs: ReadonlyMap<string, readonly string[]>, addresses: readonly string[]): void {
  for (const [pf, own] of vfs) {
    const named = own.find((vf) => addresses.includes(vf));
    if (named === undefined) continue;
    throw new UsageError(`${named} goes with its PF ${pf}, which gives up its VFs to change its driver`, {
      hint: "bind the PF, then ringside sriov, then bind the new VFs",
    });
  }
}

function notTakenBackOnce(error: unknown, second: Error): Error {
  return second.cause === error ? second : notTakenBack(error, [second]);
}
