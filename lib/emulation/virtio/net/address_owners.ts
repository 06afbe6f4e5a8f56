/**
 * Which ports of a switch have a unicast address.
 *
 * @module
 */
import type { ReceiveFilter } from "./filter.ts";

const NOBODY: readonly never[] = [];

/**
 * Kept as the ports' filters change, so that a frame for one of a thousand ports is not offered to all of them. What it says of a port may have been so
 * under another of the port's filters: whoever asks looks at the one that counts now.
 */
export class AddressOwners<P extends { readonly order: number }> {
  /** By the last four bytes, then by the first two: a number of 48 bits would be made anew for each look. */
  readonly #owners = new Map<number, Map<number, P[]>>();
  /** Addresses of 48 bits. */
  readonly #addresses = new Map<P, ReadonlySet<number>>();

  /** Ports that have the address, in their order. */
  of(high: number, low: number): readonly P[] {
    return this.#owners.get(low | 0)?.get(high & 0xffff) ?? NOBODY;
  }

  /** A port has the addresses of these filters from now on, and no others. */
  set(port: P, filters: readonly ReceiveFilter[]): void {
    const now = new Set<number>();
    for (const filter of filters) filter.eachAddress((high, low) => now.add(key(high, low)));
    const before = this.#addresses.get(port);
    this.#addresses.set(port, now);
    for (const address of before ?? NOBODY) if (!now.has(address)) this.#leave(port, address);
    for (const address of now) if (!before?.has(address)) this.#enter(port, address);
  }

  /** A port is gone. */
  delete(port: P): void {
    for (const address of this.#addresses.get(port) ?? NOBODY) this.#leave(port, address);
    this.#addresses.delete(port);
  }

  #enter(port: P, address: number): void {
    const low = lowOf(address), high = highOf(address);
    let byHigh = this.#owners.get(low);
    if (byHigh === undefined) this.#owners.set(low, byHigh = new Map());
    const owners = byHigh.get(high);
    if (owners === undefined) byHigh.set(high, [port]);
    else {
      const after = owners.findIndex(({ order }) => order > port.order);
      owners.splice(after < 0 ? owners.length : after, 0, port);
    }
  }

  #leave(port: P, address: number): void {
    const low = lowOf(address), high = highOf(address);
    const byHigh = this.#owners.get(low)!;
    const owners = byHigh.get(high)!;
    if (owners.length > 1) {
      owners.splice(owners.indexOf(port), 1);
      return;
    }
    byHigh.delete(high);
    if (byHigh.size === 0) this.#owners.delete(low);
  }
}

/** First two bytes of an address. */
/** As a small integer of the engine's. */
function lowOf(mac: number): number {
  return mac | 0;
}

function highOf(address: number): number {
  return Math.floor(address / 0x1_0000_0000);
}

/** 48 bits. */
function key(high: number, low: number): number {
  return (high & 0xffff) * 0x1_0000_0000 + (low >>> 0);
}
