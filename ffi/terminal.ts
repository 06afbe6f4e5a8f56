/**
 * How the terminal of standard input is set.
 *
 * @module
 */
import { libc } from "./libc.ts";

/** Bytes of struct termios with glibc, on x86-64 and AArch64. */
const TERMIOS_BYTES = 60;
const STANDARD_INPUT = 0, AFTER_OUTPUT = 1;

/** The terminal's settings, to be put back later; undefined when standard input is none. */
export function terminalSettings(): Uint8Array<ArrayBuffer> | undefined {
  const settings = new Uint8Array(TERMIOS_BYTES);
  return libc.tcgetattr(STANDARD_INPUT, settings) === 0 ? settings : undefined;
}

/** Puts settings back, when what was printed has gone out. A terminal that is gone needs none. */
export function putBackTerminal(settings: Uint8Array<ArrayBuffer> | undefined): void {
  if (settings?.length === TERMIOS_BYTES) libc.tcsetattr(STANDARD_INPUT, AFTER_OUTPUT, settings);
}
