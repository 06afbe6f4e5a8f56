/**
 * What keeps whoever waits for a function, or polls it, in touch with the process that serves it.
 *
 * @module
 */
import type { OwnedFd } from "../../ffi/mod.ts";

/** How whoever waits for a function, or polls it, keeps up with the process that serves it, and learns that nothing will come any more. */
export interface Lifeline {
  /**
   * One of them is readable when that process asks for something, or is gone: then call `answer`. The device's. Each is watched by itself: Linux lets only
   * 500 sets of descriptors watch one set, and a function may have more users.
   */
  readonly fds: readonly OwnedFd[];
  /** Does what the process asks (it reads and writes DMA memory by message), without waiting. When it is gone, the connection ends with this. */
  answer(): void;
  /** As `answer`, for polling: throws `reason` when nothing comes any more. */
  check(): void;
  /** It has ended, as far as is known without asking. Absent: not known. */
  readonly ended?: boolean;
  /** Why nothing comes any more, as later calls throw it; before the connection has ended, that the other end is gone. */
  reason(): Error;
  /** Calls `handler` once when the connection ends: by the peer, by a failure, or by `close`. @returns forgets it */
  onEnd(handler: () => void): () => void;
  /** Of a function that can become another one: calls `handler` before each move, and what that returns after it. @returns forgets it */
  onMove?(handler: () => () => void): () => void;
}
