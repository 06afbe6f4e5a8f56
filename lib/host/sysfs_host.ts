/**
 * `Host` over a sysfs tree, whoever serves it.
 *
 * @module
 */
import { requireType, typedErrors } from "../errors/doors.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { busOf, parseAddress } from "../vfio/bus.ts";
import type { VfioDevice } from "../vfio/device.ts";
import { FunctionAttributes, type StepHook } from "./sysfs/attributes.ts";
import { checkBindable, isVfioDriver, notTakenBack, rebind } from "./changes/driver_binding.ts";
import { identityOf } from "./functions/identity.ts";
import { FunctionReader } from "./functions/reader.ts";
import { Guards } from "./functions/guards.ts";
import type {
  BindOptions,
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
import { type Change, Journal } from "./journal/journal.ts";
import { FileJournalStore, type JournalStore } from "./journal/store.ts";
import { FunctionLocks } from "./functions/lock.ts";
import { type NameSource, PciIdsNames } from "./functions/names.ts";
import { putBack } from "./plan/put_back.ts";
import { entryOf, pending, restore } from "./plan/restore.ts";
import type { Sysfs } from "./sysfs/sysfs.ts";
import { checkVfCount, vfStates, writeVfCount } from "./changes/vf_count.ts";

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
    this.#locks = new FunctionLocks(parts.lockDirectory, parts.otherLockDirectories);
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

  bind(text: string, options: BindOptions = {}): void {
    const address = this.#locate(text);
    const driver = options.driver ?? busOf(address).vfioDriver;
    checkBindable(this.#attributes, address, driver);
    if (this.#attributes.driver(address) === driver) return;
    this.#parts.checkMayChange?.();
    const vfs = this.#attributes.vfs(address);
    using _held = this.#locks.acquireAll([address, ...vfs]);
    if (!options.force) this.#guards.refuseIfUsed([address, ...vfs], `bind ${address} to ${driver}`);
    const removal = vfs.length === 0
      ? []
      : [...vfStates(this.#attributes, address), this.#countChange(address, 0)];
    this.#change(address, [
      ...removal,
      this.#changeTo(address, "driver", driver),
      this.#changeTo(address, "driver_override", driver),
    ], () => {
      // A PF keeps its VFs only as long as its driver, and vfio-pci takes no PF that has VFs.
      if (vfs.length > 0) writeVfCount(this.#attributes, address, 0);
      rebind(this.#attributes, address, driver, driver);
    });
  }

  setVfCount(text: string, count: number, options: SriovOptions = {}): string[] {
    const address = this.#locate(text);
    checkVfCount(this.#attributes, address, count);
    const current = this.#attributes.numVfs(address);
    const autoprobeBefore = this.#attributes.read(address, "sriov_drivers_autoprobe");
    const autoprobe = this.#autoprobeFor(address, count, options) ?? autoprobeBefore;
    if (current === count && (options.driversAutoprobe === undefined || autoprobe === autoprobeBefore)) {
      return this.#attributes.vfs(address);
    }
    this.#parts.checkMayChange?.();
    const leaving = current === count ? [] : this.#attributes.vfs(address);
    // The process that has the PF open may give it VFs: only it knows the VF token.
    const own = this.#open.has(address) ? [] : [address];
    using _held = this.#locks.acquireAll([...own, ...leaving]);
    if (!options.force) this.#guards.refuseIfUsed(leaving, `remove the VFs of ${address}`);
    const changes = leaving.length === 0 ? [] : vfStates(this.#attributes, address);
    if (autoprobe !== autoprobeBefore && autoprobe !== undefined) {
      changes.push(this.#changeTo(address, "sriov_drivers_autoprobe", autoprobe));
    }
    if (current !== count) changes.push(this.#countChange(address, count));
    return this.#change(address, changes, () => {
      if (autoprobe !== autoprobeBefore && autoprobe !== undefined) {
        this.#attributes.setAutoprobe(address, autoprobe);
      }
      return writeVfCount(this.#attributes, address, count);
    });
  }

  restore(text?: string, options: RestoreOptions = {}): RestoreReport {
    this.#use();
    // The function may be gone, and its entries are still to be reported.
    const address = text === undefined ? undefined : parseAddress(text);
    if (options.forget && address === undefined) {
      throw new UsageError("restore with forget, and no function", { hint: "say whose entries to drop" });
    }
    const known = this.#journal.entries();
    const concerned = known.filter((one) =>
      address === undefined || one.function === address || one.physicalFunction === address
    );
    if (concerned.length === 0) {
      if (address !== undefined) this.#reader.locate(address);
      return { done: [], unchanged: [], failed: [] };
    }
    this.#parts.checkMayChange?.();
    if (options.forget) {
      this.#journal.forget(concerned);
      return { done: concerned.map(entryOf), unchanged: [], failed: [] };
    }
    const parts = {
      attributes: this.#attributes,
      journal: this.#journal,
      locks: this.#locks,
      guards: this.#guards,
    };
    return restore(parts, address, options.force ?? false);
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
    const device = this.#parts.opener({ address, info, options, onClosed });
    this.#open.add(address);
    opened.move();
    return device;
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

  #locate(text: string): string {
    this.#use();
    return this.#reader.locate(text);
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

  /** Records changes, makes them, and takes them back when that fails. */
  #change<T>(owner: string, changes: readonly Change[], make: () => T): T {
    // VFs that came after the PF's first recorded count are not what a restore goes back to.
    const recounted = this.#journal.entries().some((one) =>
      one.function === owner && one.attribute === "sriov_numvfs"
    );
    const mark = this.#journal.record(changes.filter((one) => !(recounted && one.function !== owner)));
    try {
      return make();
    } catch (error) {
      this.#takeBack(owner, changes, mark, error);
      throw error;
    }
  }

  #takeBack(
    owner: string,
    changes: readonly Change[],
    mark: ReturnType<Journal["record"]>,
    error: unknown,
  ): void {
    try {
      const help = { record: (more: readonly Change[]) => this.#journal.record(more), guard: () => {} };
      const result = putBack(this.#attributes, owner, changes, help);
      if (result.failed.length > 0) throw notTakenBack(error, result.failed.map((one) => one.error));
      for (const extra of result.marks) this.#journal.rollBack(extra);
      this.#journal.rollBack(mark);
    } catch (second) {
      throw second === error || !(second instanceof Error) ? error : notTakenBackOnce(error, second);
    }
  }
}

function notTakenBackOnce(error: unknown, second: Error): Error {
  return second.cause === error ? second : notTakenBack(error, [second]);
}
