/**
 * A process that serves emulated hosts until its standard input ends. A line of it is JSON: a directory and the topology to serve there, or a
 * directory alone, which is served no longer. Each violation that a device sees is a line of JSON in the directory's file `violations`; once
 * nothing is served there any more, there is a file `ended`.
 */
import { O, OwnedFd, writeAll } from "../../../ffi/mod.ts";
import { parseTopology, serveEmulatedHost } from "../../../lib/emulation/mod.ts";
import { VIRTIO_KINDS } from "../../../lib/emulation/virtio/kinds.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { NET_KIND, netKind } from "../../../lib/emulation/virtio/net/kind.ts";
import { ECHO_KIND } from "./echo_kind.ts";

const KINDS = [...VIRTIO_KINDS, ECHO_KIND];

interface Line {
  readonly directory: string;
  readonly topology?: { readonly holdMs?: number };
}

const serving = new Map<string, { readonly stop: AbortController; readonly served: Promise<void> }>();

function append(path: string, text: string): void {
  using file = OwnedFd.open(path, O.WRONLY | O.CREAT | O.APPEND);
  writeAll(file, new TextEncoder().encode(text));
}

async function serve(
  directory: string,
  { holdMs, ...topology }: { readonly holdMs?: number },
  signal: AbortSignal,
): Promise<void> {
  const kinds = holdMs === undefined
    ? KINDS
    : KINDS.map((kind) => kind === NET_KIND ? netKind({ holdMs }) : kind);
  try {
    await serveEmulatedHost({
      directory,
      models: createVirtioModels(kinds),
      topology: parseTopology(JSON.stringify(topology), kinds),
      onViolation: (violation) => append(`${directory}/violations`, `${JSON.stringify(violation)}\n`),
      signal,
    });
  } finally {
    serving.delete(directory);
    append(`${directory}/ended`, "");
  }
}

// The runtime takes two descriptors for signals when it first needs them: now, while there are some, and before somebody counts them.
Deno.addSignalListener("SIGTERM", () => Deno.exit(0));

let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop()!;
  for (const line of lines) {
    const { directory, topology }: Line = JSON.parse(line);
    if (topology === undefined) serving.get(directory)?.stop.abort();
    else {
      const stop = new AbortController();
      serving.set(directory, { stop, served: serve(directory, topology, stop.signal) });
    }
  }
}
for (const { stop } of serving.values()) stop.abort();
await Promise.all([...serving.values()].map(({ served }) => served));
Deno.exit(0);
