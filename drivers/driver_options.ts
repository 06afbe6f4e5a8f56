/**
 * What every driver can be told.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import type { RingOptions } from "../lib/virtio/features.ts";
import type { InterruptChoice } from "../lib/virtio/interrupts.ts";
import type { WaitMode } from "../lib/wait/waiter.ts";

/** How a device is opened, whatever its type. Ring features are accepted when offered, unless turned off (`RingOptions`). */
export interface DriverOptions extends RingOptions {
  /** Default `auto`: MSI-X, else MSI, else the interrupt line, else polling. */
  readonly interrupts?: InterruptChoice;
  /** How waits wait. Default `adaptive`, or `poll` without interrupts. */
  readonly wait?: WaitMode;
  /** How long an adaptive wait spins, in microseconds. Default 50. */
  readonly spinMicroseconds?: number;
  /** How long a reset of the device may take, in milliseconds. Default: the transport's. */
  readonly resetTimeoutMs?: number;
  /** Feature bits that are not accepted, whatever the rest says. */
  readonly refusedFeatures?: bigint;
}

/** A number that an option may have. @param what it counts, for messages @throws UsageError */
export function checkCount(name: string, what: string, value: number, least: number, most: number): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw new UsageError(`${name}: ${value} ${what}`, { hint: `${least} to ${most}` });
}
