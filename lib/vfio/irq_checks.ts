/**
 * Requests about interrupts: what is checked of one, and what it is in SET_IRQS, whoever carries it out.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../errors/mod.ts";
import { IRQ_FLAG, IRQ_SET, type IrqInfo, type IrqRequest } from "./device.ts";

const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IRQ_SET;
const ACTION = {
  disable: actionTrigger,
  trigger: actionTrigger,
  fire: actionTrigger,
  mask: actionMask,
  unmask: actionUnmask,
  "unmask-on": actionUnmask,
} as const;

/** Names of a PCI function's interrupt indices. */
export const IRQ_NAMES: readonly string[] = ["INTx", "MSI", "MSI-X", "error", "request"];

/** For messages. @param name the function */
export function irqName(name: string, index: number): string {
  return `${name} ${IRQ_NAMES[index] ?? `interrupt index ${index}`}`;
}

/** The fixed part of SET_IRQS. */
export interface IrqRange {
  /** `IRQ_SET` bits. */
  readonly flags: number;
  /** First vector. */
  readonly start: number;
  /** Vectors; 0: the whole index is turned off. */
  readonly count: number;
}

/**
 * What a request is in SET_IRQS, checked against what is known of its index.
 * @param name the function @throws UsageError, UnsupportedError
 */
export function irqRange(name: string, info: IrqInfo, request: IrqRequest): IrqRange {
  const action = ACTION[request.action];
  if (request.action === "disable") return { flags: dataNone | action, start: 0, count: 0 };
  if (action !== actionTrigger) requireMaskable(name, info);
  const { start } = request;
  const some = "which" in request ? request.which : "eventFds" in request ? request.eventFds : undefined;
  const count = some?.length ?? ("count" in request ? request.count : 1);
  requireVectors(name, info, start, count);
  const data = "which" in request ? dataBool : "count" in request ? dataNone : dataEventfd;
  return { flags: data | action, start, count };
}

function requireVectors(name: string, info: IrqInfo, start: number, count: number): void {
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(count);
  if (whole && start >= 0 && count >= 1 && start + count <= info.count) return;
  throw new UsageError(
    `${irqName(name, info.index)}: vectors [${start}, +${count}) are not among its ${info.count}`,
  );
}

function requireMaskable(name: string, info: IrqInfo): void {
  if ((info.flags & IRQ_FLAG.maskable) !== 0) return;
  throw new UnsupportedError(
    `${irqName(name, info.index)} cannot be masked: only INTx is maskable through VFIO`,
    { hint: "let the driver suppress the interrupt in its queues instead" },
  );
}
