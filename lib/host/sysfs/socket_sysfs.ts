/**
 * The sysfs tree of an emulated host, reached through its control socket.
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { ClosedError, PeerGoneError, ProtocolError, TimeoutError, UsageError } from "../../errors/mod.ts";
import { errnoNumber, SyscallError, UnixListener, UnixSocket } from "../../../ffi/mod.ts";
import { ControlFrame, ControlFrames, type ControlOperation, MAX_RESPONSE_BYTES } from "./control.ts";
import type { Sysfs } from "./sysfs.ts";

/** One write may make a thousand VFs. A host that is gone is known at once: its end of the connection is closed. */
const DEFAULT_TIMEOUT_MS = 30_000;
const HINT = "is this the control socket of an emulated host of the same version?";

/**
 * A client of `<directory>/host.sock`. Every call blocks this thread until the emulated host has answered.
 *
 * Errors: `SyscallError` with the errno that the emulated kernel gave; `TimeoutError`, `PeerGoneError`, `ProtocolError` when the host
 * does not answer, is gone, or talks nonsense, after which the connection is closed; `ClosedError` afterwards.
 */
export class SocketSysfs implements Sysfs {
  static {
    typedErrors(this);
  }

  readonly #socket: UnixSocket;
  readonly #path: string;
  readonly #timeoutMs: number;
  readonly #requests: ControlFrame;
  readonly #answers: ControlFrames;

  /**
   * Connects.
   * @param path path of the control socket
   * @param timeoutMs how long one answer may take; above 0
   * @throws SyscallError when nobody listens there, TimeoutError when nobody takes the connection, UsageError when it is this thread that would have to
   * answer
   */
  constructor(path: string, timeoutMs: number = DEFAULT_TIMEOUT_MS) {
    requireType(path, "string", "new SocketSysfs: path");
    requireType(timeoutMs, "number", "new SocketSysfs: timeoutMs");
    if (!(timeoutMs > 0)) throw new UsageError(`${path}: a timeout of ${timeoutMs} ms`);
    if (UnixListener.isServedHere(path)) {
      throw new UsageError(`${path} is served by this thread, which would wait for itself`, {
        hint: "serve the emulated host in another process, or in a Worker",
      });
    }
    this.#path = path;
    this.#timeoutMs = timeoutMs;
    this.#socket = UnixSocket.connect(path, timeoutMs);
    this.#requests = new ControlFrame(this.#socket);
    this.#answers = new ControlFrames(this.#socket, path, MAX_RESPONSE_BYTES);
  }

  /** Text of an attribute, without trailing white space. */
  readText(path: string): string {
    return this.#text(this.#call("read", path)).trimEnd();
  }

  /** Bytes of an attribute. */
  readBytes(path: string): Uint8Array<ArrayBuffer> {
    const text = this.#text(this.#call("readBytes", path));
    let binary: string;
    try {
      binary = atob(text);
    } catch (cause) {
      throw this.#broken("bytes that are not base64", cause);
    }
    return Uint8Array.from(binary, (character) => character.charCodeAt(0));
  }

  /** One write. */
  writeText(path: string, text: string): void {
    this.#call("write", path, text);
  }

  /** Names in a directory, sorted. */
  list(path: string): string[] {
    const names = this.#call("list", path);
    if (!Array.isArray(names) || !names.every((name) => typeof name === "string")) {
      throw this.#broken("a directory that is not a list of names");
    }
    return names;
  }

  /** Target of a link. */
  readLink(path: string): string {
    return this.#text(this.#call("readlink", path));
  }

  /** Links of a directory with their targets. */
  links(path: string): Map<string, string> {
    const pairs = this.#call("links", path);
    if (!Array.isArray(pairs) || !pairs.every(isPair)) {
      throw this.#broken("links that are not pairs of name and target");
    }
    return new Map(pairs);
  }

  /** Whether the path leads somewhere. */
  exists(path: string): boolean {
    return this.#call("exists", path) === true;
  }

  /** Closes the connection; may be called again. */
  close(): void {
    this.#answers.close();
    this.#socket.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #text(value: unknown): string {
    if (typeof value !== "string") throw this.#broken("something that is not text");
    return value;
  }

  /** After a failure half-way an answer could be taken for that of the next request, so the connection is over. */
  #call(op: ControlOperation, path: string, text?: string): unknown {
    if (this.#socket.fd.closed) throw new ClosedError(`connection to ${this.#path}`);
    let answer: unknown;
    try {
      this.#requests.send({ op, path, text });
      answer = this.#receive();
    } catch (error) {
      this.close();
      if (!(error instanceof ProtocolError) || error instanceof PeerGoneError) throw error;
      throw new ProtocolError(error.message, { hint: HINT, cause: error });
    }
    if (typeof answer !== "object" || answer === null) throw this.#broken("an answer that is not an object");
    const { ok, errno, call, hint } = answer as Record<string, unknown>;
    if (errno === undefined) {
      if (ok === undefined) throw this.#broken("an answer with neither ok nor errno");
      return ok;
    }
    const number = typeof errno === "string" ? errnoNumber[errno] : undefined;
    if (number === undefined) throw this.#broken(`error ${JSON.stringify(errno)}`);
    throw new SyscallError(
      typeof call === "string" ? call : op,
      path,
      number,
      typeof hint === "string" ? { hint } : {},
    );
  }

  #receive(): unknown {
    const deadline = performance.now() + this.#timeoutMs;
    while (!this.#answers.next()) {
      // A peer that sends a byte now and then never lets the socket's own limit expire.
      if (performance.now() > deadline) {
        throw new TimeoutError(`${this.#path}: no answer within ${this.#timeoutMs} ms`);
      }
      if (this.#answers.fill(true) === "end") {
        throw new PeerGoneError(`${this.#path}: the emulated host closed the connection`);
      }
    }
    return this.#answers.value;
  }

  #broken(what: string, cause?: unknown): ProtocolError {
    this.close();
    return new ProtocolError(`${this.#path}: the peer sent ${what}`, {
      hint: HINT,
      cause,
    });
  }
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((one) => typeof one === "string");
}
