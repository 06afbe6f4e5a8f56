/**
 * The VF's end of an 82576's mailbox.
 *
 * @module
 */
import { DeviceError, RefusedError, TimeoutError } from "../../../lib/errors/mod.ts";
import type { Registers } from "../../../lib/registers/registers.ts";
import {
  CLEAR_TO_SEND,
  DONE,
  firstWord,
  MAILBOX_WORDS,
  MESSAGE,
  messageType,
  REFUSED,
  says,
} from "./mailbox.ts";
import type { IGBVF_REGISTERS } from "./vf_registers.ts";

/** Registers of a VF. */
export type IgbVfRegisters = Registers<typeof IGBVF_REGISTERS>;

/** Looks in a row before the event loop gets a turn. */
const LOOKS_AT_ONCE = 16;

/** Requests one after the other, and what the PF says of its own accord. */
export class VfMailbox {
  /** The PF takes requests: it has not been reset since it answered last. */
  clearToSend = false;
  readonly #name: string;
  readonly #registers: IgbVfRegisters;
  readonly #timeoutMs: number;
  /** PFSTS was set: reading clears it. */
  #message = false;
  #last: Promise<unknown> = Promise.resolve();
  #busy = false;
  #ended: Error | null = null;

  /** Says nothing yet. @param name of the function @param timeoutMs how long the PF may take to answer */
  constructor(name: string, registers: IgbVfRegisters, timeoutMs: number) {
    this.#name = name;
    this.#registers = registers;
    this.#timeoutMs = timeoutMs;
  }

  /** Waits until the PF is there: while it is being reset, RSTI says so. @throws TimeoutError */
  async waitPf(): Promise<void> {
    await this.#until(() => !this.#look().RSTI, "the PF is not up", {
      hint: "a driver must drive the PF, and serve this VF",
    });
  }

  /**
   * Asks, and waits for the answer.
   * @returns its words @throws RefusedError, TimeoutError, DeviceError (it answers something else)
   */
  request(words: readonly number[]): Promise<number[]> {
    const answer = this.#last.then(() => this.#ask(words));
    this.#last = answer.catch(() => {});
    return answer;
  }

  async #ask(words: readonly number[]): Promise<number[]> {
    const type = messageType(words[0]!);
    this.#busy = true;
    try {
      await this.#send(words);
      for (;;) {
        await this.#until(
          () => {
            this.#look();
            return this.#message;
          },
          `the PF does not answer (message ${type})`,
          { hint: "a driver of the PF must serve this VF" },
        );
        const answer = await this.#take();
        const word = answer[0]!;
        if (messageType(word) === MESSAGE.control) {
          this.clearToSend = says(word, CLEAR_TO_SEND);
          // It came between, and has overwritten our request or the answer.
          await this.#send(words);
          continue;
        }
        this.clearToSend = says(word, CLEAR_TO_SEND) || (type === MESSAGE.reset && says(word, DONE));
        if (messageType(word) !== type || says(word, DONE) === says(word, REFUSED)) {
          throw new DeviceError(`the PF answers 0x${word.toString(16)} to message ${type}`, {
            function: this.#name,
            field: "VMBMEM",
          });
        }
        if (says(word, DONE)) return answer;
        throw new RefusedError(`${this.#name}: the PF refuses message ${type}`, {
          hint: this.clearToSend ? "see what it allows its VFs" : "it was reset: reset the VF",
        });
      }
    } finally {
      this.#busy = false;
    }
  }

  async #send(words: readonly number[]): Promise<void> {
    await this.#until(() => this.#lock(), "the PF does not let go of the mailbox");
    // What came before is overwritten.
    this.#message = false;
    words.forEach((word, at) => this.#registers.write("VMBMEM", word, at));
    this.#registers.set("V2PMAILBOX", { REQ: true });
  }

  /** Takes what the PF says of its own accord. @returns whether the PF is being reset */
  service(): boolean {
    const { RSTI } = this.#look();
    if (RSTI) this.clearToSend = false;
    if (!this.#busy && this.#message && this.#lock()) {
      this.#message = false;
      const word = this.#registers.read("VMBMEM", 0);
      this.#registers.set("V2PMAILBOX", { ACK: true });
      if (messageType(word) === MESSAGE.control) this.clearToSend = says(word, CLEAR_TO_SEND);
    }
    return RSTI;
  }

  /** Requests under way end with this. */
  end(reason: Error): void {
    this.#ended = reason;
  }

  async #take(): Promise<number[]> {
    await this.#until(() => this.#lock(), "the PF does not let go of the mailbox");
    this.#message = false;
    const words = Array.from({ length: MAILBOX_WORDS }, (_, at) => this.#registers.read("VMBMEM", at));
    this.#registers.set("V2PMAILBOX", { ACK: true });
    return words;
  }

  #lock(): boolean {
    this.#registers.set("V2PMAILBOX", { VFU: true });
    return this.#look().VFU;
  }

  #look(): { readonly VFU: boolean; readonly RSTI: boolean } {
    const found = this.#registers.fields("V2PMAILBOX");
    if (found.PFSTS) this.#message = true;
    return found;
  }

  async #until(done: () => boolean, what: string, options: { hint?: string } = {}): Promise<void> {
    const end = performance.now() + this.#timeoutMs;
    for (let looks = 1;; looks++) {
      if (this.#ended !== null) throw this.#ended;
      // Asked before it is looked at: who was kept from running for long looks once more.
      const late = performance.now() >= end;
      if (done()) return;
      if (late) throw new TimeoutError(`${this.#name}: ${what} within ${this.#timeoutMs} ms`, options);
      if (looks % LOOKS_AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

/** A request with further words. */
export function requestWords(type: number, info: number, ...more: readonly number[]): number[] {
  return [firstWord(type, info), ...more];
}
