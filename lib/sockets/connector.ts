/**
 * Clients of a server that listens nowhere: it connects to whoever listens, one at a time, and again when that one is gone.
 *
 * @module
 */
import { isErrno, type OwnedFd, TimerFd, UnixSocket } from "../../ffi/mod.ts";
import { RingsideError, UsageError } from "../errors/mod.ts";
import type { ClientSource } from "./one_client_server.ts";

/** Between two tries. */
const RETRY_MS = 100;
/** For a place in the queue of who listens. */
const PLACE_MS = 1;

/** See the module's text. */
export class SocketConnector implements ClientSource {
  readonly path: string;
  readonly #timer: TimerFd;
  #last: UnixSocket | null = null;

  /** Does not try yet. @throws SyscallError */
  constructor(path: string) {
    this.path = path;
    this.#timer = new TimerFd(RETRY_MS);
  }

  /** Readable when it is time for a try. */
  get fd(): OwnedFd {
    return this.#timer.fd;
  }

  /** Tries, unless the one before is still in use. @returns undefined: nobody listens @throws UsageError for what is no path */
  accept(): UnixSocket | undefined {
    if (!this.#timer.take() || this.#last?.fd.closed === false) return undefined;
    try {
      return this.#last = UnixSocket.connect(this.path, PLACE_MS);
    } catch (error) {
      if (!(error instanceof RingsideError) || error instanceof UsageError) throw error;
      if (isErrno(error, "EMFILE", "ENFILE")) throw error;
      // Nobody, or nobody yet who may be talked to: a file of that name can come at any time.
      return undefined;
    }
  }

  /** Tries no more; who was connected to stays. */
  close(): void {
    this.#timer.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}
