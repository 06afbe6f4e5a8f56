/**
 * What is checked of a request about interrupts, whoever carries it out.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../errors/mod.ts";
import { IRQ_FLAG, type IrqInfo } from "./device.ts";

/** Names of a PCI function's interrupt indices. */
export const IRQ_NAMES: readonly string[] = ["INTx", "MSI", "MSI-X", "error", "request"];

/** For messages. @param name the function */
export function irqName(name: string, index: number): string {
  return `${name} ${IRQ_NAMES[index] ?? `interrupt index ${index}`}`;
}

/** @throws UsageError when an index has no such vectors */
export function requireVectors(name: string, info: IrqInfo, start: number, count: number): void {
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(count);
  if (whole && start >= 0 && count >= 1 && start + count <= info.count) return;
  throw new UsageError(
    `${irqName(name, info.index)}: vectors [${start}, +${count}) are not among its ${info.count}`,
  );
}

/** @throws UnsupportedError when an index cannot be masked */
export function requireMaskable(name: string, info: IrqInfo): void {
  if ((info.flags & IRQ_FLAG.maskable) !== 0) return;
  throw new UnsupportedError(
    `${irqName(name, info.index)} cannot be masked: only INTx is maskable through VFIO`,
    { hint: "let the driver suppress the interrupt in its queues instead" },
  );
}
