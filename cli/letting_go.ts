/**
 * A function that is asked for back while a command has it open.
 *
 * @module
 */
import { RemovalRequestedError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { instead } from "../lib/trace/instead.ts";
import { isPciDevice } from "../lib/vfio/pci_device.ts";

/** What a command may open, and why it had to let go of it. */
export interface LettingGo {
  /** The same host. */
  readonly host: Host;
  /** Who asked for the first function that was asked for; undefined as long as nobody has. */
  readonly reason: Error | undefined;
}

/**
 * The same host; what is opened on it is closed at the moment that somebody asks for it. The kernel waits for that alone, and a function that is closed is
 * stopped and reset by it: all that a command does in order afterwards, other functions and its own end keep nobody waiting.
 * @param onAsked told why, after it is closed
 */
export function lettingGo(host: Host, onAsked?: (why: Error) => void): LettingGo {
  let reason: Error | undefined;
  return {
    host: instead(host, {
      open: (address, options) => {
        const device = host.open(address, options);
        if (isPciDevice(device)) {
          device.onRemovalRequested(() => {
            const cause = device.lifeline!.reason();
            device.close();
            const why = new RemovalRequestedError(cause.message, { hint: "it was closed at once", cause });
            reason ??= why;
            onAsked?.(why);
          });
        }
        return device;
      },
    }),
    get reason() {
      return reason;
    },
  };
}
