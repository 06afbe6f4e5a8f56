/**
 * The chains of a packed ring that the device holds.
 *
 * @module
 */

/** Buffer ids are any 16 bits that the driver likes. */
const IDS = 65536;

/** Of one ring. Its arrays are open to those who take chains by bursts. */
export class HeldChains {
  /** Descriptors of each chain, by id; 0: the device does not hold that. As long as ids need, which is mostly the ring's size. */
  slots: Uint16Array<ArrayBuffer>;
  /** Ids in the order in which they were taken, round and round. */
  readonly order: Uint16Array<ArrayBuffer>;
  /** Device-writable bytes of the same; null where no batches are made. */
  readonly writable: Float64Array<ArrayBuffer> | null;
  /** Place in `order` of the next chain that is taken. */
  next = 0;
  /** With IN_ORDER: of the next that is returned. */
  #oldest = 0;

  /** None. @param size of the ring @param batches are made of those that are returned */
  constructor(size: number, batches: boolean) {
    this.slots = new Uint16Array(size);
    this.order = new Uint16Array(size);
    this.writable = batches ? new Float64Array(size) : null;
  }

  /** The device holds a chain with this id. There is room for it afterwards. */
  has(id: number): boolean {
    if (id >= this.slots.length) {
      const all = new Uint16Array(IDS);
      all.set(this.slots);
      this.slots = all;
    }
    return this.slots[id] !== 0;
  }

  /** It takes a chain of so many descriptors. */
  hold(id: number, slots: number, writableBytes: number): void {
    this.slots[id] = slots;
    this.order[this.next] = id;
    if (this.writable !== null) this.writable[this.next] = writableBytes;
    if (++this.next === this.order.length) this.next = 0;
  }

  get #last(): number {
    return this.next === 0 ? this.order.length - 1 : this.next - 1;
  }

  /** Id of the chain that was taken last. */
  get last(): number {
    return this.order[this.#last]!;
  }

  /** The chain that was taken last was not taken. @returns its descriptors; 0: it has been returned */
  drop(): number {
    const at = this.#last, id = this.order[at]!, slots = this.slots[id]!;
    if (slots === 0) return 0;
    this.slots[id] = 0;
    this.next = at;
    return slots;
  }

  /** With IN_ORDER: id of the chain whose turn it is to be returned. */
  get oldest(): number {
    return this.order[this.#oldest]!;
  }

  /** Its device-writable bytes; 0 where no batches are made. */
  get oldestWritable(): number {
    return this.writable === null ? 0 : this.writable[this.#oldest]!;
  }

  /** It is the next one's turn. @returns false when it was not this one's */
  passOldest(id: number): boolean {
    if (this.order[this.#oldest] !== id) return false;
    if (++this.#oldest === this.order.length) this.#oldest = 0;
    return true;
  }
}
