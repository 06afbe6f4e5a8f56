/**
 * DMA memory that several functions can reach at the same addresses, so that a driver can go from one to another.
 *
 * @module
 */
import type { MappedMemory, OwnedFd } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { ExhaustedError, UsageError } from "../errors/mod.ts";
import { type DmaAccess, type DmaMapper, DmaSpace } from "./dma.ts";
import type { IovaRange, IovaRequest } from "./iova.ts";

/** IOVAs of one function that are tried for memory that another must reach, too. */
const TRIES = 64;

/**
 * Memory of all functions that are attached to it. Each function's own `DmaSpace` goes on as before beside it, with other addresses, so a function
 * whose IOMMU context has other users can be attached, too.
 *
 * The spaces belong to their functions. Memory outlives a function that is detached, and one that is closed.
 */
export class SharedDmaSpace extends DmaSpace {
  static {
    typedErrors(this);
  }

  readonly #fan: Fan;

  /** With one function. What is behind the memory (a file or not) is what this one needs. */
  constructor(first: DmaSpace) {
    const fan = new Fan(first);
    super(fan);
    this.#fan = fan;
  }

  /** Functions that reach the memory. */
  get attached(): readonly DmaSpace[] {
    return this.#fan.spaces;
  }

  /**
   * Makes all memory that is allocated here reachable for another function, at the addresses that it has. A failure leaves nothing attached.
   * @throws ExhaustedError (an address is in use there, or cannot be), UnsupportedError (it needs files behind memory, and there are none), SyscallError,
   * UsageError (it is attached already), ClosedError
   */
  attach(space: DmaSpace): void {
    const { spaces } = this.#fan;
    if (spaces.includes(space)) throw new UsageError(`${space.mapper.name} is attached already`);
    const done: bigint[] = [];
    try {
      for (const [{ iova, memory, sizeBytes }, backing] of this.live) {
        space.reserveIova(iova, sizeBytes);
        done.push(iova);
        space.lend(memory, backing, iova);
      }
    } catch (error) {
      for (const iova of done.reverse()) letGo(space, iova);
      throw error;
    }
    spaces.push(space);
  }

  /**
   * Takes all memory away from a function. What its kernel or peer no longer knows is let go of silently.
   * @throws UsageError for the last one, and for one that is not attached
   */
  detach(space: DmaSpace): void {
    const { spaces } = this.#fan;
    const at = spaces.indexOf(space);
    if (at < 0) throw new UsageError(`${space.mapper.name} is not attached`);
    if (spaces.length === 1) {
      throw new UsageError(`${space.mapper.name} is the last function that reaches this memory`, {
        hint: "attach another first, or close the space",
      });
    }
    spaces.splice(at, 1);
    for (const { iova } of this.live.keys()) letGo(space, iova);
  }

  /** An address that is free for all. */
  protected override takeIova(sizeBytes: number, request: IovaRequest): bigint {
    const [first, ...others] = this.#fan.spaces as [DmaSpace, ...DmaSpace[]];
    const refused: bigint[] = [];
    try {
      for (let tries = 0; tries < TRIES; tries++) {
        const iova = first.reserveAnyIova(sizeBytes, request);
        refused.push(iova);
        if (!reserveAll(others, iova, sizeBytes)) continue;
        refused.pop();
        return iova;
      }
    } finally {
      for (const iova of refused) first.releaseIova(iova);
    }
    throw new ExhaustedError(`no IOVA range of ${sizeBytes} bytes is free for ${this.#fan.name}`);
  }

  /** Gives it back everywhere. */
  protected override giveIova(iova: bigint): void {
    for (const space of this.#fan.spaces) space.releaseIova(iova);
  }
}

/** @returns false when it is not free for all; then it is kept nowhere */
function reserveAll(spaces: readonly DmaSpace[], iova: bigint, sizeBytes: number): boolean {
  for (let i = 0; i < spaces.length; i++) {
    try {
      spaces[i]!.reserveIova(iova, sizeBytes);
    } catch (error) {
      for (let j = 0; j < i; j++) spaces[j]!.releaseIova(iova);
      if (error instanceof ExhaustedError || error instanceof UsageError) return false;
      throw error;
    }
  }
  return true;
}

function letGo(space: DmaSpace, iova: bigint): void {
  try {
    space.takeBack(iova);
  } catch {
    // The function is going away with its mappings.
  }
  space.releaseIova(iova);
}

/** The IOMMUs of all. */
class Fan implements DmaMapper {
  readonly spaces: DmaSpace[];
  readonly needsFile: boolean;

  constructor(first: DmaSpace) {
    requireType(first, "object", "new SharedDmaSpace: first", "mapper");
    this.spaces = [first];
    this.needsFile = first.mapper.needsFile;
  }

  get name(): string {
    return this.spaces.map(({ mapper }) => mapper.name).join(" and ");
  }

  /** Where the first is free; what the others say is found out for each address. */
  get iovaRanges(): readonly IovaRange[] {
    return this.spaces[0]!.mapper.iovaRanges;
  }

  get pageSizes(): bigint {
    return this.spaces[0]!.mapper.pageSizes;
  }

  mapDma(
    memory: MappedMemory,
    file: OwnedFd | null,
    iova: bigint,
    _sizeBytes: number,
    access: DmaAccess,
  ): void {
    const { spaces } = this;
    for (let i = 0; i < spaces.length; i++) {
      try {
        spaces[i]!.lend(memory, { file, access }, iova);
      } catch (error) {
        // `allocate` gives the address back.
        for (let j = 0; j < i; j++) spaces[j]!.takeBack(iova);
        throw error;
      }
    }
  }

  /** Everywhere, whatever one of them says. */
  unmapDma(iova: bigint, _sizeBytes: number): void {
    let failure: { readonly error: unknown } | undefined;
    for (const space of this.spaces) {
      try {
        space.takeBack(iova);
      } catch (error) {
        failure ??= { error };
      }
    }
    if (failure !== undefined) throw failure.error;
  }
}
