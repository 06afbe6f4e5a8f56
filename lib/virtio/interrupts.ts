/**
 * Spreads a device's interrupts over its config space and queues (SPEC MSI-X vector configuration; reference 2.2, 7.2, 7.3).
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { UnsupportedError } from "../errors/mod.ts";
import type { InterruptVector } from "../wait/interrupt_vector.ts";
import type { InterruptKind, VirtioTransport } from "./transport/transport.ts";

/**
 * What the caller asks for: MSI-X (PCI, managed devices), MSI (virtio-mmio in the drafts that have it), the interrupt line (`intx`, on any bus), or none.
 * `auto`: the first of them that the device has. Where `msi` cannot be set up after all, the line is used (N-7.3).
 */
export type InterruptChoice = "msix" | "msi" | "intx" | "none" | "auto";

/** Interrupts that are turned on, and who raises which. */
export interface BoundInterrupts {
  /** What is on. */
  readonly kind: InterruptKind;
  /** The vectors, in order; empty for `none`. */
  readonly vectors: readonly InterruptVector[];
  /** To be programmed by `createQueue({vector})`; undefined leaves the queue's vector alone (the line, or none). */
  queueVector(queue: number): number | undefined;
  /** That of a queue where nothing else raises it; else undefined. */
  ownVector(queue: number): InterruptVector | undefined;
  /** True for the vector that config changes raise. */
  carriesConfig(vector: number): boolean;
  /** Vectors that were turned on beyond those of config and queues, ascending. */
  readonly spareVectors: readonly number[];
}

const NAMES = { "msix": "MSI-X", "msi": "MSI", "intx": "interrupt line" } as const;

/**
 * Turns interrupts on and programs the config vector. With MSI-X and MSI: vector 0 for config and one for each queue; with fewer vectors the
 * queues share the second, with one vector all share it.
 * @param queues indices of the queues that will be set up
 * @param spare MSI-X vectors to turn on besides, for what a device type binds to vectors itself; as many as the device has left
 * @throws UnsupportedError when the device has no such interrupt; DeviceError when it refuses the config vector
 */
export function bindInterrupts(
  transport: VirtioTransport,
  choice: InterruptChoice,
  queues: readonly number[],
  spare = 0,
): BoundInterrupts {
  requireType(transport, "object", "bindInterrupts: transport", "name", "interruptCount", "enableInterrupts");
  requireType(queues, "array", "bindInterrupts: queues");
  const kind = choice === "auto" ? best(transport) : choice;
  // Without vectors, nothing is bound to one.
  const unbound = { queueVector: () => undefined, ownVector: () => undefined, spareVectors: [] };
  if (kind === "none") return { ...unbound, kind, vectors: [], carriesConfig: () => false };
  const available = transport.interruptCount(kind);
  if (available === 0) {
    throw new UnsupportedError(`${transport.name} has no ${NAMES[kind]}`, {
      hint: transport.interruptLack ?? 'use interrupts: "auto", or "none" to poll',
    });
  }
  if (kind === "intx") {
    return { ...unbound, kind, vectors: transport.enableInterrupts("intx", 1), carriesConfig: () => true };
  }
  const wanted = 1 + queues.length;
  const count = available >= wanted ? wanted : Math.min(available, 2);
  // A vector of MSI is some source's; which one a device raises for a purpose of its own has no number.
  const spareCount = kind === "msix" ? Math.min(spare, available - count) : 0;
  let vectors: readonly InterruptVector[];
  try {
    vectors = transport.enableInterrupts(kind, count + spareCount);
  } catch (error) {
    // N-7.3: somebody else has taken the messages meanwhile.
    if (kind !== "msi" || transport.interruptCount("intx") === 0) throw error;
    return bindInterrupts(transport, "intx", queues);
  }
  try {
    transport.setConfigVector(0);
  } catch (error) {
    transport.disableInterrupts();
    throw error;
  }
  const place = (queue: number) => count === wanted ? 1 + queues.indexOf(queue) : count - 1;
  const spareVectors = Array.from({ length: spareCount }, (_, i) => count + i);
  return {
    get kind() {
      return transport.interruptKind ?? kind;
    },
    vectors,
    queueVector: place,
    ownVector: (queue) => count === wanted ? vectors[place(queue)] : undefined,
    carriesConfig: (vector) => vector === 0,
    spareVectors,
  };
}

function best(transport: VirtioTransport): "msix" | "msi" | "intx" | "none" {
  return (["msix", "msi", "intx"] as const).find((kind) => transport.interruptCount(kind) > 0) ?? "none";
}
