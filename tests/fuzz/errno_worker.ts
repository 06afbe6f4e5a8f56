/** Makes calls that fail, each with one error number, while V8 compiles in the background; counts those that report another. */
import { errnoNumber } from "../../ffi/mod.ts";
import { libc } from "../../ffi/libc.ts";
import { checkUnless } from "../../ffi/syscall_error.ts";

const { EBADF, ENOENT, EINVAL } = errnoNumber as Record<string, number>;
const bytes = new Uint8Array(64);
const nowhere = new TextEncoder().encode("/nonexistent/file\0") as Uint8Array<ArrayBuffer>;

const failing: (() => number)[] = [
  () => checkUnless(libc.read(-1, bytes, 8n), EBADF!, "read", ""),
  () => checkUnless(libc.write(-1, bytes, 8n), EBADF!, "write", ""),
  () => checkUnless(libc.pread64(-1, bytes, 8n, 0n), EBADF!, "pread64", ""),
  () => checkUnless(libc.close(-1), EBADF!, "close", ""),
  () => checkUnless(libc.sendmsg(-1, bytes, 0), EBADF!, "sendmsg", ""),
  () => checkUnless(libc.recvmsg(-1, bytes, 0), EBADF!, "recvmsg", ""),
  () => checkUnless(libc.ioctlValue(-1, 1n, 0n), EBADF!, "ioctl", ""),
  () => checkUnless(libc.readlink(nowhere, bytes, 64n), ENOENT!, "readlink", ""),
  () => checkUnless(libc.open(nowhere, 0, 0), ENOENT!, "open", ""),
  () => checkUnless(libc.lseek64(-1, 0n, 2), EBADF!, "lseek64", ""),
  () => {
    const address = libc.mmap(0n, 0, 0, -1, 0n);
    return typeof address === "number" ? checkUnless(address, EBADF!, "mmap", "") : 0;
  },
  () => checkUnless(libc.sysconf(-1), EINVAL!, "sysconf", ""),
];

// Code that V8 has not seen, hot at once: what makes it compile on other threads while this one calls.
let made = 0;
function somethingToCompile(): void {
  const f = new Function(
    "n",
    `let list = [${made++}]; for (let i = 0; i < n; i++) list = [i, { i, list: list.length }, "" + i]; return list;`,
  );
  for (let i = 0; i < 40; i++) f(100);
}

const rounds = Number(new URL(import.meta.url).searchParams.get("rounds"));
const wrong: Record<string, number> = {};
let calls = 0;
for (let round = 0; round < rounds; round++) {
  somethingToCompile();
  for (const call of failing) {
    for (let i = 0; i < 300; i++, calls++) {
      try {
        if (call() >= 0) throw new Error("a call that cannot succeed did");
      } catch (error) {
        const what = (error as Error).message;
        wrong[what] = (wrong[what] ?? 0) + 1;
      }
    }
  }
}
(self as unknown as Worker).postMessage({ calls, wrong });
