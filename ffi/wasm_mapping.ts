/**
 * A file's pages in place of pages of a `WebAssembly.Memory`, so that WebAssembly reads and writes what another process does. For a benchmark.
 *
 * It is sound while the memory cannot grow (that detaches its views), and the pages are taken out before it is dropped (V8 then unmaps all that it had
 * reserved, whoever has mapped something there).
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import type { OwnedFd } from "./fd.ts";
import { libc } from "./libc.ts";
import { pageSizeBytes } from "./memory.ts";
import { SyscallError } from "./syscall_error.ts";

const PROT_READ_WRITE = 3;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;

/**
 * Puts the first `sizeBytes` of a file there, shared, until it is disposed of: then there are pages of zeroes. It holds the memory until then.
 * @param offset in the memory, which is as large as it can be; multiples of the page size, both
 * @throws UsageError when that is no range of it, SyscallError
 */
export function mapIntoWasm(
  memory: WebAssembly.Memory,
  offset: number,
  fd: OwnedFd,
  sizeBytes: number,
): Disposable {
  const bytes = new Uint8Array(memory.buffer);
  if (
    !(offset >= 0 && sizeBytes > 0 && offset % pageSizeBytes === 0 && sizeBytes % pageSizeBytes === 0 &&
      offset + sizeBytes <= bytes.length)
  ) {
    throw new UsageError(
      `[${offset}, +${sizeBytes}) is no range of pages of a memory of ${bytes.length} bytes`,
    );
  }
  const start = Deno.UnsafePointer.value(Deno.UnsafePointer.of(bytes));
  const at = Deno.UnsafePointer.create(start + BigInt(offset))!;
  const put = (flags: number, file: number): void => {
    const result = libc.mmap(BigInt(sizeBytes), PROT_READ_WRITE, flags | MAP_FIXED, file, 0n, at);
    if (typeof result === "number") throw new SyscallError("mmap", fd.target, -result);
  };
  put(MAP_SHARED, fd.number);
  return {
    [Symbol.dispose]() {
      // The bytes hold the memory.
      if (bytes.length > 0) put(MAP_PRIVATE | MAP_ANONYMOUS, -1);
    },
  };
}
