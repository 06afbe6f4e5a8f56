/**
 * A process that serves the emulated host of a topology (second argument, JSON) from a directory (first argument) until SIGTERM. Each violation
 * that a device sees is a line of JSON on its standard output.
 */
import { createVirtioModels, parseTopology, serveEmulatedHost } from "../../../lib/emulation/mod.ts";

const [directory = "", topology = ""] = Deno.args;
const stop = new AbortController();
Deno.addSignalListener("SIGTERM", () => stop.abort());
await serveEmulatedHost({
  directory,
  models: createVirtioModels(),
  topology: parseTopology(topology),
  onViolation: (violation) => console.log(JSON.stringify(violation)),
  signal: stop.signal,
});
Deno.exit(0);
