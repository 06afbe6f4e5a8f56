/**
 * What travels on an emulated host's control socket: frames of a 32-bit little-endian length and that many bytes of JSON.
 *
 * A client sends a request and waits for its response; responses come in the order of the requests.
 *
 * @module
 */
import type { UnixSocket } from "../../../ffi/mod.ts";
import { ProtocolError } from "../../errors/mod.ts";
import { IncomingMessages, OutgoingMessage } from "../../sockets/messages.ts";

/** File name of the control socket in an emulated host's directory. */
export const CONTROL_SOCKET = "host.sock";
/** Largest request, in bytes, without its length. */
export const MAX_REQUEST_BYTES = 1 << 20;
/** Largest response, in bytes, without its length: the names of all functions that a domain can have fit. */
export const MAX_RESPONSE_BYTES = 1 << 24;
/** Value of `/ringside/version`. Raised when a change would mislead an older client. */
export const CONTROL_PROTOCOL_VERSION = 1;

/** Operations, as in the `Sysfs` interface. */
export type ControlOperation = "read" | "readBytes" | "write" | "list" | "links" | "readlink" | "exists";

/** One request. */
export interface ControlRequest {
  /** What to do. */
  readonly op: ControlOperation;
  /** Absolute path. */
  readonly path: string;
  /** What to write (`write` only). */
  readonly text?: string | undefined;
}

/**
 * One response. `ok`: text (`read`, `readlink`), base64 (`readBytes`), names (`list`), pairs of name and target (`links`), truth (`exists`),
 * null (`write`).
 * Else the name of an error number, the call that gave it, and why, when there is more to say.
 */
export type ControlResponse =
  | { readonly ok: string | readonly string[] | readonly (readonly [string, string])[] | boolean | null }
  | { readonly errno: string; readonly call?: string; readonly hint?: string };

const OPERATIONS: readonly string[] = ["read", "readBytes", "write", "list", "links", "readlink", "exists"];
const LENGTH_BYTES = 4;
/** Descriptors beside a frame; they are closed. */
const MOST_FDS = 64;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** Frames that come in. */
export class ControlFrames extends IncomingMessages {
  /** Reads from a socket, which stays the caller's. @param what for messages: the peer. @param mostBytes of JSON in a frame */
  constructor(socket: UnixSocket, what: string, mostBytes: number) {
    super(socket, what, { messageBytes: LENGTH_BYTES + mostBytes, messageFds: MOST_FDS }, LENGTH_BYTES);
  }

  protected override sizeAt(at: number): number {
    return LENGTH_BYTES + this.view.getUint32(at, true);
  }

  protected override takeHeader(): undefined {}

  protected override get title(): string {
    return "a control frame";
  }

  /** What the current frame says. @throws ProtocolError */
  get value(): unknown {
    try {
      return JSON.parse(decoder.decode(this.payload));
    } catch (cause) {
      throw this.malformed("it is not JSON", cause);
    }
  }
}

/** Frames that go out. */
export class ControlFrame extends OutgoingMessage {
  /** Writes to a socket, which stays the caller's. */
  constructor(socket: UnixSocket) {
    super(socket, LENGTH_BYTES);
  }

  /** Sends a frame, and waits until it is sent. @throws ProtocolError when it is too large, PeerGoneError, TimeoutError, SyscallError */
  send(value: ControlRequest): void {
    this.transmit(this.#encode(value));
  }

  /** As `send`, without waiting: see `waiting`. */
  sendNow(value: ControlResponse): void {
    this.transmitNow(this.#encode(value));
  }

  #encode(value: ControlRequest | ControlResponse): number {
    const text = encoder.encode(JSON.stringify(value));
    const { byteLength } = text;
    if (byteLength > MAX_RESPONSE_BYTES) throw new ProtocolError(`a control frame of ${byteLength} bytes`);
    this.put(text);
    this.view.setUint32(0, byteLength, true);
    return byteLength;
  }
}

/** Checks what a client sent. @throws ProtocolError */
export function asControlRequest(value: unknown): ControlRequest {
  if (typeof value !== "object" || value === null) {
    throw new ProtocolError("a control request is not an object");
  }
  const { op, path, text } = value as Record<string, unknown>;
  if (typeof op !== "string" || !OPERATIONS.includes(op)) {
    throw new ProtocolError(`${JSON.stringify(op)} is not a control operation`);
  }
  if (typeof path !== "string") throw new ProtocolError("a control request has no path");
  if (op === "write" && typeof text !== "string") throw new ProtocolError("a write request has no text");
  return { op: op as ControlOperation, path, ...(typeof text === "string" ? { text } : {}) };
}
