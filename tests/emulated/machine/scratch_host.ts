/**
 * A process that serves an emulated host of scratch functions from the directory that it is given, until it is told to stop.
 */
import { serveEmulatedHost } from "../../../lib/emulation/mod.ts";
import { ScratchModels } from "../../unit/emulation/machine_scratch.ts";

const [directory = ""] = Deno.args;
const stop = new AbortController();
Deno.addSignalListener("SIGTERM", () => stop.abort());
try {
  await serveEmulatedHost({ directory, models: new ScratchModels(), signal: stop.signal });
  Deno.exit(0);
} catch (error) {
  console.error(`${error}`);
  Deno.exit(3);
}
