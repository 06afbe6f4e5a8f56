/**
 * The commands of one group type: which the device supports, and which its driver may use (virtio 1.4 §2.12.1; N-3.1, N-3.9, N-3.13).
 *
 * @module
 */
import { ADMIN_OPCODE } from "../../../virtio/spec/admin.ts";
import type { AdminHandler, AdminOutcome } from "./handler.ts";
import { INVALID_FIELD, OK } from "./outcomes.ts";

const WORD_BYTES = 8;
const INITIAL: ReadonlySet<number> = new Set([ADMIN_OPCODE.LIST_QUERY, ADMIN_OPCODE.LIST_USE]);

/** Handlers by opcode. */
export type AdminHandlers = ReadonlyMap<number, AdminHandler>;

/** See the module. What is supported never changes, so that the list cannot shrink. */
export class CommandGroup {
  readonly #handlers: AdminHandlers;
  #inUse: ReadonlySet<number> = INITIAL;

  /** A group as after a reset. @param handlers of every command but LIST_QUERY and LIST_USE, which every group has */
  constructor(handlers: AdminHandlers) {
    this.#handlers = handlers;
  }

  /** The device knows this command. */
  supports(opcode: number): boolean {
    return INITIAL.has(opcode) || this.#handlers.has(opcode);
  }

  /** The driver may use it now. */
  allows(opcode: number): boolean {
    return this.#inUse.has(opcode);
  }

  /** Who answers it; undefined for LIST_QUERY, LIST_USE and what is not supported. */
  handler(opcode: number): AdminHandler | undefined {
    return this.#handlers.get(opcode);
  }

  /** Device reset: only LIST_QUERY and LIST_USE are legal. */
  reset(): void {
    this.#inUse = INITIAL;
  }

  /** LIST_QUERY: as many words as the largest opcode needs. */
  query(): AdminOutcome {
    return { status: "OK", result: idBitmap([...INITIAL, ...this.#handlers.keys()]) };
  }

  /**
   * LIST_USE: a list of any length, what is missing is zero. The driver may leave LIST_QUERY and LIST_USE out, and then has neither until the
   * next reset.
   */
  use(list: Uint8Array): AdminOutcome {
    const opcodes = idsOf(list);
    for (const opcode of opcodes) {
      if (!this.supports(opcode)) return INVALID_FIELD;
    }
    this.#inUse = new Set(opcodes);
    return OK;
  }
}

/** le64 words with a bit for each id, as few as hold them all; one word for none. */
export function idBitmap(ids: readonly number[]): Uint8Array<ArrayBuffer> {
  const words = Math.floor(Math.max(0, ...ids) / 64) + 1;
  const bytes = new Uint8Array(WORD_BYTES * words);
  for (const id of ids) bytes[id >> 3] = bytes[id >> 3]! | 1 << (id & 7);
  return bytes;
}

function idsOf(bitmap: Uint8Array): number[] {
  const ids: number[] = [];
  bitmap.forEach((byte, at) => {
    for (let bit = 0; byte >> bit !== 0; bit++) if ((byte >> bit & 1) !== 0) ids.push(8 * at + bit);
  });
  return ids;
}
