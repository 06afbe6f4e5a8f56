/** A process that serves the default emulated host from the directory that it is given, until SIGTERM. */
import { serveEmulatedHost } from "../../../lib/emulation/mod.ts";

const [directory = ""] = Deno.args;
const stop = new AbortController();
Deno.addSignalListener("SIGTERM", () => stop.abort());
await serveEmulatedHost({ directory, signal: stop.signal });
Deno.exit(0);
