/**
 * Which frames a network device takes (virtio 1.2 §5.1.6.5.1, §5.1.6.5.2).
 *
 * @module
 */
import { macHigh, macLow } from "./mac_address.ts";

/** Entries that a table holds; a driver that gives more gets all unicast, or all multicast, frames. */
export const FILTER_ENTRIES = 64;

/** A list of MAC addresses, compared without making objects. */
export class AddressTable {
  readonly #high = new Uint16Array(FILTER_ENTRIES);
  readonly #low = new Uint32Array(FILTER_ENTRIES);
  #count = 0;
  readonly #changed: () => void;
  /** More addresses were added than fit. */
  overflow: boolean = false;

  /** Empty. @param changed told when its addresses are others */
  constructor(changed: () => void = () => {}) {
    this.#changed = changed;
  }

  /** Empties it. */
  clear(): void {
    this.overflow = false;
    if (this.#count === 0) return;
    this.#count = 0;
    this.#changed();
  }

  /** Takes over another table. */
  copy(from: AddressTable): void {
    this.#high.set(from.#high);
    this.#low.set(from.#low);
    this.#count = from.#count;
    this.overflow = from.overflow;
    this.#changed();
  }

  /** Appends an address. */
  add(high: number, low: number): void {
    if (this.#count === FILTER_ENTRIES) {
      this.overflow = true;
      return;
    }
    this.#high[this.#count] = high;
    this.#low[this.#count] = low;
    this.#count++;
    this.#changed();
  }

  /** Calls for each address. */
  each(call: (high: number, low: number) => void): void {
    for (let i = 0; i < this.#count; i++) call(this.#high[i]!, this.#low[i]!);
  }

  /** The list as `struct virtio_net_ctrl_mac`. Of one that overflowed the rest is not known: the first stands once more for it. */
  encode(): Uint8Array {
    const entries = this.#count + (this.overflow ? 1 : 0);
    const bytes = new Uint8Array(4 + 6 * entries);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, entries, true);
    for (let i = 0; i < entries; i++) {
      const from = i < this.#count ? i : 0;
      view.setUint16(4 + 6 * i, this.#high[from]!);
      view.setUint32(6 + 6 * i, this.#low[from]!);
    }
    return bytes;
  }

  /** Bytes of the longest list. */
  static readonly mostBytes: number = 4 + 6 * (FILTER_ENTRIES + 1);

  /** Whether an address is in the list. */
  has(high: number, low: number): boolean {
    for (let i = 0; i < this.#count; i++) {
      if (this.#low[i] === low && this.#high[i] === high) return true;
    }
    return false;
  }
}

/** Switches of a filter, in the order of the commands that set them (`NET_CTRL_RX`). */
export const FILTER_MODES = [
  "promiscuous",
  "allMulticast",
  "allUnicast",
  "noMulticast",
  "noUnicast",
  "noBroadcast",
] as const;

/** Receive filter of one port. Addresses are the two numbers of `mac_address.ts`. */
export class ReceiveFilter {
  #macHigh = 0;
  #macLow = 0;
  /** Told when its unicast addresses are others. One may be told. */
  changed: () => void = () => {};
  /** Takes everything. */
  promiscuous = false;
  /** Takes all multicast frames. */
  allMulticast = false;
  /** Takes all unicast frames. */
  allUnicast = false;
  /** Takes no multicast frames, broadcasts apart. */
  noMulticast = false;
  /** Takes no unicast frames. */
  noUnicast = false;
  /** Takes no broadcasts. */
  noBroadcast = false;
  /** Further unicast addresses. */
  readonly unicast: AddressTable = new AddressTable(() => this.changed());
  /** Multicast addresses. */
  readonly multicast: AddressTable = new AddressTable();

  /** First two bytes of the port's own address. */
  get macHigh(): number {
    return this.#macHigh;
  }

  /** Last four bytes of the port's own address. */
  get macLow(): number {
    return this.#macLow;
  }

  /** The port's own address. */
  get mac(): Uint8Array<ArrayBuffer> {
    const { macHigh: high, macLow: low } = this;
    return Uint8Array.of(high >>> 8, high, low >>> 24, low >>> 16, low >>> 8, low);
  }

  /** Changes the port's own address, to six bytes. */
  set mac(mac: Uint8Array) {
    this.#setMac(macHigh(mac, 0), macLow(mac, 0));
  }

  #setMac(high: number, low: number): void {
    if (high === this.#macHigh && low === this.#macLow) return;
    this.#macHigh = high;
    this.#macLow = low;
    this.changed();
  }

  /** As after a device reset: the port's own address, broadcasts, and nothing else. */
  reset(mac: Uint8Array): void {
    this.mac = mac;
    for (const mode of FILTER_MODES) this[mode] = false;
    this.unicast.clear();
    this.multicast.clear();
  }

  /** Takes over another filter. */
  copy(from: ReceiveFilter): void {
    this.#setMac(from.#macHigh, from.#macLow);
    for (const mode of FILTER_MODES) this[mode] = from[mode];
    this.unicast.copy(from.unicast);
    this.multicast.copy(from.multicast);
  }

  /** The unicast address is one of the port's: frames for it go there and nowhere else. */
  owns(high: number, low: number): boolean {
    return (high === this.#macHigh && low === this.#macLow) || this.unicast.has(high, low);
  }

  /** Calls for each unicast address that it owns. */
  eachAddress(call: (high: number, low: number) => void): void {
    call(this.#macHigh, this.#macLow);
    this.unicast.each(call);
  }

  /** Whether a frame to this address is taken. */
  accepts(high: number, low: number): boolean {
    if (this.promiscuous) return true;
    if ((high & 0x100) === 0) {
      if (this.noUnicast) return false;
      return this.allUnicast || this.unicast.overflow || this.owns(high, low);
    }
    if (high === 0xffff && low === 0xffff_ffff) return !this.noBroadcast;
    if (this.noMulticast) return false;
    return this.allMulticast || this.multicast.overflow || this.multicast.has(high, low);
  }
}
