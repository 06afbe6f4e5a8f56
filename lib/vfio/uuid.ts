/**
 * VF tokens: UUIDs, as text and as the 16 bytes that the kernel takes.
 *
 * The text's digits and the bytes are in the same order (the kernel's `uuid_t`, not the mixed-endian `guid_t`).
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";

const DIGITS = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
const UUID = new RegExp(`^${DIGITS}$`, "i");
/** A UUID anywhere, and whatever stands where a command line has one, well written or not. */
const TOKENS = new RegExp(`(?<=--vf-token[ =]+)[^\\s=-]\\S*|${DIGITS}`, "gi");
const TOKEN_BYTES = 16;

/** Whether a text is that of a UUID. */
export function isVfToken(text: string): boolean {
  return UUID.test(text);
}

/** A command line, or another text that others may read, with its VF tokens hidden. */
export function withoutVfTokens(text: string): string {
  return text.replace(TOKENS, "…");
}

/**
 * Text of a UUID to its 16 bytes.
 * @throws UsageError when it is none. The message does not repeat the text: a token is a secret between processes.
 */
export function parseVfToken(text: string): Uint8Array<ArrayBuffer> {
  requireType(text, "string", "parseVfToken: text");
  if (!UUID.test(text)) {
    throw new UsageError(`a VF token of ${text.length} characters is not a UUID`, {
      hint: "write it as 8-4-4-4-12 hexadecimal digits; uuidgen makes one",
    });
  }
  const digits = text.replaceAll("-", "");
  // Its own ArrayBuffer: the address of a small typed array alone may change when V8 moves it out of its heap.
  const bytes = new Uint8Array(new ArrayBuffer(TOKEN_BYTES));
  for (let i = 0; i < TOKEN_BYTES; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** 16 bytes to lower-case text. @throws UsageError for another length. */
export function formatVfToken(bytes: Uint8Array): string {
  requireType(bytes, "bytes", "formatVfToken: bytes");
  if (bytes.byteLength !== TOKEN_BYTES) {
    throw new UsageError(`a VF token has ${TOKEN_BYTES} bytes, not ${bytes.byteLength}`);
  }
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]].map(([from, to]) => digits.slice(from, to)).join(
    "-",
  );
}
