/**
 * Serves an emulated host of which some PCI functions are virtio-mmio devices in BARs. Started by `linux_mmio_test.ts` with a `MmioBarTask` as its only
 * argument; it ends when its input does.
 */
import { parseTopology, serveEmulatedHost } from "../../../lib/emulation/mod.ts";
import type { MmioTopology } from "../../../lib/emulation/function_topology.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { mmioInBars } from "./mmio_bar.ts";

/** What to serve. */
export interface MmioBarTask {
  readonly directory: string;
  readonly topology: unknown;
  readonly form: MmioTopology["form"];
  /** Which functions are in BARs. */
  readonly inBars: readonly string[];
}

if (import.meta.main) {
  const { directory, topology, form, inBars } = JSON.parse(Deno.args[0]!) as MmioBarTask;
  const end = new AbortController();
  const input = (async () => {
    for await (const _ of Deno.stdin.readable);
    end.abort();
  })();
  const models = createVirtioModels();
  await serveEmulatedHost({
    directory,
    topology: parseTopology(JSON.stringify(topology), models.kinds),
    models: mmioInBars(models, form, inBars),
    signal: end.signal,
  });
  await input;
}
