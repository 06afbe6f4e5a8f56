import { assertEquals, assertThrows } from "@std/assert";
import { type FunctionTopology, readTopology, TopologyError } from "../../../lib/emulation/mod.ts";
import { VIRTIO_KINDS } from "../../../lib/emulation/virtio/kinds.ts";

function one(fields: Record<string, unknown>) {
  return readTopology({ functions: [{ address: "0000:03:00.0", ...fields }] }).functions[0]!;
}

/** The fields of its kind. */
function own(fn: FunctionTopology) {
  const { fields } = VIRTIO_KINDS.find(({ name }) => name === fn.kind)!;
  return Object.fromEntries(Object.entries(fn).filter(([name]) => name in fields));
}

Deno.test("block and console functions: their fields, and nothing that was not said", () => {
  const blk = one({
    kind: "virtio-blk",
    file: "/tmp/image",
    sizeBytes: 1024,
    readOnly: true,
    queues: 2,
    blockSize: 4096,
    sizeMax: 4096,
    segMax: 7,
    rangeSectors: 8,
    ranges: 9,
    serial: "a b",
  });
  assertEquals(own(blk), {
    file: "/tmp/image",
    sizeBytes: 1024,
    readOnly: true,
    queues: 2,
    blockSize: 4096,
    sizeMax: 4096,
    segMax: 7,
    rangeSectors: 8,
    ranges: 9,
    serial: "a b",
  });
  assertEquals([blk.totalVfs, blk.ports], [0, undefined]);
  assertEquals(own(one({ kind: "virtio-blk", sizeBytes: 512 })), { sizeBytes: 512 });
  const tty = one({
    kind: "virtio-console",
    ports: 2,
    portNames: ["", "x"],
    peer: "socket",
    cols: 1,
    rows: 2,
  });
  assertEquals(own(tty), { ports: 2, portNames: ["", "x"], peer: "socket", cols: 1, rows: 2 });
  assertEquals(own(one({ kind: "virtio-console" })), {});
});

for (
  const [field, fields] of [
    ["file", { kind: "virtio-blk" }],
    ["file", { kind: "virtio-blk", file: "" }],
    ["sizeBytes", { kind: "virtio-blk", sizeBytes: 513 }],
    ["sizeBytes", { kind: "virtio-blk", sizeBytes: 0 }],
    ["readOnly", { kind: "virtio-blk", sizeBytes: 512, readOnly: 1 }],
    ["queues", { kind: "virtio-blk", sizeBytes: 512, queues: 0 }],
    ["blockSize", { kind: "virtio-blk", sizeBytes: 512, blockSize: 768 }],
    ["serial", { kind: "virtio-blk", sizeBytes: 512, serial: "more than twenty chars" }],
    ["totalVfs", { kind: "virtio-blk", file: "/tmp/x", totalVfs: 1 }],
    ["ports", { kind: "virtio-console", ports: 65 }],
    ["peer", { kind: "virtio-console", peer: "tty" }],
    ["portNames", { kind: "virtio-console", portNames: ["a", "b"] }],
    ["portNames", { kind: "virtio-console", portNames: "a" }],
    ["portNames[0]", { kind: "virtio-console", portNames: [7] }],
    ["portNames[0]", { kind: "virtio-console", portNames: [null] }],
    ["file", { kind: "virtio-rng", file: "/tmp/x" }],
    ["ports", { kind: "virtio-blk", sizeBytes: 512, ports: 2 }],
    ["sizeBytes", { kind: "virtio-console", sizeBytes: 512 }],
    ["mac", { kind: "virtio-blk", sizeBytes: 512, mac: "52:54:00:00:00:01" }],
    ["sise", { kind: "virtio-blk", sise: 512 }],
  ] as const
) {
  Deno.test(`a topology that cannot be: ${JSON.stringify(fields)}`, () => {
    const error = assertThrows(() => one(fields), TopologyError);
    assertEquals(error.field, `functions[0].${field}`);
  });
}
