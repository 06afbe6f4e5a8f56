import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  createMemfd,
  Epoll,
  errnoNumber,
  EventFd,
  FileLock,
  isErrno,
  makeDirectory,
  MappedMemory,
  openFdCount,
  pageSizeBytes,
  processExists,
  processId,
  readDirectory,
  readFile,
  readLink,
  readText,
  removeDirectory,
  removeFile,
  replaceFile,
  resourceLimit,
  RLIMIT,
  setSoftLimit,
  SyscallError,
  UnixListener,
  UnixSocket,
} from "../../../ffi/mod.ts";
import { libc } from "../../../ffi/libc.ts";
import { ClosedError, PeerGoneError, TimeoutError, UsageError } from "../../../lib/errors/mod.ts";

function taken(lock: FileLock | { heldBy: string }): FileLock {
  if (lock instanceof FileLock) return lock;
  throw new Error(`held by ${lock.heldBy}`);
}

const scratch = () => `/tmp/ringside-ffi-${crypto.randomUUID()}`;

Deno.test("eventfd counts signals and is emptied by take", () => {
  using event = new EventFd();
  assertEquals(event.take(), 0);
  event.signal();
  event.signal();
  assertEquals(event.take(), 2);
  assertEquals(event.take(), 0);
  event.close();
  assertThrows(() => event.signal(), ClosedError);
});

Deno.test("an epoll set of which a part cannot be had leaves no descriptor behind", () => {
  const { eventfd, epoll_ctl } = libc;
  const before = openFdCount();
  try {
    libc.eventfd = () => -errnoNumber.EMFILE!;
    assertThrows(() => new Epoll(), SyscallError, "EMFILE");
    libc.eventfd = eventfd;
    libc.epoll_ctl = () => -errnoNumber.ENOSPC!;
    assertThrows(() => new Epoll(), SyscallError, "ENOSPC");
  } finally {
    Object.assign(libc, { eventfd, epoll_ctl });
  }
  assertEquals(openFdCount(), before);
});

Deno.test("descriptors travel over a socket and stay what they are", () => {
  const before = openFdCount();
  {
    const [near, far] = UnixSocket.pair();
    using file = createMemfd("shared", pageSizeBytes);
    using event = new EventFd();
    using mine = MappedMemory.map(file, pageSizeBytes);
    near.send(new Uint8Array([1, 2, 3]), [file, event.fd]);
    const got = far.receive(new Uint8Array(16))!;
    assertEquals([got.length, got.fds.length], [3, 2]);
    using theirs = MappedMemory.map(got.fds[0]!, pageSizeBytes);
    using theirEvent = new EventFd(got.fds[1]);
    theirs.bytes()[7] = 42;
    theirEvent.signal();
    assertEquals(mine.bytes()[7], 42);
    assertEquals(event.take(), 1);
    got.fds[0]!.close();
    near.close();
    assertEquals(far.receive(new Uint8Array(4))!.length, 0);
    assertThrows(() => far.send(new Uint8Array(4)), PeerGoneError);
    far.close();
  }
  assertEquals(openFdCount(), before);
});

Deno.test("253 descriptors fit a message, 254 are refused before the kernel sees them", () => {
  const [near, far] = UnixSocket.pair();
  using event = new EventFd();
  near.send(new Uint8Array(1), new Array(253).fill(event.fd));
  const got = far.receive(new Uint8Array(1))!;
  assertEquals(got.fds.length, 253);
  got.fds.forEach((fd) => fd.close());
  assertThrows(() => near.send(new Uint8Array(1), new Array(254).fill(event.fd)), UsageError);
  near.close();
  far.close();
});

Deno.test("a silent peer is a TimeoutError; without waiting, nothing is undefined", () => {
  const [near, far] = UnixSocket.pair();
  near.setTimeoutMs(20);
  assertThrows(() => near.receive(new Uint8Array(4)), TimeoutError);
  assertEquals(near.receive(new Uint8Array(4), { wait: false }), undefined);
  near.close();
  far.close();
});

Deno.test("a stale socket file is replaced, a served one is not", () => {
  const path = scratch();
  const first = UnixListener.listen(path);
  assertThrows(() => UnixListener.listen(path), Error, "EADDRINUSE");
  using _client = UnixSocket.connect(path);
  using server = first.accept();
  assert(server !== undefined);
  // As after kill -9: the descriptor is gone, the file is still there.
  first.fd.close();
  using second = UnixListener.listen(path);
  assertEquals(second.accept(), undefined);
  second.close();
  assertThrows(() => UnixSocket.connect(path), Error, "ENOENT");
  assertThrows(() => UnixListener.listen(`/tmp/${"x".repeat(108)}`), UsageError, "107 bytes");
});

