/**
 * The positions that notifications of a packed ring carry (NOTIFICATION_DATA; reference 1.6).
 *
 * @module
 */

// Places in `#life`.
const TAKEN = 0;
const NOTIFIED = 1;

/**
 * Judges them. Notifications may come late, so one is wrong only when its position is ahead of the ring however many rounds old it is: positions
 * repeat every two rounds, and those of one queue come in order to within less than one round.
 */
export class NotifiedPositions {
  readonly #size: number;
  #startSlot = 0;
  #startWrap = 1;
  /** Descriptors taken in this life, and the last position. In an array, since numbers that outgrow a small integer would be made anew at each store. */
  readonly #life = new Float64Array(2);

  /** Of a ring with `size` slots. */
  constructor(size: number) {
    this.#size = size;
  }

  /** A life begins at this position. */
  begin(slot: number, wrap: number): void {
    this.#startSlot = slot;
    this.#startWrap = wrap;
  }

  /** The device took so many descriptors; fewer than 0: it gave them back. */
  took(slots: number): void {
    this.#life[TAKEN]! += slots;
  }

  /** Descriptors that a notification says are there and that the device has not taken; 0 or less: it is an old one. */
  ahead(slot: number, wrap: number): number {
    const period = 2 * this.#size;
    let position = slot - this.#startSlot + (wrap === this.#startWrap ? 0 : this.#size);
    if (position < 0) position += period;
    const least = this.#life[NOTIFIED]! - this.#size + 1;
    if (position < least) position += period * Math.ceil((least - position) / period);
    return position - this.#life[TAKEN]!;
  }

  /** A notification with so many descriptors ahead was in order. */
  accept(ahead: number): void {
    const position = this.#life[TAKEN]! + ahead;
    if (position > this.#life[NOTIFIED]!) this.#life[NOTIFIED] = position;
  }
}
