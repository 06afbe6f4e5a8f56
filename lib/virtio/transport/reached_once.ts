/**
 * One transport for each device at a time: a second one would reset what the first one drives, and again when it is closed.
 *
 * @module
 */
import { RefusedError } from "../../errors/mod.ts";
import type { VirtioTransport } from "./transport.ts";

/** Which transport reaches a device; one that is closed does not any more. */
const HOLDERS = new WeakMap<object, VirtioTransport>();

/**
 * Opens the only transport of a device.
 * @param device what is opened: a function, a register window, a socket @param open what may fail, with nothing left behind
 * @throws RefusedError naming the transport that reaches it already; what `open` throws
 */
export function reachedOnce<T extends VirtioTransport>(device: { readonly name: string }, open: () => T): T {
  const holder = HOLDERS.get(device);
  if (holder !== undefined && !holder.closed) {
    throw new RefusedError(
      `${device.name} is reached already, by a transport of kind ${holder.kind} of this program`,
      { hint: "use that one, or close it first: a second one would reset the device underneath it" },
    );
  }
  const opened = open();
  HOLDERS.set(device, opened);
  return opened;
}
