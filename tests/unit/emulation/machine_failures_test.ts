import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openFdCount } from "../../../ffi/mod.ts";
import { type FunctionModels, readTopology, serveEmulatedHost } from "../../../lib/emulation/mod.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { ExhaustedError, UsageError } from "../../../lib/errors/mod.ts";

const disk = { address: "0000:01:00.0", kind: "virtio-blk", sizeBytes: 1 << 20 };

Deno.test("a function that cannot be made has its behaviour closed, and the machine leaves no descriptor", () => {
  const before = openFdCount();
  const closed: string[] = [];
  const models = createVirtioModels();
  const tooLarge: FunctionModels = {
    reports: {},
    createBehaviour: (kind, options) =>
      Object.assign(models.createBehaviour(kind, options), {
        bars: [{ index: 0, sizeBytes: 2 ** 40, kind: "mem32", prefetchable: false }],
        close: () => void closed.push(kind),
      }),
  };
  assertThrows(
    () => new EmulatedMachine({ topology: readTopology({ functions: [disk] }), models: tooLarge }),
    ExhaustedError,
  );
  assertEquals(closed, ["virtio-blk"]);
  assertEquals(openFdCount(), before);
});

Deno.test("a served host with a signal, listener or topology that is none is refused before anything is open", async () => {
  const before = openFdCount();
  const directory = `/tmp/ringside-refused-${crypto.randomUUID()}`;
  const topologies = [{}, { functions: 1 }, { functions: [null] }, { functions: [{ address: 1 }] }];
  for (
    const wrong of [
      { signal: new Date() },
      { signal: null },
      { onReady: 1 },
      ...topologies.map((topology) => ({ topology })),
    ]
  ) {
    await assertRejects(() => serveEmulatedHost({ directory, ...wrong as object }), UsageError);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("a served host knows the longest of its sockets' paths: a platform device's name may be longer than an address", async () => {
  const address = `a003e00.${"virtio_mmio".repeat(6)}`;
  const topology = readTopology({ functions: [{ address, kind: "virtio-rng" }] });
  const most = 107 - `/${address}.sock`.length;
  const directory = `/tmp/${"d".repeat(most - "/tmp/".length + 1)}`;
  const error = await assertRejects(
    () => serveEmulatedHost({ directory, topology }),
    UsageError,
  ) as UsageError;
  assert(error.hint.includes(`at most ${most} bytes`), error.hint);
});
