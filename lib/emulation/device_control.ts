/**
 * What may be done to a device from outside while a driver runs, as a person would to hardware: pull its cable, plug a port, make it fail.
 *
 * @module
 */
import { UsageError } from "../errors/mod.ts";

/** One thing that can be looked at or changed, by its name a file of `/ringside/functions/<address>`. */
export interface DeviceControl {
  /** How it is now. Absent: there is nothing to look at. */
  read?(): string;
  /** Changes it; one word or several. @throws UsageError for what cannot be, with nothing changed; SyscallError */
  write(value: string): void;
}

/** All of a device, by name: lower case letters and hyphens. */
export type DeviceControls = Readonly<Record<string, DeviceControl>>;

/** A control that is one of two words. @param set with true for the first */
export function either(
  words: readonly [string, string],
  get: () => boolean,
  set: (first: boolean) => void,
): DeviceControl {
  return {
    read: () => words[get() ? 0 : 1],
    write(value) {
      if (!words.includes(value)) {
        throw new UsageError(`${JSON.stringify(value)} is neither ${words[0]} nor ${words[1]}`);
      }
      set(value === words[0]);
    },
  };
}
