/**
 * A function of an emulated machine, opened without a socket: driver and device in one process and one thread.
 *
 * Only for measuring: it skips the vfio-user protocol, and the device does nothing but when it is polled.
 *
 * @module
 */
import { MappedMemory, type OwnedFd } from "../ffi/mod.ts";
import type { EmulatedFunction } from "../lib/emulation/emulated_function.ts";
import { ClosedError, UnsupportedError } from "../lib/errors/mod.ts";
import { type DmaAccess, type DmaMapper, DmaSpace } from "../lib/memory/mod.ts";
import type { IrqInfo, RegionInfo, VfioDevice, VfioDeviceInfo } from "../lib/vfio/mod.ts";
import { DmaRegion, DmaTable } from "../lib/sockets/dma_table.ts";

/** See the module. */
export class InProcessFunction implements VfioDevice, DmaMapper {
  readonly name: string;
  readonly path = "vfio-user";
  readonly info: VfioDeviceInfo;
  readonly dma: DmaSpace;
  readonly iovaRanges = [{ start: 0x1000n, last: 0xffff_ffffn }];
  readonly pageSizes = 0x1000n;
  /** Each side has a mapping of its own, as two processes have. */
  readonly needsFile = true;
  readonly #function: EmulatedFunction;
  readonly #table = new DmaTable();
  #closed = false;

  /** Attaches to a function that nobody uses; the function stays the machine's. */
  constructor(one: EmulatedFunction) {
    this.#function = one;
    this.name = one.name;
    this.info = one.info;
    this.dma = new DmaSpace(this);
    one.attached(this.#table);
  }

  get closed(): boolean {
    return this.#closed;
  }

  regionInfo(index: number): RegionInfo {
    // Nothing is offered for mapping: each register access is a call.
    return { ...this.#live().region(index), mmapAreas: [] };
  }

  irqInfo(index: number): IrqInfo {
    return this.#live().irq(index);
  }

  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#live().readRegion(index, offset, into);
  }

  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#live().writeRegion(index, offset, from);
  }

  mapRegion(): MappedMemory {
    throw new UnsupportedError(`${this.name}: no region can be mapped in one process`);
  }

  doorbellFd(): undefined {
    return undefined;
  }

  setIrqs(): void {
    throw new UnsupportedError(`${this.name}: who polls needs no interrupts`);
  }

  reset(): void {
    this.#live().reset();
  }

  probeFeature(): boolean {
    return false;
  }

  mapDma(
    _memory: MappedMemory,
    file: OwnedFd | null,
    iova: bigint,
    sizeBytes: number,
    access: DmaAccess,
  ): void {
    this.#table.add(new DmaRegion(iova, MappedMemory.map(file!, sizeBytes), access));
  }

  unmapDma(iova: bigint, sizeBytes: number): void {
    if (!this.#closed) this.#function.dmaWillUnmap(iova, sizeBytes);
    this.#table.remove(iova, BigInt(sizeBytes));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#function.detached();
    this.dma.close();
    this.#table.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #live(): EmulatedFunction {
    if (this.#closed) throw new ClosedError(this.name);
    return this.#function;
  }
}
