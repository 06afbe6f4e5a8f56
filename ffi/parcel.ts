/**
 * Descriptors and mappings on their way to another thread of this process, as plain data.
 *
 * Each is the receiver's own: a second descriptor of the open file, a second mapping of the pages. So whoever closes first takes nothing away from the
 * other: the kernel counts who still has a file or a page.
 *
 * @module
 */
import { isOfType } from "../lib/errors/doors.ts";
import { UsageError } from "../lib/errors/mod.ts";
import { shown } from "../lib/errors/shown.ts";
import { EventFd } from "./event_fd.ts";
import { OwnedFd } from "./fd.ts";
import { accessible, readLink, readText } from "./file.ts";
import { type MappedArea, MappedMemory } from "./memory.ts";

/** An open descriptor, on its way. */
export interface PassedFd {
  /** The number; of this process. */
  readonly fd: number;
  /** Path or description, for messages. */
  readonly target: string;
}

/** What is put in is nobody's until it is taken over by `takeEventFd` and `takeMapping`, or is `reclaim`ed. */
export class Parcel {
  readonly #fds: PassedFd[] = [];
  readonly #areas: MappedArea[] = [];

  /** Puts a second descriptor of the same open file in. @throws SyscallError */
  addFd(fd: OwnedFd): PassedFd {
    const { target } = fd;
    const passed = { fd: fd.duplicate().release(), target };
    this.#fds.push(passed);
    return passed;
  }

  /** Puts a mapping in, which nobody else has: it is closed here, and its pages stay mapped. @throws ClosedError */
  addMapping(memory: MappedMemory): MappedArea {
    const area = memory.handOver();
    this.#areas.push(area);
    return area;
  }

  /** Closes what is in it: only when nobody has taken it over, and nobody will. May be called again. */
  reclaim(): void {
    for (const { fd, target } of this.#fds.splice(0)) new OwnedFd(fd, target).close();
    for (const area of this.#areas.splice(0)) MappedMemory.takeOver(area).close();
  }
}

/** Takes an eventfd over that came out of a parcel. @throws UsageError when this process has none of that number */
export function takeEventFd(passed: PassedFd): EventFd {
  const fd = passed?.fd, target = passed?.target;
  if (Number.isInteger(fd) && fd >= 0 && typeof target === "string") {
    const path = `/proc/self/fd/${fd}`;
    if (accessible(path) && readLink(path) === "anon_inode:[eventfd]") {
      return new EventFd(new OwnedFd(fd, target));
    }
  }
  throw new UsageError(`${shown(passed)} is no eventfd of this process`);
}

/** Takes a mapping over that came out of a parcel. @throws UsageError when this process has none there that may be written and is shared */
export function takeMapping(area: MappedArea): MappedMemory {
  const address = area?.address, sizeBytes = area?.sizeBytes;
  if (
    typeof address === "bigint" && address > 0n && Number.isSafeInteger(sizeBytes) && sizeBytes > 0 &&
    isOfType(area.target, "string") && isMapped(address, BigInt(sizeBytes))
  ) {
    return MappedMemory.takeOver(area);
  }
  throw new UsageError(`${shown(area)} is no memory of this process`);
}

/** Neighbours may be one area to the kernel, and one may be several. */
function isMapped(address: bigint, sizeBytes: bigint): boolean {
  let at = address;
  for (const line of readText("/proc/self/maps").split("\n")) {
    const [, start, end, flags] = /^([0-9a-f]+)-([0-9a-f]+) (\S+)/.exec(line) ?? [];
    if (start === undefined || BigInt(`0x${end}`) <= at) continue;
    if (BigInt(`0x${start}`) > at || !/^rw.s/.test(flags!)) return false;
    at = BigInt(`0x${end}`);
    if (at >= address + sizeBytes) return true;
  }
  return false;
}

/** Number of the thread that calls. */
export function threadId(): number {
  return Number(/\d+$/.exec(readLink("/proc/thread-self"))![0]);
}

/** Whether this process has a thread of that number. */
export function threadExists(id: number): boolean {
  return accessible(`/proc/self/task/${id}`);
}
