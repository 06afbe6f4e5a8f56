import { assertEquals, assertThrows } from "@std/assert";
import { readTopology, TopologyError } from "../../../lib/emulation/mod.ts";

const read = (fields: object) =>
  readTopology({ functions: [{ address: "01:00.0", ...fields }] }).functions[0]!.admin;

Deno.test("administration queues by default: one on a PF with VFs, legacy registers on those of net and blk", () => {
  const legacy = { queues: 1, legacyVfs: true, legacyNotify: "member" };
  const modern = { queues: 1, legacyVfs: false, legacyNotify: "none" };
  assertEquals(read({ kind: "virtio-net", totalVfs: 2 }), legacy);
  assertEquals(read({ kind: "virtio-blk", sizeBytes: 512, totalVfs: 2 }), legacy);
  assertEquals(read({ kind: "virtio-rng", totalVfs: 2 }), modern);
  assertEquals(read({ kind: "virtio-console", totalVfs: 2 }), modern);
  assertEquals(read({ kind: "virtio-net", totalVfs: 0 }), undefined);
  assertEquals(read({ kind: "virtio-rng" }), undefined);
  assertEquals(read({ kind: "virtio-toaster", totalVfs: 2 }), undefined);
});

Deno.test("administration queues as they are asked for", () => {
  const net = { kind: "virtio-net", totalVfs: 2 };
  assertEquals(read({ ...net, adminQueues: 0 }), undefined);
  assertEquals(read({ ...net, adminQueues: 8, legacyNotify: "both" }), {
    queues: 8,
    legacyVfs: true,
    legacyNotify: "both",
  });
  assertEquals(read({ ...net, legacyVfs: false }), { queues: 1, legacyVfs: false, legacyNotify: "none" });
  assertEquals(read({ ...net, legacyNotify: "none" }), { queues: 1, legacyVfs: true, legacyNotify: "none" });
  assertEquals(read({ kind: "virtio-rng", adminQueues: 2 }), {
    queues: 2,
    legacyVfs: false,
    legacyNotify: "none",
  });
});

Deno.test("administration queues that cannot be name their field", () => {
  const net = { kind: "virtio-net", totalVfs: 2 };
  for (
    const [fields, field] of [
      [{ ...net, adminQueues: 9 }, "adminQueues"],
      [{ ...net, adminQueues: -1 }, "adminQueues"],
      [{ ...net, adminQueues: "1" }, "adminQueues"],
      [{ kind: "virtio-toaster", adminQueues: 1 }, "adminQueues"],
      [{ ...net, legacyVfs: 1 }, "legacyVfs"],
      [{ ...net, adminQueues: 0, legacyVfs: true }, "legacyVfs"],
      [{ kind: "virtio-net", totalVfs: 0, legacyVfs: true }, "legacyVfs"],
      [{ kind: "virtio-rng", totalVfs: 2, legacyVfs: true }, "legacyVfs"],
      [{ ...net, legacyNotify: "nowhere" }, "legacyNotify"],
      [{ ...net, legacyVfs: false, legacyNotify: "owner" }, "legacyNotify"],
      [{ kind: "virtio-rng", totalVfs: 2, legacyNotify: "member" }, "legacyNotify"],
    ] as const
  ) {
    assertThrows(() => read(fields), TopologyError, `functions[0].${field}:`);
  }
});
