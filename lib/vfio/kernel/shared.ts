/**
 * What several open functions have in common within this process.
 *
 * @module
 */
import type { KernelCalls } from "./kernel_calls.ts";

interface Counted<T> {
  readonly value: T;
  users: number;
}

/** Things by number (that of an IOMMU group, mostly), each counted by its users: the last one closes it. */
export class Shared<T extends { close(): void }> {
  readonly #kernels = new WeakMap<KernelCalls, Map<number, Counted<T>>>();

  /** Counts one more user of what is there, or of what `open` makes. @throws what `open` throws */
  acquire(kernel: KernelCalls, number: number, open: () => T): T {
    let all = this.#kernels.get(kernel);
    if (all === undefined) this.#kernels.set(kernel, all = new Map());
    let one = all.get(number);
    if (one === undefined) all.set(number, one = { value: open(), users: 0 });
    one.users++;
    return one.value;
  }

  /** What has this number now. */
  find(kernel: KernelCalls, number: number): T | undefined {
    return this.#kernels.get(kernel)?.get(number)?.value;
  }

  /** Counts one user less. */
  release(kernel: KernelCalls, number: number): void {
    const all = this.#kernels.get(kernel);
    const one = all?.get(number);
    if (one === undefined || --one.users > 0) return;
    all!.delete(number);
    one.value.close();
  }
}
