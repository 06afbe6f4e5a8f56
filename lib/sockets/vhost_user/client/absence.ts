/**
 * A back end that is lost, and the looks whether there is one again.
 *
 * A look waits for nobody. Who listens may be silent: a process that is stopped, or busy with another front end. So a look knocks (it connects, and asks
 * for the features), and a later one goes on with the back end that has answered.
 *
 * @module
 */
import {
  isErrno,
  type OwnedFd,
  sleepBlocking,
  TimerFd,
  type UnixListener,
  type UnixSocket,
} from "../../../../ffi/mod.ts";
import { PeerGoneError, TimeoutError } from "../../../errors/mod.ts";
import { REQUEST } from "../protocol.ts";
import { FrontEndChannel } from "./channel.ts";

/** Between two looks. */
export const RETRY_MS = 10;
/** For a place in the queue of who listens. */
const PLACE_MS = 1;
/** Between two looks whether somebody connects. */
const ACCEPT_MS = 1;

/** How to connect. @param timeoutMs for a place in the queue of who listens */
export type Connect = (timeoutMs: number) => UnixSocket;

/** A back end that has said its features. */
export interface Greeted {
  /** To it; nothing was agreed on. */
  readonly channel: FrontEndChannel;
  /** All of GET_FEATURES. */
  readonly features: bigint;
}

/** How long what may take, in milliseconds. */
export interface Patience {
  /** A request. */
  readonly timeoutMs: number;
  /** The return of a lost back end. */
  readonly reconnectMs: number;
}

/** Connects, and asks for the features, whose answer is still to come. @throws as `connect`, and as `FrontEndChannel.post` */
export function knock(
  connect: Connect,
  name: string,
  timeoutMs: number,
  placeMs: number = timeoutMs,
): FrontEndChannel {
  const socket = connect(placeMs);
  const channel = new FrontEndChannel(socket, name, timeoutMs);
  try {
    socket.setTimeoutMs(timeoutMs);
    channel.tell(REQUEST.setOwner, new Uint8Array(0));
    channel.post(REQUEST.getFeatures);
    return channel;
  } catch (error) {
    channel.close();
    throw error;
  }
}

/** Takes the next who connects. @throws TimeoutError when nobody does, SyscallError */
export function acceptWithin(listener: UnixListener, timeoutMs: number): UnixSocket {
  const until = performance.now() + timeoutMs;
  for (;;) {
    const socket = listener.accept();
    if (socket !== undefined) return socket;
    if (performance.now() >= until) {
      throw new TimeoutError(`${listener.path}: no back end connected within ${timeoutMs} ms`, {
        hint: "is one started that connects to this socket?",
      });
    }
    sleepBlocking(ACCEPT_MS);
  }
}

/** See the module's text. */
export class Absence implements Disposable {
  readonly #connect: Connect;
  readonly #name: string;
  readonly #patience: Patience;
  readonly #why: Error;
  readonly #until: number;
  readonly #timer: TimerFd = new TimerFd(RETRY_MS);
  /** Where nobody has answered yet, and since when. */
  #door: { readonly channel: FrontEndChannel; readonly since: number } | null = null;
  /** What came of the last look. */
  #last: unknown;

  /** @param why the back end counts as lost */
  constructor(connect: Connect, name: string, patience: Patience, why: Error) {
    this.#connect = connect;
    this.#name = name;
    this.#patience = patience;
    this.#why = why;
    this.#until = performance.now() + patience.reconnectMs;
  }

  /** Readable when it is time for a look. */
  get fd(): OwnedFd {
    return this.#timer.fd;
  }

  /** Whether it is time for a look; asked once for each. */
  due(): boolean {
    return this.#timer.take();
  }

  /** One look. @returns a back end that has answered, whose channel is the caller's @throws what is no absence: another protocol, no permission */
  look(): Greeted | undefined {
    try {
      const { timeoutMs } = this.#patience;
      this.#door ??= {
        channel: knock(this.#connect, this.#name, timeoutMs, PLACE_MS),
        since: performance.now(),
      };
      const { channel, since } = this.#door;
      const features = channel.heard(REQUEST.getFeatures);
      if (features !== undefined) {
        this.#door = null;
        return { channel, features };
      }
      // Another one may listen there by now.
      if (performance.now() - since > timeoutMs) {
        throw new TimeoutError(`${this.#name}: somebody listens, and says nothing for ${timeoutMs} ms`);
      }
    } catch (error) {
      this.failed(error);
    }
    return undefined;
  }

  /** A look came to this, or what was begun with a back end that had answered. @throws it, when it is no absence */
  failed(error: unknown): void {
    this.#leave();
    if (!isAbsence(error)) throw error;
    this.#last = error;
  }

  /** Why it is waited for no longer; undefined: it still is. */
  get over(): PeerGoneError | undefined {
    if (performance.now() < this.#until) return undefined;
    const { reconnectMs } = this.#patience;
    const silent = this.#door === null ? "" : "; somebody listens, and says nothing";
    return new PeerGoneError(`${this.#why.message}, and was not back within ${reconnectMs} ms${silent}`, {
      hint: "start the back end, and open the device again",
      cause: this.#last ?? this.#why,
    });
  }

  #leave(): void {
    this.#door?.channel.close();
    this.#door = null;
  }

  /** Looks no more. */
  [Symbol.dispose](): void {
    this.#leave();
    this.#timer.close();
  }
}

/** Nobody listens, or who listened is gone again, or does not answer yet. */
function isAbsence(error: unknown): boolean {
  return error instanceof PeerGoneError || error instanceof TimeoutError ||
    isErrno(error, "ENOENT", "ECONNREFUSED", "ECONNRESET", "EPIPE");
}
