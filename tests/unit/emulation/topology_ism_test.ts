import { assert, assertEquals, assertThrows } from "@std/assert";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { type FunctionTopology, readTopology, TopologyError } from "../../../lib/emulation/mod.ts";
import { ISM_KIND } from "../../../lib/emulation/virtio/ism/kind.ts";
import { findSharedMemory } from "../../../lib/pci/capability/virtio.ts";
import { ConfigSpace, findCapability, walkCapabilities } from "../../../lib/pci/mod.ts";

const KIND = { kind: "virtio-ism" };

function functions(...list: Record<string, unknown>[]) {
  return readTopology({
    functions: list.map((one, i) => ({ address: `0000:0${i + 1}:00.0`, ...KIND, ...one })),
  }).functions;
}

/** The fields of its kind. */
function own(fn: FunctionTopology) {
  return Object.fromEntries(Object.entries(fn).filter(([name]) => name in ISM_KIND.fields));
}

Deno.test("virtio-ism functions: their fields, and nothing that was not said", () => {
  const all = { domain: "left", chunkSize: 4096, chunks: 16, notifySize: 8, memory: 1 << 20 };
  assertEquals(own(functions(all)[0]!), all);
  assertEquals(own(functions({})[0]!), {});
  assertEquals(functions({})[0]!.totalVfs, 0);
});

for (
  const [field, fields] of [
    ["domain", { domain: "" }],
    ["domain", { domain: "a b" }],
    ["domain", { domain: 1 }],
    ["chunkSize", { chunkSize: 2048 }],
    ["chunkSize", { chunkSize: 12288 }],
    ["chunks", { chunks: 0 }],
    ["chunks", { chunks: 65537 }],
    ["chunks", { chunks: 65536, chunkSize: 1 << 30 }],
    ["notifySize", { notifySize: 0 }],
    ["notifySize", { notifySize: 4097 }],
    ["memory", { memory: -1 }],
    ["memory", { memory: 0.5 }],
    ["mac", { mac: "52:54:00:00:00:01" }],
    ["ports", { ports: 2 }],
  ] as const
) {
  Deno.test(`virtio-ism ${JSON.stringify(fields)}: a TopologyError at ${field}`, () => {
    const error = assertThrows(() => functions(fields), TopologyError);
    assertEquals(error.field, `functions[0].${field}`);
  });
}

Deno.test("fields of virtio-ism belong to no other kind", () => {
  const error = assertThrows(() => functions({ kind: "virtio-rng", domain: "d0" }), TopologyError);
  assertEquals(error.field, "functions[0].domain");
});

Deno.test("functions of one domain must agree on chunks and memory; those of others need not", () => {
  functions({ chunkSize: 4096 }, { domain: "d1", chunkSize: 8192 });
  functions({ chunkSize: 4096, chunks: 16 }, { domain: "d0", chunkSize: 4096, chunks: 32 });
  for (const [field, value] of [["chunkSize", 4096], ["memory", 4096]] as const) {
    const error = assertThrows(() => functions({}, { [field]: value }), TopologyError);
    assertEquals(error.field, `functions[1].${field}`);
    assert(error.message.includes("functions[0]"));
  }
});

Deno.test("/ringside/ism: a line for each domain, and the config space of its functions holds every capability", () => {
  const topology = readTopology({
    functions: [
      { address: "0000:01:00.0", ...KIND },
      { address: "0000:02:00.0", ...KIND, domain: "other", memory: 1 << 20 },
      { address: "0000:03:00.0", ...KIND, totalVfs: 2 },
    ],
  });
  using machine = new EmulatedMachine({ topology, models: createVirtioModels() });
  const lines = machine.kernel.tree.readText("/ringside/ism").trim().split("\n").map((line) =>
    JSON.parse(line)
  );
  assertEquals(
    lines.map((
      one,
    ) => [one.domain, one.memory, one.functions.map((fn: { function: string }) => fn.function)]),
    [
      ["d0", 1 << 30, ["0000:01:00.0", "0000:03:00.0"]],
      ["other", 1 << 20, ["0000:02:00.0"]],
    ],
  );
  const { capabilities, findings } = walkCapabilities(
    new ConfigSpace(machine.device("0000:01:00.0").readHardwareConfig()),
  );
  assertEquals(findings, []);
  assertEquals([...findSharedMemory(capabilities).keys()].sort(), [1, 2]);
  const express = findCapability(capabilities, "express")!;
  assertEquals([express.structureVersion, express.lengthBytes, express.functionLevelReset], [1, 0x14, true]);
  assertEquals(findCapability(capabilities, "msi-x")!.vectorCount, 35);
});
