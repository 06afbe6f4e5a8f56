/**
 * Copies to and from mappings of files that may shrink. An access of this process to a page that is not in the file any more would end it
 * (SIGBUS); when the kernel copies, it says EFAULT.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import { errnoNumber } from "./errno.ts";
import { addressOf } from "./ioctl.ts";
import { libc } from "./libc.ts";
import type { MappedMemory } from "./memory.ts";
import { check } from "./syscall_error.ts";

let pid = 0;
/** What one call moves at most, and its result can say. */
const CALL_BYTES = 1 << 30;
// struct iovec, over ArrayBuffers of their own, which stay where they are.
const here = new BigUint64Array(new ArrayBuffer(16));
const there = new BigUint64Array(new ArrayBuffer(16));
const hereBytes = new Uint8Array(here.buffer);
const thereBytes = new Uint8Array(there.buffer);

/**
 * Fills `into` from a mapping, as the kernel reads it.
 * @param into over an ArrayBuffer that was made as one (`new ArrayBuffer`): V8 may move others
 * @returns false when part of the range is not in the file any more @throws UsageError, ClosedError, SyscallError (EPERM: a filter forbids the call)
 */
export function readGuarded(memory: MappedMemory, offset: number, into: Uint8Array<ArrayBuffer>): boolean {
  return copy(memory, offset, into, false);
}

/** Copies `from` into a mapping, as `readGuarded`. @returns false when part of the range is not in the file any more */
export function writeGuarded(memory: MappedMemory, offset: number, from: Uint8Array<ArrayBuffer>): boolean {
  return copy(memory, offset, from, true);
}

function copy(memory: MappedMemory, offset: number, bytes: Uint8Array<ArrayBuffer>, write: boolean): boolean {
  const total = bytes.byteLength;
  if (!Number.isSafeInteger(offset) || offset < 0 || offset + total > memory.sizeBytes) {
    throw new UsageError(`${memory.target}: [${offset}, +${total}) is outside its ${memory.sizeBytes} bytes`);
  }
  const call = write ? libc.process_vm_writev : libc.process_vm_readv;
  pid ||= libc.getpid();
  const mapping = memory.address + BigInt(offset);
  for (let done = 0; done < total;) {
    const length = BigInt(Math.min(total - done, CALL_BYTES));
    here[0] = addressOf(bytes) + BigInt(done);
    there[0] = mapping + BigInt(done);
    here[1] = there[1] = length;
    const copied = call(pid, hereBytes, 1n, thereBytes, 1n, 0n);
    if (copied === 0 || copied === -errnoNumber.EFAULT!) return false;
    done += check(copied, write ? "process_vm_writev" : "process_vm_readv", memory.target);
  }
  return true;
}
