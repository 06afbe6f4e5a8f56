/**
 * What a driver sets by control commands.
 *
 * @module
 */
import { ReceiveFilter } from "./filter.ts";

/** Of one network device. */
export class NetSettings {
  /** Largest number of queue pairs. */
  readonly maxPairs: number;
  /** Receive filter. */
  readonly filter: ReceiveFilter = new ReceiveFilter();
  /** Queue pairs in use. */
  activePairs = 1;
  /** Pairs that were ever active since reset: what was queued before fewer were asked for is still sent. */
  usedPairs = 1;
  readonly #features: () => bigint;
  readonly #macChanged: () => void;

  /** @param features that were negotiated, now @param macChanged told when a driver changed the device's own address */
  constructor(maxPairs: number, features: () => bigint, macChanged: () => void = () => {}) {
    this.maxPairs = maxPairs;
    this.#features = features;
    this.#macChanged = macChanged;
  }

  /** All of them were negotiated. */
  has(features: bigint): boolean {
    return (this.#features() & features) === features;
  }

  /** As after a device reset. @param mac the device's own address */
  reset(mac: Uint8Array): void {
    this.activePairs = 1;
    this.usedPairs = 1;
    this.filter.reset(mac);
  }

  /** Uses so many queue pairs from now on. */
  setPairs(pairs: number): void {
    this.activePairs = pairs;
    this.usedPairs = Math.max(this.usedPairs, pairs);
  }

  /** Changes the device's own address. */
  setMac(mac: Uint8Array): void {
    this.filter.mac = mac;
    this.#macChanged();
  }
}
