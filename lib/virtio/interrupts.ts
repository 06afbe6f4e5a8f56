/**
 * Spreads a device's interrupts over its config space and queues (SPEC MSI-X vector configuration; reference 2.2).
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { UnsupportedError } from "../errors/mod.ts";
import type { InterruptVector } from "../wait/interrupt_vector.ts";
import type { InterruptKind, VirtioTransport } from "./transport/transport.ts";

/** What the caller asks for. `auto`: MSI-X, else INTx, else none. */
export type InterruptChoice = "msix" | "intx" | "none" | "auto";

/** Interrupts that are turned on, and who raises which. */
export interface BoundInterrupts {
  /** What was turned on. */
  readonly kind: InterruptKind;
  /** The vectors, in order; empty for `none`. */
  readonly vectors: readonly InterruptVector[];
  /** To be programmed by `createQueue({vector})`; undefined leaves the queue's vector alone (no MSI-X). */
  queueVector(queue: number): number | undefined;
  /** True for the vector that config changes raise. */
  carriesConfig(vector: number): boolean;
  /** Vectors that were turned on beyond those of config and queues, ascending. */
  readonly spareVectors: readonly number[];
}

/**
 * Turns interrupts on and programs the config vector. With MSI-X: vector 0 for config and one for each queue; with fewer vectors the
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
  // Without MSI-X, nothing is bound to a vector.
  const unbound = { kind, queueVector: () => undefined, spareVectors: [] };
  if (kind === "none") return { ...unbound, vectors: [], carriesConfig: () => false };
  const available = transport.interruptCount(kind);
  if (available === 0) {
    throw new UnsupportedError(`${transport.name} has no ${kind === "msix" ? "MSI-X" : "INTx"}`, {
      hint: transport.interruptLack ?? 'use interrupts: "auto", or "none" to poll',
    });
  }
  if (kind === "intx") {
    return { ...unbound, vectors: transport.enableInterrupts("intx", 1), carriesConfig: () => true };
  }
  const wanted = 1 + queues.length;
  const count = available >= wanted ? wanted : Math.min(available, 2);
  const spareCount = Math.min(spare, available - count);
  const vectors = transport.enableInterrupts("msix", count + spareCount);
  try {
    transport.setConfigVector(0);
  } catch (error) {
    transport.disableInterrupts();
    throw error;
  }
  const place = (queue: number) => count === wanted ? 1 + queues.indexOf(queue) : count - 1;
  const spareVectors = Array.from({ length: spareCount }, (_, i) => count + i);
  return { kind, vectors, queueVector: place, carriesConfig: (vector) => vector === 0, spareVectors };
}

function best(transport: VirtioTransport): "msix" | "intx" | "none" {
  if (transport.interruptCount("msix") > 0) return "msix";
  return transport.interruptCount("intx") > 0 ? "intx" : "none";
}