Deno.test("epoll reports who is ready, blocking and not, and close ends a wait under way", async () => {
  const before = openFdCount();
  const [one, two, epoll] = [new EventFd(), new EventFd(), new Epoll()];
  epoll.add(one.fd, 1);
  epoll.add(two.fd, 2);
  assertEquals(epoll.waitBlocking(0), 0);
  two.signal();
  assertEquals([epoll.waitBlocking(-1), epoll.tags[0]], [1, 2]);
  two.take();
  setTimeout(() => one.signal(), 5);
  assertEquals([await epoll.wait(5000), epoll.tags[0]], [1, 1]);
  one.take();
  epoll.remove(one.fd);
  one.signal();
  assertEquals(epoll.waitBlocking(0), 0);
  epoll.wake();
  assertEquals(epoll.waitBlocking(-1), 0);
  const waiting = epoll.wait(-1);
  epoll.close();
  await assertRejects(() => waiting, ClosedError);
  await epoll.settled;
  one.close();
  two.close();
  assertEquals(openFdCount(), before);
});

Deno.test("a lock has one holder and tells who it is", () => {
  const path = scratch();
  const first = taken(FileLock.tryAcquire(path, "pid 1 first"));
  assertEquals(FileLock.tryAcquire(path, "second"), { heldBy: "pid 1 first" });
  first.release();
  first.release();
  taken(FileLock.tryAcquire(path, "third"))[Symbol.dispose]();
  removeFile(path);
});

Deno.test("files: whole reads, replacement, directories, links", () => {
  const directory = scratch();
  makeDirectory(`${directory}/a/b`);
  makeDirectory(`${directory}/a/b`);
  const big = new Uint8Array(300_000).map((_, i) => i & 0xff);
  replaceFile(`${directory}/a/file`, big);
  assertEquals(readFile(`${directory}/a/file`), big);
  assertThrows(() => readFile(`${directory}/a/file`, 1000), UsageError, "larger than 1000");
  assertEquals(readDirectory(`${directory}/a`), [{ name: "b", type: 4 }, { name: "file", type: 8 }]);
  removeFile(`${directory}/a/file`);
  removeFile(`${directory}/a/file`);
  removeDirectory(`${directory}/a/b`);
  removeDirectory(`${directory}/a`);
  removeDirectory(directory);
  assert(readLink("/proc/self/exe").includes("deno"));
  assert(readText("/proc/self/status").includes("Name:"));
  assert(processExists(processId()));
  assertEquals(processExists(0x3fffffff), false);
  assert(isErrno(assertThrows(() => readDirectory("/nonexistent")), "ENOENT"));
});

Deno.test("without descriptors a client is turned away at once, one error each, and the next one is served when there are some again", () => {
  const path = scratch();
  const { soft } = resourceLimit(RLIMIT.openFiles);
  const before = openFdCount();
  {
    using listener = UnixListener.listen(path);
    using clients = new DisposableStack();
    const [first, second] = [1, 2].map(() => clients.use(UnixSocket.connect(path)));
    for (const client of [first!, second!]) client.setTimeoutMs(5000);
    const probe = new EventFd();
    const limit = probe.fd.number;
    probe.close();
    setSoftLimit(RLIMIT.openFiles, limit);
    try {
      for (const client of [first!, second!]) {
        assertEquals(assertThrows(() => listener.accept(), SyscallError).code, "EMFILE");
        assertEquals(client.receive(new Uint8Array(8))!.length, 0, "the end, not a wait");
      }
      assertEquals(listener.accept(), undefined, "nobody is left in the queue");
    } finally {
      setSoftLimit(RLIMIT.openFiles, soft);
    }
    const third = clients.use(UnixSocket.connect(path));
    using accepted = listener.accept()!;
    third.send(Uint8Array.of(7));
    const into = new Uint8Array(8);
    assertEquals([accepted.receive(into)!.length, into[0]], [1, 7]);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("an epoll set whose descriptor somebody else has closed lets go of its other one", async () => {
  const before = openFdCount();
  const set = new Epoll();
  set.fd.close();
  set.close();
  assertEquals(openFdCount(), before);
  const waiting = new Epoll();
  const wait = waiting.wait(60_000);
  waiting.fd.close();
  waiting.close();
  await assertRejects(() => wait, ClosedError);
  await waiting.settled;
  assertEquals(openFdCount(), before);
});
