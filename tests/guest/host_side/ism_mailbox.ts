/**
 * Requests and answers between the two sides of a guest, in a shared memory region of virtio-ism functions: the guest has no other way to be asked.
 */
import type { IsmEvent, IsmRegion, VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { PeerGoneError, TimeoutError } from "../../../lib/errors/mod.ts";

/** A number that counts up, the length of the text, the text. Requests at 0, answers behind them. */
const SLOT_BYTES = 32_768;
const HEADER_BYTES = 8;
/** Bytes of a mailbox's region. */
export const MAILBOX_BYTES = 2 * SLOT_BYTES;

/** One side. Events of the region are its own; updates wake whoever waits. */
export class IsmMailbox {
  readonly region: IsmRegion;
  /** ATTACH and DETACH of the other side, as they came. */
  readonly comings: IsmEvent["type"][] = [];
  readonly #ism: VirtioIsm;
  readonly #out: number;
  readonly #in: number;
  #sent = 0;
  #received = 0;

  /** Takes the region over. @param asks this side asks, the other answers */
  constructor(ism: VirtioIsm, region: IsmRegion, asks: boolean) {
    this.#ism = ism;
    this.region = region;
    this.#out = asks ? 0 : SLOT_BYTES;
    this.#in = asks ? SLOT_BYTES : 0;
    region.listen((event) => {
      if (event.type !== "update") this.comings.push(event.type);
    });
  }

  /** The next message will be the first one of a new other side. */
  startOver(): void {
    this.#sent = this.#received = 0;
    this.comings.length = 0;
    this.region.write(0, new Uint8Array(HEADER_BYTES));
    this.region.write(SLOT_BYTES, new Uint8Array(HEADER_BYTES));
  }

  /** Leaves a message and says so. */
  send(message: unknown): void {
    const text = encoder.encode(JSON.stringify(message));
    this.region.write(this.#out + HEADER_BYTES, text);
    this.region.setUint32(this.#out + 4, text.length);
    this.region.setUint32(this.#out, ++this.#sent);
    this.region.notify();
  }

  /** Waits for the next message. @throws TimeoutError, PeerGoneError when the other side has detached */
  async receive(timeoutMs: number): Promise<unknown> {
    const there = (): boolean => this.region.getUint32(this.#in) === this.#received + 1;
    const gone = (): boolean => this.comings.at(-1) === "detach";
    if (!await this.#ism.waitFor(() => there() || gone(), timeoutMs)) {
      throw new TimeoutError(`no message within ${timeoutMs} ms`);
    }
    if (!there()) throw new PeerGoneError("the other side has detached the mailbox");
    this.#received++;
    const text = new Uint8Array(this.region.getUint32(this.#in + 4));
    this.region.read(this.#in + HEADER_BYTES, text);
    return JSON.parse(decoder.decode(text));
  }

  /** Waits until the other side has come, or has gone. */
  async waitFor(coming: "attach" | "detach", timeoutMs: number): Promise<void> {
    if (await this.#ism.waitFor(() => this.comings.at(-1) === coming, timeoutMs)) return;
    throw new TimeoutError(`no ${coming} of the mailbox within ${timeoutMs} ms`);
  }
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
