/**
 * `--trace FILE`: all functions that a command opens, recorded in one file.
 *
 * @module
 */
import { O, OwnedFd, writeAll } from "../ffi/mod.ts";
import { UnsupportedError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import { traced, traceHeader, traceLine } from "../lib/trace/mod.ts";
import { instead } from "../lib/trace/instead.ts";

/**
 * The same host; what is opened on it is traced. Each record is in the file before the driver goes on, so that a trace is whole to its last access
 * whatever becomes of the process. @throws SyscallError for a file that cannot be written
 */
export function tracedHost(host: Host, path: string, stack: DisposableStack): Host {
  let file: OwnedFd | undefined;
  const encoder = new TextEncoder();
  const append = (line: string) => writeAll(file!, encoder.encode(line));
  const begin = () => {
    if (file !== undefined) return;
    file = stack.use(OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC));
    append(traceHeader());
  };
  const sink = (record: Parameters<typeof traceLine>[0]) => append(traceLine(record));
  return instead(host, {
    open: (address, options) => {
      const device = host.open(address, options);
      try {
        // A command that opens nothing has nothing to be traced, and leaves what was there.
        begin();
        return traced(device, sink);
      } catch (error) {
        device.close();
        throw error;
      }
    },
    ...(host.openVhostUser === undefined ? {} : {
      openVhostUser: () => {
        throw new UnsupportedError(`${host.name} has no registers that could be traced`, {
          hint: "a vhost-user device is reached by messages",
        });
      },
    }),
  });
}
