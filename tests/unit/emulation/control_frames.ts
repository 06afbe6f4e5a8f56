/** Frames of the control socket, as bytes: a 32-bit little-endian length and that much JSON. */

export function encodeFrame(value: unknown): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(value));
  const frame = new Uint8Array(4 + text.byteLength);
  new DataView(frame.buffer).setUint32(0, text.byteLength, true);
  frame.set(text, 4);
  return frame;
}

/** Puts frames together from what arrives in pieces. */
export class FrameReader {
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  push(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#bytes.byteLength + bytes.byteLength);
    all.set(this.#bytes);
    all.set(bytes, this.#bytes.byteLength);
    this.#bytes = all;
  }

  /** The next whole frame's JSON, or undefined when none is there yet. */
  next(): unknown {
    if (this.#bytes.byteLength < 4) return undefined;
    const length = new DataView(this.#bytes.buffer).getUint32(0, true);
    if (this.#bytes.byteLength < 4 + length) return undefined;
    const text = new TextDecoder().decode(this.#bytes.subarray(4, 4 + length));
    this.#bytes = this.#bytes.slice(4 + length);
    return JSON.parse(text);
  }
}
