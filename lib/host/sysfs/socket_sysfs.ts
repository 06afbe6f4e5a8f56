/**
 * The sysfs tree of an emulated host, reached through its control socket.
 *
 * A frame is a 32-bit little-endian length and that many bytes of JSON: `{"op","path","text"?}` there, `{"ok"}` or `{"errno"}` back.
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { ClosedError, PeerGoneError, ProtocolError, TimeoutError, UsageError } from "../../errors/mod.ts";
import { errnoNumber, SyscallError, UnixListener, UnixSocket } from "../../../ffi/mod.ts";
import type { Sysfs } from "./sysfs.ts";

/** Room for the names of all functions that a domain can have. */
const MAX_FRAME_BYTES = 1 << 24;
/** One write may make a thousand VFs. A host that is gone is known at once: its end of the connection is closed. */
const DEFAULT_TIMEOUT_MS = 30_000;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

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
  readonly #head: Uint8Array<ArrayBuffer> = new Uint8Array(4);

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
  }

  /** Text of an attribute, without trailing white space. */
  readText(path: string): string {
    return this.#text(this.#call("read", path)).trimEnd();
  }

  /** Bytes of an attribute. */
  readBytes(path: string): Uint8Array<ArrayBuffer> {
    let binary: string;
    try {
      binary = atob(this.#text(this.#call("readBytes", path)));
    } catch (cause) {
      if (cause instanceof ProtocolError) throw cause;
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
  #call(op: string, path: string, text?: string): unknown {
    if (this.#socket.fd.closed) throw new ClosedError(`connection to ${this.#path}`);
    let answer: unknown;
    try {
      const body = encoder.encode(JSON.stringify({ op, path, text }));
      const frame = new Uint8Array(4 + body.byteLength);
      new DataView(frame.buffer).setUint32(0, body.byteLength, true);
      frame.set(body, 4);
      this.#socket.send(frame);
      answer = this.#receive();
    } catch (error) {
      this.close();
      throw error;
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
    this.#fill(this.#head, deadline);
    const length = new DataView(this.#head.buffer).getUint32(0, true);
    if (length > MAX_FRAME_BYTES) throw this.#broken(`a frame of ${length} bytes`);
    const body = new Uint8Array(length);
    this.#fill(body, deadline);
    try {
      return JSON.parse(decoder.decode(body));
    } catch (cause) {
      throw this.#broken("a frame that is not JSON", cause);
    }
  }

  #fill(into: Uint8Array<ArrayBuffer>, deadline: number): void {
    for (let at = 0; at < into.byteLength;) {
      // A peer that sends a byte now and then never lets the socket's own limit expire.
      if (performance.now() > deadline) {
        throw new TimeoutError(`${this.#path}: no answer within ${this.#timeoutMs} ms`);
      }
      const { length, fds } = this.#socket.receive(into.subarray(at))!;
      for (const fd of fds) fd.close();
      if (length === 0) throw new PeerGoneError(`${this.#path}: the emulated host closed the connection`);
      at += length;
    }
  }

  #broken(what: string, cause?: unknown): ProtocolError {
    this.close();
    return new ProtocolError(`${this.#path}: the peer sent ${what}`, {
      hint: "is this the control socket of an emulated host of the same version?",
      cause,
    });
  }
}

function isPair(value: unknown): value is [string, string] {
  return Array.isArray(value) && value.length === 2 && value.every((one) => typeof one === "string");
}
