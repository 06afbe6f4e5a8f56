/**
 * Writes of a modern driver to `device_status`, other than resets (virtio 1.2 §3.1.1; reference 1.1).
 *
 * @module
 */
import { describeStatus, STATUS } from "../../../virtio/constants/status.ts";
import type { CommonRegisters } from "../views/pci/common.ts";
import { stepStatus } from "./status.ts";

/** What the status is about. */
export interface FrontStatusHost {
  /** The state of the function. */
  readonly registers: CommonRegisters;
  /** What is wrong with a set of accepted features; undefined when nothing is. */
  featureProblem(accepted: bigint): string | undefined;
  /** DRIVER_OK: the driver uses the device from now on. */
  start(): void;
  /** A wrong access that does no more harm than to be ignored. */
  report(rule: string, message: string, queue?: number): void;
}

/** Takes `value`, which is not 0, as far as the order of the bits and the features allow. */
export function advanceStatus(host: FrontStatusHost, value: number): void {
  const { registers } = host;
  const before = registers.status;
  const step = stepStatus(before, value);
  for (const problem of step.problems) host.report("1.1", problem);
  let { status } = step;
  if ((status & ~before & STATUS.featuresOk) !== 0) {
    const problem = host.featureProblem(registers.driverFeatures);
    if (problem !== undefined) {
      host.report("1.2", `FEATURES_OK refused: ${problem}`);
      status &= ~STATUS.featuresOk;
    }
  }
  registers.status = status;
  const added = status & ~before;
  if ((added & STATUS.acknowledge) !== 0) registers.clearStates();
  if ((added & STATUS.featuresOk) !== 0) {
    for (const queue of registers.queues) queue.chooseLayout(registers.packed);
  }
  if ((added & STATUS.driverOk) === 0) return;
  if (registers.keepsState) {
    for (const index of registers.queuesWithoutState()) {
      host.report("N-6.1", "DRIVER_OK was set before the state of the queue", index);
    }
  }
  // After a violation the device stays as it is until it is reset.
  if ((status & (STATUS.deviceNeedsReset | STATUS.failed)) === 0) host.start();
  else host.report("1.1", `DRIVER_OK in status ${describeStatus(before)}`);
}
