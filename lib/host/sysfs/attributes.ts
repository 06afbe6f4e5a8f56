/**
 * The sysfs attributes of a function that this project changes, and nothing else that writes to sysfs.
 *
 * @module
 */
import { isErrno, sleepBlocking } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { TimeoutError } from "../../errors/mod.ts";
import { busOf, sysfsDirectory } from "../../vfio/bus.ts";
import type { JournalEntry } from "../host.ts";
import type { Sysfs } from "./sysfs.ts";

/** An attribute that the journal records. */
export type Attribute = JournalEntry["attribute"];

/**
 * Called before and after each write, to sysfs or to the journal, with `before …` or `after …` and what is written. For tests
 * that end the process at a chosen point: a hook that throws has the effect of a failed write.
 */
export type StepHook = (step: string) => void;

const VF_WAIT_MS = 5000;
const VF_POLL_MS = 2;

/** Last component of a path. */
export function baseName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Reads and writes the changeable attributes. Values are text, empty for "none". Failures are `SyscallError`s. */
export class FunctionAttributes {
  static {
    typedErrors(this);
  }

  /** The tree below. */
  readonly sysfs: Sysfs;
  readonly #step: StepHook;

  /** Works on `sysfs`, and tells `onStep` of each write. */
  constructor(sysfs: Sysfs, onStep: StepHook = () => {}) {
    this.sysfs = sysfs;
    this.#step = onStep;
  }

  /** Whether the bus has the function. `address` is a full address. */
  exists(address: string): boolean {
    return this.sysfs.exists(sysfsDirectory(address));
  }

  /** Whether a driver of this name is registered on a function's bus. */
  driverExists(address: string, driver: string): boolean {
    return this.sysfs.exists(`${busOf(address).drivers}/${driver}`);
  }

  /** Current value; undefined when the function has no such attribute. */
  read(address: string, attribute: Attribute): string | undefined {
    switch (attribute) {
      case "driver":
        return this.driver(address);
      case "driver_override":
        return this.driverOverride(address);
      default:
        return this.optional(`${sysfsDirectory(address)}/${attribute}`);
    }
  }

  /** Driver that the function is bound to. */
  driver(address: string): string {
    return this.linkName(`${sysfsDirectory(address)}/driver`) ?? "";
  }

  /** Driver that alone may bind the function. */
  driverOverride(address: string): string {
    const text = this.optional(`${sysfsDirectory(address)}/driver_override`) ?? "";
    // What the kernel's printf makes of a pointer that is not set.
    return text === "(null)" ? "" : text;
  }

  /** NumVFs; 0 on a function without SR-IOV. */
  numVfs(address: string): number {
    return Number(this.optional(`${sysfsDirectory(address)}/sriov_numvfs`) ?? "0");
  }

  /** TotalVFs; undefined on a function that is not a PF. */
  totalVfs(address: string): number | undefined {
    const text = this.optional(`${sysfsDirectory(address)}/sriov_totalvfs`);
    return text === undefined ? undefined : Number(text);
  }

  /** Addresses of the enabled VFs, in VF order. */
  vfs(address: string): string[] {
    const found: string[] = [];
    const count = this.numVfs(address);
    if (count === 0) return found;
    const links = this.optionalLinks(sysfsDirectory(address));
    for (let i = 0; i < count; i++) {
      const target = links.get(`virtfn${i}`);
      if (target !== undefined) found.push(baseName(target));
    }
    return found;
  }

  /** PF of a VF; undefined on any other function. */
  physicalFunction(address: string): string | undefined {
    return this.linkName(`${sysfsDirectory(address)}/physfn`);
  }

  /** Text of an attribute that need not be there. */
  optional(path: string): string | undefined {
    return ifThere(() => this.sysfs.readText(path), undefined, "ENODEV", "EIO");
  }

  /** Bytes of an attribute that need not be there. */
  optionalBytes(path: string): Uint8Array<ArrayBuffer> | undefined {
    return ifThere(() => this.sysfs.readBytes(path), undefined, "ENODEV", "EIO");
  }

  /** Last component of a link's target; undefined when there is no such link. */
  linkName(path: string): string | undefined {
    const target = this.optionalLink(path);
    return target === undefined ? undefined : baseName(target);
  }

  /** A link's target; undefined when there is no such link. */
  optionalLink(path: string): string | undefined {
    return ifThere(() => this.sysfs.readLink(path), undefined);
  }

  /** Names in a directory; none when there is no such directory. */
  optionalList(path: string): string[] {
    return ifThere(() => this.sysfs.list(path), []);
  }

  /** Links of a directory with their targets; none when there is no such directory. */
  optionalLinks(path: string): Map<string, string> {
    return ifThere(() => this.sysfs.links(path), new Map());
  }

  /** Takes the function from its driver. */
  unbind(address: string, driver: string): void {
    this.#write(`${busOf(address).drivers}/${driver}/unbind`, address, `unbind ${address} from ${driver}`);
  }

  /** Lets the kernel look for a driver, as it does for a new function. */
  probe(address: string): void {
    this.#write(busOf(address).probe, address, `probe ${address}`);
  }

  /** Names the one driver that may bind the function; empty for any. */
  setDriverOverride(address: string, driver: string): void {
    // A write of no bytes would not reach the kernel; an empty line clears the value.
    const text = driver === "" ? "\n" : driver;
    this.#write(`${sysfsDirectory(address)}/driver_override`, text, `driver_override ${address} ${driver}`);
  }

  /** Whether the kernel binds new VFs without a `driver_override`: `0` or `1`. */
  setAutoprobe(address: string, value: string): void {
    const path = `${sysfsDirectory(address)}/sriov_drivers_autoprobe`;
    this.#write(path, value, `sriov_drivers_autoprobe ${address} ${value}`);
  }

  /** Enables VFs (from none) or removes all (0). */
  setNumVfs(address: string, count: number): void {
    this.#write(`${sysfsDirectory(address)}/sriov_numvfs`, `${count}`, `sriov_numvfs ${address} ${count}`);
  }

  /**
   * Waits till all enabled VFs have their own sysfs entries.
   * @returns their addresses, in VF order.
   * @throws TimeoutError
   */
  awaitVfs(address: string, count: number): string[] {
    for (let waitedMs = 0;; waitedMs += VF_POLL_MS) {
      const vfs = this.vfs(address);
      const there = new Set(this.sysfs.list(busOf(address).devices));
      if (vfs.length === count && vfs.every((vf) => there.has(vf))) return vfs;
      if (waitedMs >= VF_WAIT_MS) {
        throw new TimeoutError(`${address}: only ${vfs.length} of ${count} VFs appeared in sysfs`, {
          hint: "look at the kernel's log (dmesg)",
        });
      }
      sleepBlocking(VF_POLL_MS);
    }
  }

  #write(path: string, text: string, step: string): void {
    this.#step(`before ${step}`);
    this.sysfs.writeText(path, text);
    this.#step(`after ${step}`);
  }
}

/** What a call reads, or `otherwise` when there is nothing of the kind. @param also further errors that mean so */
function ifThere<T>(read: () => T, otherwise: T, ...also: string[]): T {
  try {
    return read();
  } catch (error) {
    if (isErrno(error, "ENOENT", "ENOTDIR", "EINVAL", ...also)) return otherwise;
    throw error;
  }
}
