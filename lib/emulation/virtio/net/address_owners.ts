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
  readonly #owners = new Map<number, P[]>();
  readonly #addresses = new Map<P, ReadonlySet<number>>();

  /** Ports that have the address, in their order. */
  of(high: number, low: number): readonly P[] {
    return this.#owners.get(key(high, low)) ?? NOBODY;
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
    const owners = this.#owners.get(address);
    if (owners === undefined) this.#owners.set(address, [port]);
    else {
      const after = owners.findIndex(({ order }) => order > port.order);
      owners.splice(after < 0 ? owners.length : after, 0, port);
    }
  }

  #leave(port: P, address: number): void {
    const owners = this.#owners.get(address)!;
    if (owners.length === 1) this.#owners.delete(address);
    else owners.splice(owners.indexOf(port), 1);
  }
}

/** 48 bits. */
function key(high: number, low: number): number {
  return (high & 0xffff) * 0x1_0000_0000 + (low >>> 0);
}
