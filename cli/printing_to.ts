/**
 * Commands whose output goes to their caller, side by side in one process.
 *
 * @module
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { type Output, outputIsHandedBy } from "./output.ts";

const handed = new AsyncLocalStorage<Output>();
outputIsHandedBy(() => handed.getStore());

/** Does `work` with all that it prints going to `output`, which is no terminal. */
export function printingTo<T>(output: Output, work: () => T): T {
  return handed.run(output, work);
}
