/**
 * What a virtqueue is, without any ring: lists of chains. The rings are judged by it.
 *
 * @module
 */

/** A chain by its number in the order of commits, from 0. */
export interface ReferenceChain {
  readonly serial: number;
  /** Part: low half, high half, length, 1 for device-writable. */
  readonly parts: readonly (readonly [lo: number, hi: number, lengthBytes: number, write: 0 | 1])[];
  /** Ring descriptors that it takes. */
  readonly need: number;
  /** Device-writable bytes. */
  readonly room: number;
}

/** When the device wants to be notified: never, always, or when the chain of that number becomes available. */
export type Wish = "never" | "always" | number;

/** The plain model of both sides. */
export class ReferenceQueue {
  readonly size: number;
  readonly inOrder: boolean;
  free: number;
  committed = 0;
  published = 0;
  popped = 0;
  /** Chains that the device holds, in the order in which it got them. */
  readonly held: ReferenceChain[] = [];
  /** Returned and not taken. */
  readonly returned: { readonly chain: ReferenceChain; readonly length: number }[] = [];
  returnedCount = 0;
  takenCount = 0;
  /** Committed and not popped, oldest first. */
  readonly waiting: ReferenceChain[] = [];
  /** Number of the return that shall interrupt; null: none. Without event index: any, for a number. */
  armed: number | null = null;

  constructor(size: number, inOrder: boolean) {
    this.size = size;
    this.inOrder = inOrder;
    this.free = size;
  }

  get inFlight(): number {
    return this.committed - this.takenCount;
  }

  add(parts: ReferenceChain["parts"], need: number): ReferenceChain {
    const room = parts.reduce((sum, [, , length, write]) => sum + (write === 1 ? length : 0), 0);
    const chain = { serial: this.committed++, parts, need, room };
    this.free -= need;
    this.waiting.push(chain);
    return chain;
  }

  /** @returns whether the device must be notified */
  publish(wish: Wish): boolean {
    const from = this.published;
    this.published = this.committed;
    if (from === this.published) return false;
    return typeof wish === "number" ? wish >= from && wish < this.published : wish === "always";
  }

  pop(): ReferenceChain | undefined {
    if (this.popped === this.published) return undefined;
    this.popped++;
    const chain = this.waiting.shift()!;
    this.held.push(chain);
    return chain;
  }

  /** Returns `chains`, of which only the last has a length of its own (IN_ORDER), or one. @returns whether the driver must be interrupted */
  giveBack(chains: readonly ReferenceChain[], length: number, eventIndex: boolean): boolean {
    const from = this.returnedCount;
    chains.forEach((chain, at) => {
      this.held.splice(this.held.indexOf(chain), 1);
      // SPEC, in-order use: "assumed to have been used (read or written) by the device completely".
      this.returned.push({ chain, length: at === chains.length - 1 ? length : chain.room });
    });
    this.returnedCount += chains.length;
    if (this.armed === null) return false;
    return !eventIndex || (this.armed >= from && this.armed < this.returnedCount);
  }

  take(max: number): readonly { readonly chain: ReferenceChain; readonly length: number }[] {
    const out = this.returned.splice(0, max);
    for (const { chain } of out) this.free += chain.need;
    this.takenCount += out.length;
    return out;
  }
}
