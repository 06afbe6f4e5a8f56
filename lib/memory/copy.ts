/**
 * Copies between memories, packet after packet, without making an object.
 *
 * @module
 */
import type { KeptParts } from "./kept_parts.ts";

/** A memory to copy from and to: the same bytes one by one and in words. */
export interface CopyMemory {
  /** All of them. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same, as far as there are whole words. */
  readonly words32: Uint32Array<ArrayBuffer>;
}

/** One to copy from, again and again. */
export interface CopySource extends CopyMemory {
  /** Of `bytes`. */
  readonly parts: KeptParts;
}

/** Up to here going word by word costs less than a copy by a view: measured with memory that another processor had written. */
const WORDS_BYTES = 96;
/** The same of going byte by byte. */
const SINGLE_BYTES = 16;
/** From here on a view costs little beside the bytes. */
const LONG_BYTES = 65536;
/**
 * Views that are kept have no more leading bits than this, so that frames of all lengths need but a few of each buffer: what is left is less than an
 * eighth, and goes word by word, or less than a 64th, and goes byte by byte.
 */
const WORDS_BITS = 4, BYTES_BITS = 7;
/** Up to here the number of a word is an unsigned 32-bit integer, which costs less to count with. */
const INTEGER_BYTES = 2 ** 34;

/** Copies `count` bytes, both ranges inside their memories, which are two. */
export function copyMemory(
  from: CopySource,
  fromOffset: number,
  to: CopyMemory,
  toOffset: number,
  count: number,
): void {
  const source = from.bytes, target = to.bytes;
  if (count > LONG_BYTES) {
    target.set(source.subarray(fromOffset, fromOffset + count), toOffset);
    return;
  }
  const byWords = fromOffset % 4 === 0 && toOffset % 4 === 0 && fromOffset < INTEGER_BYTES &&
    toOffset < INTEGER_BYTES;
  let done = 0;
  if (count > (byWords ? WORDS_BYTES : SINGLE_BYTES)) {
    const below = 32 - Math.clz32(count) - (byWords ? WORDS_BITS : BYTES_BITS);
    done = below > 0 ? count & -1 << below : count;
    target.set(from.parts.get(fromOffset, done), toOffset);
  }
  if (byWords) {
    const words = from.words32, into = to.words32;
    const first = (fromOffset / 4) >>> 0, place = (toOffset / 4) >>> 0;
    const whole = count >>> 2;
    for (let word = done >>> 2; word < whole; word++) into[place + word] = words[first + word]!;
    done = 4 * whole;
  }
  for (; done < count; done++) target[toOffset + done] = source[fromOffset + done]!;
}
