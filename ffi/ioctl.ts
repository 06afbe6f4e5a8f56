/**
 * ioctl by named request.
 *
 * @module
 */
import type { OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { check } from "./syscall_error.ts";

/** A request: its number and the name that errors show. */
export interface IoctlRequest {
  /** Address of the function, for messages. */
  readonly name: string;
  /** The request as the kernel takes it. */
  readonly number: bigint;
}

/** Issues a request whose argument is a value. @returns the call's result. @throws SyscallError */
export function ioctlValue(fd: OwnedFd, request: IoctlRequest, value: bigint = 0n): number {
  return check(libc.ioctlValue(fd.number, request.number, value), `ioctl ${request.name}`, fd.target);
}

/** Issues a request whose argument is a structure, which the kernel may write to. @throws SyscallError */
export function ioctlBuffer(fd: OwnedFd, request: IoctlRequest, argument: Uint8Array<ArrayBuffer>): number {
  return check(libc.ioctlBuffer(fd.number, request.number, argument), `ioctl ${request.name}`, fd.target);
}

/**
 * Address of a buffer, for structures that point to another one. Keep the buffer referenced until the call is over,
 * and never give it to a device: it is JavaScript heap.
 */
export function addressOf(bytes: Uint8Array<ArrayBuffer> | BigUint64Array<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
}
