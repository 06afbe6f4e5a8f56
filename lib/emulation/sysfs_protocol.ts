/**
 * What travels on an emulated host's control socket: frames of a 32-bit little-endian length and that many bytes of JSON.
 *
 * A client sends a request and waits for its response; responses come in the order of the requests. The client is
 * `SocketSysfs` of lib/host, which spells the same few names out for itself because lib/host lies below this folder.
 *
 * @module
 */
import { ProtocolError } from "../errors/mod.ts";

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
  readonly text?: string;
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
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** A frame that carries `value`. @throws ProtocolError when it is too large */
export function encodeFrame(value: ControlRequest | ControlResponse): Uint8Array<ArrayBuffer> {
  const text = encoder.encode(JSON.stringify(value));
  if (text.byteLength > MAX_RESPONSE_BYTES) {
    throw new ProtocolError(`a control frame of ${text.byteLength} bytes`);
  }
  const frame = new Uint8Array(4 + text.byteLength);
  new DataView(frame.buffer).setUint32(0, text.byteLength, true);
  frame.set(text, 4);
  return frame;
}

/** Puts frames together from what arrives in pieces. */
export class FrameReader {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  /** Takes what arrived. */
  push(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#bytes.byteLength + bytes.byteLength);
    all.set(this.#bytes);
    all.set(bytes, this.#bytes.byteLength);
    this.#bytes = all;
  }

  /** The next whole frame's JSON, or undefined when none is there yet. @throws ProtocolError */
  next(): unknown {
    if (this.#bytes.byteLength < 4) return undefined;
    const length = new DataView(this.#bytes.buffer, this.#bytes.byteOffset).getUint32(0, true);
    if (length > MAX_REQUEST_BYTES) {
      throw new ProtocolError(`a control frame says that it has ${length} bytes`);
    }
    if (this.#bytes.byteLength < 4 + length) return undefined;
    const text = this.#bytes.subarray(4, 4 + length);
    this.#bytes = this.#bytes.slice(4 + length);
    try {
      return JSON.parse(decoder.decode(text));
    } catch (cause) {
      throw new ProtocolError("a control frame is not JSON", { cause });
    }
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
