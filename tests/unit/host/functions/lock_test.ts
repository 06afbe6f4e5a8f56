import { assert, assertEquals, assertThrows } from "@std/assert";
import { FileLock, openFdCount, processId, readText, replaceFile } from "../../../../ffi/mod.ts";
import { RefusedError } from "../../../../lib/errors/mod.ts";
import { FunctionLocks } from "../../../../lib/host/functions/lock.ts";
import { TemporaryDirectory } from "../temporary.ts";

const F = "0000:01:00.0";
const bytes = (text: string) => new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>;

Deno.test("lock: names its holder until it is let go", () => {
  using directory = new TemporaryDirectory();
  const locks = new FunctionLocks(`${directory.path}/locks`);
  assertEquals(locks.holder(F), undefined);
  const lock = locks.acquire(F);
  const holder = locks.holder(F);
  assert(holder?.startsWith(`pid ${processId()} `), holder);
  const error = assertThrows(() => locks.acquire(F), RefusedError, `${F} is in use by pid ${processId()}`);
  assert(error.hint.includes("close the opened device"));
  assertEquals(readText(lock.path), holder);
  lock.release();
  assertEquals(locks.holder(F), undefined);
  locks.acquire(F).release();
});

Deno.test("lock: a holder's VF tokens are hidden, however they are written and wherever its line is cut", () => {
  const token = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
  const lines: [string, string][] = [
    [`ringside net loop ${F} --vf-token ${token}`, `ringside net loop ${F} --vf-token …`],
    [`ringside --vf-token=${token.toUpperCase()} --json`, "ringside --vf-token=… --json"],
    ["ringside show --vf-token secret --json", "ringside show --vf-token … --json"],
    ["ringside show --vf-token --json", "ringside show --vf-token --json"],
    [
      `script.ts {"vfToken":"${token}"} vfio-user:/run/${token}`,
      'script.ts {"vfToken":"…"} vfio-user:/run/…',
    ],
    [`${"x".repeat(140)} ${token}`, `${"x".repeat(140)} …`],
  ];
  for (const [name, shown] of lines) {
    using directory = new TemporaryDirectory();
    const locks = new FunctionLocks(directory.path, [], name);
    using lock = locks.acquire(F);
    assertEquals([locks.holder(F), readText(lock.path)], Array(2).fill(`pid ${processId()} ${shown}`));
    assertThrows(() => locks.acquire(F), RefusedError, shown);
  }
});

Deno.test("lock: somebody else's is named, with another hint", () => {
  using directory = new TemporaryDirectory();
  const locks = new FunctionLocks(directory.path);
  const other = FileLock.tryAcquire(`${directory.path}/${F}.lock`, "pid 1 init");
  if (!(other instanceof FileLock)) throw new Error("the lock is taken");
  using _other = other;
  const error = assertThrows(() => locks.acquire(F), RefusedError, "in use by pid 1 init");
  assert(error.hint.includes("one process at a time"));
  assertEquals(locks.holder(F), "pid 1 init");
});

Deno.test("lock: the text of a process that was killed holds nothing", () => {
  using directory = new TemporaryDirectory();
  const locks = new FunctionLocks(directory.path);
  const path = `${directory.path}/${F}.lock`;
  // Above the largest id that Linux gives.
  replaceFile(path, bytes("pid 4194999 gone"));
  assertEquals(locks.holder(F), undefined);
  // The id lives, but has nothing to do with it.
  replaceFile(path, bytes("pid 1 init"));
  assertEquals(locks.holder(F), undefined);
  locks.acquire(F).release();
});

Deno.test("lock: all or none", () => {
  using directory = new TemporaryDirectory();
  const locks = new FunctionLocks(directory.path);
  const before = openFdCount();
  const one = locks.acquire("0000:01:00.2");
  assertThrows(() => locks.acquireAll(["0000:01:00.0", "0000:01:00.1", "0000:01:00.2"]), RefusedError);
  assertEquals(locks.holder("0000:01:00.0"), undefined);
  one.release();
  {
    using _all = locks.acquireAll(["0000:01:00.0", "0000:01:00.2"]);
    assert(locks.holder("0000:01:00.2") !== undefined);
  }
  assertEquals(locks.holder("0000:01:00.0"), undefined);
  assertEquals(openFdCount(), before);
});

Deno.test("lock: holders are looked up where root has its locks too", () => {
  using own = new TemporaryDirectory();
  using roots = new TemporaryDirectory();
  using _held = new FunctionLocks(roots.path).acquire(F);
  assertEquals(new FunctionLocks(own.path).holder(F), undefined);
  assert(new FunctionLocks(own.path, [roots.path]).holder(F)?.startsWith("pid "));
});

Deno.test("lock: a directory that is there but not ours to write into is a RefusedError with what to do", () => {
  // sysfs takes no new file from anybody, so this holds for root as well.
  assertThrows(
    () => new FunctionLocks("/sys/kernel").acquire(F),
    RefusedError,
    `${F} cannot be locked: this user may not write below /sys/kernel`,
  );
});
