/**
 * How administration queues are used.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { checkTimeout } from "../control/command.ts";

/** Options of administration queues. */
export interface AdminQueueOptions {
  /** How long a command may take, from the call to the answer, in milliseconds. Default 5000; each call may have its own. */
  readonly timeoutMs?: number;
  /** How often a command that is answered with EAGAIN is sent again (N-3.5). Default 8. */
  readonly retries?: number;
  /** Time before the first repetition, in milliseconds, doubled for each one after it. Default 1. */
  readonly backoffMs?: number;
  /** Longest time between two repetitions, in milliseconds. Default 64. */
  readonly maxBackoffMs?: number;
  /** Commands in flight in each queue. Default 32; the queue may have room for fewer. */
  readonly depth?: number;
  /**
   * What keeps commands of one member in order (N-3.6). `serial` (default): the next is sent when the one before is answered. `pipelined`: they are
   * sent at once, into one queue, which the device processes in order; but one that is repeated after EAGAIN comes after those already sent.
   */
  readonly memberOrder?: "serial" | "pipelined";
  /** Pad the device-readable part of legacy register reads to 8 bytes, as N-3.3 has it; others do not. Default false. */
  readonly padReads?: boolean;
  /** Called while a synchronous command spins: for a device that lives in this thread. */
  readonly pump?: () => void;
  /**
   * How many VFs there are now; 0 while VF Enable is clear. Asked before each command to the SR-IOV group, so that none is sent that N-3.7 forbids.
   * Default: not asked, and the device refuses.
   */
  readonly vfCount?: () => number;
}

/** The same with defaults. */
export type AdminSettings =
  & Required<Omit<AdminQueueOptions, "pump" | "vfCount">>
  & Pick<AdminQueueOptions, "pump" | "vfCount">;

/** Fills in defaults. @throws UsageError */
export function adminSettings(options: AdminQueueOptions): AdminSettings {
  const settings: AdminSettings = {
    timeoutMs: checkTimeout(options.timeoutMs ?? 5000),
    retries: options.retries ?? 8,
    backoffMs: options.backoffMs ?? 1,
    maxBackoffMs: options.maxBackoffMs ?? 64,
    depth: options.depth ?? 32,
    memberOrder: options.memberOrder ?? "serial",
    padReads: options.padReads ?? false,
    pump: options.pump,
    vfCount: options.vfCount,
  };
  if (!Number.isInteger(settings.retries) || settings.retries < 0 || settings.retries > 1000) {
    throw new UsageError(`${settings.retries} retries`, { hint: "0 to 1000" });
  }
  if (!(settings.backoffMs >= 0) || !(settings.maxBackoffMs >= 0)) {
    throw new UsageError(`a time of ${settings.backoffMs} to ${settings.maxBackoffMs} ms between retries`);
  }
  if (!Number.isInteger(settings.depth) || settings.depth < 1 || settings.depth > 1024) {
    throw new UsageError(`${settings.depth} administration commands in flight`, { hint: "1 to 1024" });
  }
  return settings;
}
