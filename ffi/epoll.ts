/**
 * One epoll set: waits for many descriptors, blocking the thread or not.
 *
 * @module
 */
import { ClosedError } from "../lib/errors/mod.ts";
import { OwnedFd } from "./fd.ts";
import { errnoNumber } from "./errno.ts";
import { EventFd } from "./event_fd.ts";
import { libc } from "./libc.ts";
import { check, checkUnless } from "./syscall_error.ts";

const EPOLL_CLOEXEC = 0o2000000;
const CTL = { ADD: 1, DEL: 2, MOD: 3 } as const;
const MAX_EVENTS = 64;
// struct epoll_event is packed on x86-64 (12 bytes) and naturally aligned elsewhere (16).
const STRIDE = Deno.build.arch === "x86_64" ? 12 : 16;
const DATA = STRIDE - 8;

/** Readiness bits. */
export const EPOLL = { in: 1, out: 4, error: 8, hangUp: 16, readHangUp: 0x2000 } as const;

/** A set of watched descriptors, each with a 32-bit tag of the caller's choice. */
export class Epoll implements Disposable {
  readonly #fd: OwnedFd;
  readonly #wake: EventFd;
  readonly #events: Uint8Array<ArrayBuffer> = new Uint8Array(MAX_EVENTS * STRIDE);
  readonly #view: DataView = new DataView(this.#events.buffer);
  readonly #control: Uint8Array<ArrayBuffer> = new Uint8Array(STRIDE);
  readonly #controlView: DataView = new DataView(this.#control.buffer);
  #pending: Promise<number> | null = null;
  #closed = false;
  static readonly #WAKE_TAG = 0xffff_ffff;

  /** Tags of the last wait's ready descriptors; valid for the count that the wait returned. */
  readonly tags: Uint32Array = new Uint32Array(MAX_EVENTS);
  /** Readiness bits beside `tags`. */
  readonly readiness: Uint32Array = new Uint32Array(MAX_EVENTS);

  constructor() {
    using opened = new DisposableStack();
    const number = check(libc.epoll_create1(EPOLL_CLOEXEC), "epoll_create1", "");
    this.#fd = opened.use(new OwnedFd(number, "epoll"));
    this.#wake = opened.use(new EventFd());
    this.add(this.#wake.fd, Epoll.#WAKE_TAG);
    opened.move();
  }

  /** Readable while something is ready: another set may watch it. */
  get fd(): OwnedFd {
    return this.#fd;
  }

  /** Watches a descriptor; `tag` below 2^32 − 1. @throws SyscallError */
  add(fd: OwnedFd, tag: number, events: number = EPOLL.in): void {
    this.#set("ADD", fd, tag, events);
  }

  /** Changes what is watched for. @throws SyscallError */
  modify(fd: OwnedFd, tag: number, events: number): void {
    this.#set("MOD", fd, tag, events);
  }

  #set(what: "ADD" | "MOD", fd: OwnedFd, tag: number, events: number): void {
    this.#controlView.setUint32(0, events, true);
    this.#controlView.setUint32(DATA, tag, true);
    check(
      libc.epoll_ctl(this.#fd.number, CTL[what], fd.number, this.#control),
      `epoll_ctl ${what}`,
      fd.target,
    );
  }

  /** Stops watching; a descriptor that is not watched is fine. @throws SyscallError */
  remove(fd: OwnedFd): void {
    checkUnless(
      libc.epoll_ctl(this.#fd.number, CTL.DEL, fd.number, this.#control),
      errnoNumber.ENOENT!,
      "epoll_ctl DEL",
      fd.target,
    );
  }

  /**
   * Blocks this thread until something is ready or `timeoutMs` (−1: no limit) is over.
   * @returns how many entries of `tags` and `readiness` are valid.
   */
  waitBlocking(timeoutMs: number): number {
    if (this.#pending !== null) throw new ClosedError("epoll set with an asynchronous wait under way");
    const n = checkUnless(
      libc.epoll_wait(this.#fd.number, this.#events, MAX_EVENTS, timeoutMs),
      errnoNumber.EINTR!,
      "epoll_wait",
      "epoll",
    );
    return this.#collect(n);
  }

  /** As `waitBlocking`, on another thread: the event loop goes on. One wait at a time. */
  async wait(timeoutMs: number): Promise<number> {
    if (this.#pending !== null) throw new ClosedError("epoll set with an asynchronous wait under way");
    this.#pending = libc.epoll_wait_async(this.#fd.number, this.#events, MAX_EVENTS, timeoutMs);
    try {
      // The result is -1, whatever went wrong (errno of the other thread is lost): a failed wait counts as an early return and the caller looks again.
      const n = await this.#pending;
      if (this.#fd.closed) throw new ClosedError("epoll set");
      return this.#collect(n);
    } finally {
      this.#pending = null;
    }
  }

  /** Ends a wait that is under way, or the next one. */
  wake(): void {
    this.#wake.signal();
  }

  #collect(n: number): number {
    let count = 0;
    for (let i = 0; i < n; i++) {
      const tag = this.#view.getUint32(i * STRIDE + DATA, true);
      if (tag === Epoll.#WAKE_TAG) {
        this.#wake.take();
        continue;
      }
      this.tags[count] = tag;
      this.readiness[count] = this.#view.getUint32(i * STRIDE, true);
      count++;
    }
    return count;
  }

  /** Ends a wait under way and closes. Await `settled` before the process counts descriptors or ops. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // Whoever was given `fd` may have closed it; the other descriptor goes all the same.
    const fd = this.#fd.closed ? null : new OwnedFd(this.#fd.release(), "epoll");
    const letGo = (): void => {
      fd?.close();
      this.#wake.close();
    };
    if (this.#pending === null) return letGo();
    // The other thread still sits in epoll_wait on this descriptor: wake it first, close when it is out.
    this.#wake.signal();
    this.settled = this.#pending.then(letGo);
  }

  /** Resolves when a wait that `close` interrupted has returned. */
  settled: Promise<void> = Promise.resolve();

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
