/**
 * The C library: the one native thing that this project calls.
 *
 * `ioctl`, `open` and `fcntl` are variadic in C. On Linux x86-64 and AArch64 their fixed-signature aliases below pass
 * arguments in the same registers, so one alias an argument kind is enough. `u64`/`usize` arguments always get a `bigint`:
 * a `number` takes Deno's slow path.
 *
 * A call that fails returns `-errno` instead of -1. Asking for errno by a second call would be too late: V8 takes locks on this thread in
 * between (background compilation, collection), and a lock that had to wait leaves EAGAIN behind. So results are `i32`: a 64-bit one becomes
 * a BigInt first, and making that is enough to lose errno. The kernel moves 0x7fff_f000 bytes a call at most (read(2)), `callLength` no more.
 *
 * @module
 */

const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

const declared = {
  __errno_location: { parameters: [], result: "pointer" },
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  write: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  pread64: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  pwrite64: { parameters: ["i32", "buffer", "usize", "i64"], result: "i32" },
  ftruncate64: { parameters: ["i32", "i64"], result: "i32" },
  statx: { parameters: ["i32", "buffer", "i32", "u32", "buffer"], result: "i32" },
  lseek64: { parameters: ["i32", "i64", "i32"], result: "i64" },
  fsync: { parameters: ["i32"], result: "i32" },
  fdatasync: { parameters: ["i32"], result: "i32" },
  fallocate64: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  flock: { parameters: ["i32", "i32"], result: "i32" },
  readlink: { parameters: ["buffer", "buffer", "usize"], result: "i32" },
  getdents64: { parameters: ["i32", "buffer", "usize"], result: "i32" },
  fchmod: { parameters: ["i32", "u32"], result: "i32" },
  access: { parameters: ["buffer", "i32"], result: "i32" },
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  rmdir: { parameters: ["buffer"], result: "i32" },
  unlink: { parameters: ["buffer"], result: "i32" },
  rename: { parameters: ["buffer", "buffer"], result: "i32" },
  ioctlValue: { name: "ioctl", parameters: ["i32", "u64", "u64"], result: "i32" },
  ioctlBuffer: { name: "ioctl", parameters: ["i32", "u64", "buffer"], result: "i32" },
  fcntlValue: { name: "fcntl", parameters: ["i32", "i32", "i64"], result: "i32" },
  mmap: { parameters: ["pointer", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
  munmap: { parameters: ["pointer", "usize"], result: "i32" },
  mlock: { parameters: ["pointer", "usize"], result: "i32" },
  process_vm_readv: { parameters: ["i32", "buffer", "u64", "buffer", "u64", "u64"], result: "i32" },
  process_vm_writev: { parameters: ["i32", "buffer", "u64", "buffer", "u64", "u64"], result: "i32" },
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  eventfd: { parameters: ["u32", "i32"], result: "i32" },
  epoll_create1: { parameters: ["i32"], result: "i32" },
  epoll_ctl: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  epoll_wait: { parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  epoll_wait_async: {
    name: "epoll_wait",
    parameters: ["i32", "buffer", "i32", "i32"],
    result: "i32",
    nonblocking: true,
  },
  poll: { parameters: ["buffer", "u64", "i32"], result: "i32" },
  timerfd_create: { parameters: ["i32", "i32"], result: "i32" },
  timerfd_settime: { parameters: ["i32", "i32", "buffer", "pointer"], result: "i32" },
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  listen: { parameters: ["i32", "i32"], result: "i32" },
  accept4: { parameters: ["i32", "pointer", "pointer", "i32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  recvmsg: { parameters: ["i32", "buffer", "i32"], result: "i32" },
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  sched_yield: { parameters: [], result: "i32" },
  nanosleep: { parameters: ["buffer", "pointer"], result: "i32" },
  geteuid: { parameters: [], result: "u32" },
  getpid: { parameters: [], result: "i32" },
  kill: { parameters: ["i32", "i32"], result: "i32" },
  getrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
  sysconf: { parameters: ["i32"], result: "i32" },
  strerror: { parameters: ["i32"], result: "pointer" },
  uname: { parameters: ["buffer"], result: "i32" },
  tcgetattr: { parameters: ["i32", "buffer"], result: "i32" },
  tcsetattr: { parameters: ["i32", "i32", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

type Declared = typeof declared;
type Name = keyof Declared;
/** A call as Deno makes it of its declaration. */
type Call<N extends Name> = Deno.StaticForeignLibraryInterface<Pick<Declared, N>>[N];

/**
 * Binds one symbol. It takes a third of a millisecond, most of it for code that Deno makes for the call, so each is bound when it is first called.
 * The library is closed again, which takes nothing away: the call keeps its code and its address, and no process lets go of its C library.
 */
function bind<N extends Name>(name: N): Call<N> {
  const library = Deno.dlopen("libc.so.6", { [name]: declared[name] });
  library.close();
  return library.symbols[name] as Call<N>;
}

// A call on another thread asks for its library by number each time, so this one stays open.
const { epoll_wait_async, __errno_location } = Deno.dlopen("libc.so.6", {
  epoll_wait_async: declared.epoll_wait_async,
  __errno_location: declared.__errno_location,
}).symbols;

// errno has one address for the life of a thread, and an isolate one thread: this module is loaded once in each.
const errno = new Int32Array(
  Deno.UnsafePointerView.getArrayBuffer(__errno_location()!, Int32Array.BYTES_PER_ELEMENT),
);
const EIO = 5, EAGAIN = 11;
/**
 * A call whose result is an object is made again, so often at most, when it failed with EAGAIN: making the object may have left that (see above), and a
 * failure of these calls changes nothing.
 */
const TRIES = 3;

/**
 * A symbol that returns `-errno` where it returned -1. The text is compiled anew for each symbol, so that the call in it has one target only:
 * V8 then inlines it, down to Deno's fast call. A failure that left no errno is still a failure: EIO.
 */
function failingWithErrno(name: Numbered): (...args: never[]) => number {
  const parameters = declared[name].parameters.map((_, i) => `p${i}`).join();
  return new Function(
    "call",
    "errno",
    `return (${parameters}) => {
      const result = call(${parameters});
      return result < 0 ? -errno[0] || ${-EIO} : result;
    }`,
  )(bind(name), errno);
}

/** Symbols with an `i32` result, waited for in this thread. */
type Numbered = {
  [N in Name]: Declared[N] extends { nonblocking: true } ? never
    : Declared[N]["result"] extends "i32" ? N
    : never;
}[Name];

const numbered = {} as Pick<Deno.StaticForeignLibraryInterface<Declared>, Numbered>;
for (const [key, { result, ...rest }] of Object.entries(declared)) {
  if (result !== "i32" || "nonblocking" in rest) continue;
  const name = key as Numbered;
  let bound: ((...args: never[]) => number) | undefined;
  const unbound = (...args: never[]): number => {
    const calls = libc as Record<Numbered, (...args: never[]) => number>;
    bound ??= failingWithErrno(name);
    // Somebody may have put another call in its place, which comes here in the end.
    if (calls[name] === unbound) calls[name] = bound;
    return bound(...args);
  };
  Object.assign(numbered, { [name]: unbound });
}

let geteuid: Call<"geteuid"> | undefined;
let strerror: Call<"strerror"> | undefined;
let mmap: Call<"mmap"> | undefined;
let lseek64: Call<"lseek64"> | undefined;

/** The C library's calls; each returns `-errno` when it fails. Only files of `ffi/` use them. */
export const libc = {
  ...numbered,
  /** Fails never. */
  geteuid: (): number => (geteuid ??= bind("geteuid"))(),
  /** The work is done by another thread, whose errno is lost: for waiting only, -1 says that it ended early. */
  epoll_wait_async,
  /** What it says of an error number, in English: nobody here sets a locale. */
  strerror: (number: number): string =>
    Deno.UnsafePointerView.getCString((strerror ??= bind("strerror"))(number)!),
  /** A mapping's address. @param at where it is to be, with MAP_FIXED */
  mmap(
    sizeBytes: bigint,
    protection: number,
    flags: number,
    fd: number,
    offset: bigint,
    at: Deno.PointerObject | null = null,
  ): Deno.PointerObject | number {
    for (let tries = 1;; tries++) {
      const address = (mmap ??= bind("mmap"))(at, sizeBytes, protection, flags, fd, offset);
      const number = errno[0]!;
      if (address !== null && Deno.UnsafePointer.value(address) !== MAP_FAILED) return address;
      if (number !== EAGAIN || tries === TRIES) return -number || -EIO;
    }
  },
  /** A file's size or position. */
  lseek64(fd: number, offset: bigint, whence: number): number {
    for (let tries = 1;; tries++) {
      const position = (lseek64 ??= bind("lseek64"))(fd, offset, whence);
      const number = errno[0]!;
      if (position >= 0) return Number(position);
      if (number !== EAGAIN || tries === TRIES) return -number || -EIO;
    }
  },
};

/** Length of a buffer as a call takes it, capped at what fits its result. Callers take short reads and writes as they come. */
export function callLength(bytes: Uint8Array): bigint {
  return BigInt(Math.min(bytes.byteLength, 0x7fff_f000));
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A path or name as a NUL-terminated C string. */
export function cString(text: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(`${text}\0`) as Uint8Array<ArrayBuffer>;
}

/** Text of a byte range, up to the first NUL. */
export function fromCString(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return decoder.decode(end < 0 ? bytes : bytes.subarray(0, end));
}
