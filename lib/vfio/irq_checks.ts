/**
 * Requests about interrupts: what is checked of one, and what it is in SET_IRQS, whoever carries it out.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../errors/mod.ts";
import { DEVICE_FLAG, IRQ_FLAG, IRQ_SET, type IrqInfo, type IrqRequest, type VfioDevice } from "./device.ts";

const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IRQ_SET;
const ACTION = {
  disable: actionTrigger,
  trigger: actionTrigger,
  fire: actionTrigger,
  mask: actionMask,
  unmask: actionUnmask,
  "unmask-on": actionUnmask,
} as const;

/** Names of a PCI function's interrupt indices; those of a platform device are numbers. */
const PCI_IRQ_NAMES: readonly string[] = ["INTx", "MSI", "MSI-X", "error", "request"];

/** Whose interrupts they are. */
export type IrqOwner = Pick<VfioDevice, "name" | "info">;

/** The kind of interrupt that an index is, for messages. */
export function irqKind({ info }: IrqOwner, index: number): string {
  const names = (info.flags & DEVICE_FLAG.pci) !== 0 ? PCI_IRQ_NAMES : [];
  return names[index] ?? `interrupt index ${index}`;
}

/** The same behind its owner's name. */
export function irqName(owner: IrqOwner, index: number): string {
  return `${owner.name} ${irqKind(owner, index)}`;
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
 * @throws UsageError, UnsupportedError
 */
export function irqRange(owner: IrqOwner, info: IrqInfo, request: IrqRequest): IrqRange {
  const action = ACTION[request.action];
  if (request.action === "disable") return { flags: dataNone | action, start: 0, count: 0 };
  if (action !== actionTrigger) requireMaskable(owner, info);
  const { start } = request;
  const some = "which" in request ? request.which : "eventFds" in request ? request.eventFds : undefined;
  const count = some?.length ?? ("count" in request ? request.count : 1);
  requireVectors(owner, info, start, count);
  const data = "which" in request ? dataBool : "count" in request ? dataNone : dataEventfd;
  return { flags: data | action, start, count };
}

function requireVectors(owner: IrqOwner, info: IrqInfo, start: number, count: number): void {
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(count);
  if (whole && start >= 0 && count >= 1 && start + count <= info.count) return;
  throw new UsageError(
    `${irqName(owner, info.index)}: vectors [${start}, +${count}) are not among its ${info.count}`,
  );
}

function requireMaskable(owner: IrqOwner, info: IrqInfo): void {
  if ((info.flags & IRQ_FLAG.maskable) !== 0) return;
  const isPci = (owner.info.flags & DEVICE_FLAG.pci) !== 0;
  throw new UnsupportedError(
    `${irqName(owner, info.index)} cannot be masked: ${
      isPci ? "only INTx is maskable through VFIO" : "only a line by level is maskable through VFIO"
    }`,
    { hint: "let the driver suppress the interrupt in its queues instead" },
  );
}
