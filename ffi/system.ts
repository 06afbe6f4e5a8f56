/**
 * Facts about this process and machine.
 *
 * @module
 */
import { cString, fromCString, libc } from "./libc.ts";
import { errnoNumber } from "./errno.ts";
import { check } from "./syscall_error.ts";

/** Effective user id. */
export function effectiveUserId(): number {
  return libc.geteuid();
}

/** This process's id. */
export function processId(): number {
  return libc.getpid();
}

/** True when a process with this id exists, whoever owns it. */
export function processExists(pid: number): boolean {
  const result = libc.kill(pid, 0);
  return result === 0 || result === -errnoNumber.EPERM!;
}

/** Sends a signal by number. @throws SyscallError */
export function sendSignal(pid: number, signal: number): void {
  check(libc.kill(pid, signal), "kill", `process ${pid}`);
}

/** Resource limits that matter here. */
export const RLIMIT = { openFiles: 7, lockedMemory: 8 } as const;

/** Soft and hard limit; `Infinity` when there is none. @throws SyscallError */
export function resourceLimit(resource: number): { soft: number; hard: number } {
  const values = new BigUint64Array(2);
  check(libc.getrlimit(resource, new Uint8Array(values.buffer)), "getrlimit", `${resource}`);
  const read = (value: bigint) => (value === 0xffff_ffff_ffff_ffffn ? Infinity : Number(value));
  return { soft: read(values[0]!), hard: read(values[1]!) };
}

/** Sets the soft limit, up to the hard one. @throws SyscallError (EINVAL above the hard limit) */
export function setSoftLimit(resource: number, soft: number): void {
  const word = (value: number) => (value === Infinity ? 0xffff_ffff_ffff_ffffn : BigInt(value));
  const { hard } = resourceLimit(resource);
  const values = new BigUint64Array([word(soft), word(hard)]);
  check(libc.setrlimit(resource, new Uint8Array(values.buffer)), "setrlimit", `${resource}`);
}

/**
 * Lets this process open as many descriptors as its hard limit allows. The soft limit is often 1024 for the sake of select(2), which nothing
 * here uses; the `deno` program raises it too, others that embed its runtime need not.
 * @returns the limit now. @throws SyscallError
 */
export function raiseOpenFileLimit(): number {
  const { soft, hard } = resourceLimit(RLIMIT.openFiles);
  if (soft < hard) setSoftLimit(RLIMIT.openFiles, hard);
  return hard;
}

/** struct timespec, little-endian as both architectures are, for naps by the thousand. */
const timespec = new Uint8Array(16);
const timespecView = new DataView(timespec.buffer);

/** Sleeps in this thread, for 2^32 seconds at most. */
export function sleepBlocking(milliseconds: number): void {
  timespecView.setUint32(0, Math.min(Math.trunc(milliseconds / 1000), 0xffff_ffff), true);
  timespecView.setUint32(8, Math.trunc((milliseconds % 1000) * 1e6), true);
  libc.nanosleep(timespec, null);
}

/** Kernel release, such as `6.12.4`. @throws SyscallError */
export function kernelRelease(): string {
  const names = new Uint8Array(6 * 65);
  check(libc.uname(names), "uname", "");
  return fromCString(names.subarray(2 * 65, 3 * 65));
}

/** True when `path` is there and this user may open it for reading and writing. */
export function canOpen(path: string): boolean {
  const READ_WRITE = 6;
  return libc.access(cString(path), READ_WRITE) === 0;
}

/** Lets another thread that waits for this processor run first: what a loop that polls does when others need the processor too. */
export function yieldProcessor(): void {
  libc.sched_yield();
}
