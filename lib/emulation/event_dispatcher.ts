/**
 * Descriptors and what to do when one of them is ready.
 *
 * @module
 */
import { EPOLL, Epoll, type OwnedFd } from "../../ffi/mod.ts";

/** An epoll set whose entries carry their handlers. */
export class EventDispatcher implements Disposable {
  readonly #epoll = new Epoll();
  readonly #handlers = new Map<number, () => void>();
  readonly #tags = new Map<OwnedFd, number>();
  #nextTag = 1;

  /** How many descriptors are watched. */
  get size(): number {
    return this.#tags.size;
  }

  /** Calls `handler` whenever `fd` is readable or its other end is gone. Level-triggered. @throws SyscallError */
  watch(fd: OwnedFd, handler: () => void): void {
    const tag = this.#nextTag++;
    this.#epoll.add(fd, tag);
    this.#handlers.set(tag, handler);
    this.#tags.set(fd, tag);
  }

  /** From now on `handler` is called when `fd`, which is watched, is writable instead of readable; or the other way round. @throws SyscallError */
  watchWriting(fd: OwnedFd, writing: boolean): void {
    const tag = this.#tags.get(fd);
    if (tag !== undefined) this.#epoll.modify(fd, tag, writing ? EPOLL.out : EPOLL.in);
  }

  /**
   * Stops watching; one that is not watched is fine. To be called before the descriptor is closed: a peer may hold the same open file, and
   * then the kernel would go on reporting it.
   */
  unwatch(fd: OwnedFd): void {
    const tag = this.#tags.get(fd);
    if (tag === undefined) return;
    this.#tags.delete(fd);
    this.#handlers.delete(tag);
    if (!fd.closed) this.#epoll.remove(fd);
  }

  /** Blocks this thread for at most `timeoutMs` (0: not at all), then runs the handlers. @returns how many ran */
  dispatchBlocking(timeoutMs: number): number {
    return this.#run(this.#epoll.waitBlocking(timeoutMs));
  }

  /** As `dispatchBlocking`, while this thread's event loop goes on. */
  async dispatch(timeoutMs: number): Promise<number> {
    return this.#run(await this.#epoll.wait(timeoutMs));
  }

  /** Ends a wait that is under way. */
  wake(): void {
    this.#epoll.wake();
  }

  #run(count: number): number {
    // Handlers may watch and unwatch, so the tags are read one by one and may have no handler any more.
    for (let i = 0; i < count; i++) this.#handlers.get(this.#epoll.tags[i]!)?.();
    return count;
  }

  /** Closes the set, not the descriptors. Await `settled` when a wait may be under way. */
  close(): void {
    this.#handlers.clear();
    this.#tags.clear();
    this.#epoll.close();
  }

  /** Resolves when a wait that `close` interrupted is over. */
  get settled(): Promise<void> {
    return this.#epoll.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
