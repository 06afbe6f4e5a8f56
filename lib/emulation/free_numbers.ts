/**
 * Numbers that a kernel gives away and takes back: `eth0`, `virtio3`, IOMMU group 12.
 *
 * @module
 */

/** Numbers from 0 up. Always the lowest free one is given, as Linux's IDA does. */
export class FreeNumbers {
  readonly #taken = new Map<number, number>();
  /** No number below it is free. */
  #lowest = 0;

  /** The lowest number that nobody has; it is not taken by this. */
  get lowest(): number {
    while (this.#taken.has(this.#lowest)) this.#lowest++;
    return this.#lowest;
  }

  /** Takes the lowest free number. */
  take(): number {
    const number = this.lowest;
    this.hold(number);
    return number;
  }

  /** Takes a number, which several may have at once: members of one IOMMU group. */
  hold(number: number): void {
    this.#taken.set(number, (this.#taken.get(number) ?? 0) + 1);
  }

  /** One of its holders gives a number back; a number that nobody has is fine. */
  release(number: number): void {
    const holders = this.#taken.get(number);
    if (holders === undefined) return;
    if (holders > 1) {
      this.#taken.set(number, holders - 1);
      return;
    }
    this.#taken.delete(number);
    if (number < this.#lowest) this.#lowest = number;
  }
}
