/**
 * Where the BARs of emulated functions lie on their bus, as firmware would have placed them.
 *
 * Nothing is ever accessed at these addresses; they are what `resource` and config space show.
 *
 * @module
 */
import { ExhaustedError } from "../errors/mod.ts";
import type { AssignedBar } from "./function_config.ts";
import type { BarDeclaration } from "./pci_function.ts";

/** One line of the `resource` attribute. */
export interface KernelResource {
  /** First bus address. */
  readonly start: bigint;
  /** Size in bytes; 0: the line reads all zero. */
  readonly sizeBytes: bigint;
  /** IORESOURCE_* flags (linux/ioport.h), the low four as in the BAR. */
  readonly flags: number;
}

/** IORESOURCE_* flags that BARs have. */
const RESOURCE_FLAG = {
  io: 0x100,
  memory: 0x200,
  prefetch: 0x2000,
  sizeAligned: 0x40000,
  memory64: 0x100000,
} as const;

const WINDOWS = {
  io: { start: 0xc000n, end: 0x10000n },
  mem32: { start: 0xe000_0000n, end: 0xfec0_0000n },
  mem64: { start: 0x38_0000_0000n, end: 0x80_0000_0000n },
} as const;

/** Hands bus addresses out, upwards, each a multiple of the BAR's size. */
export class BusAddresses {
  readonly #next: Record<BarDeclaration["kind"], bigint> = {
    io: WINDOWS.io.start,
    mem32: WINDOWS.mem32.start,
    mem64: WINDOWS.mem64.start,
  };

  /**
   * Places BARs, each `copies` times back to back (as VF BARs lie).
   * @throws ExhaustedError when the window of a kind is full
   */
  assign(bars: readonly BarDeclaration[], copies = 1): AssignedBar[] {
    return bars.map((bar) => {
      const size = BigInt(bar.sizeBytes);
      const address = (this.#next[bar.kind] + size - 1n) / size * size;
      const end = address + size * BigInt(copies);
      if (end > WINDOWS[bar.kind].end) {
        throw new ExhaustedError(`no bus addresses left for ${copies} × ${size} bytes of ${bar.kind}`, {
          hint: "the topology has too many or too large functions",
        });
      }
      this.#next[bar.kind] = end;
      return { bar, address };
    });
  }
}

/** Lines of `resource` for six BARs; `copies` as in `assign`. */
export function barResources(bars: readonly AssignedBar[], copies = 1): KernelResource[] {
  const lines: KernelResource[] = new Array(6).fill({ start: 0n, sizeBytes: 0n, flags: 0 });
  for (const { bar, address } of bars) {
    lines[bar.index] = { start: address, sizeBytes: BigInt(bar.sizeBytes * copies), flags: flagsOf(bar) };
  }
  return lines;
}

function flagsOf({ kind, prefetchable }: BarDeclaration): number {
  if (kind === "io") return RESOURCE_FLAG.io | RESOURCE_FLAG.sizeAligned | 1;
  const wide = kind === "mem64" ? RESOURCE_FLAG.memory64 | 4 : 0;
  const prefetch = prefetchable ? RESOURCE_FLAG.prefetch | 8 : 0;
  return RESOURCE_FLAG.memory | RESOURCE_FLAG.sizeAligned | wide | prefetch;
}
