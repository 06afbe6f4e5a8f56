import { assertEquals, assertThrows } from "@std/assert";
import { checkSavedNet, type SavedNet } from "../../../../drivers/net/virtio_net.ts";
import { UsageError } from "../../../../lib/errors/mod.ts";

const state = { layout: "packed", availableSlot: 3, availableWrap: 0, usedSlot: 3, usedWrap: 0 } as const;

function good(): SavedNet {
  const ring = (queue: number, inFlight: SavedNet["pairs"][number]["receive"]["ring"]["inFlight"] = []) => ({
    version: 1 as const,
    queue,
    size: 6,
    state,
    inFlight,
  });
  const frame = new Uint8Array(60).fill(7).toBase64();
  return {
    version: 1,
    device: "net",
    profile: "queue-state",
    features: "0x130000000",
    mac: "02:00:00:00:00:01",
    mtu: 1500,
    bufferBytes: 2048,
    filters: { promisc: true },
    macTable: { unicast: ["02:00:00:00:00:02"], multicast: [] },
    activePairs: 1,
    pairs: [{
      receive: { ring: ring(0), device: state, frames: [frame] },
      transmit: {
        ring: ring(1, [{ id: 4, readable: [{ iova: "0x1000", lengthBytes: 72 }], writable: [] }]),
        device: { ...state, availableSlot: 4 },
        frames: [frame],
        undecided: 1,
      },
    }],
    control: { ring: ring(2), device: null },
  };
}

/** A copy with one field replaced, by its path. */
function changed(path: string, value: unknown): unknown {
  const copy = structuredClone(good()) as unknown as Record<string, unknown>;
  const keys = path.split(".");
  const last = keys.pop()!;
  const at = keys.reduce<Record<string, unknown>>((one, key) => one[key] as Record<string, unknown>, copy);
  at[last] = value;
  return copy;
}

Deno.test("A-6.7 a saved device survives JSON, and its check drops what does not belong there", () => {
  assertEquals(checkSavedNet(JSON.parse(JSON.stringify(good()))), good());
  assertEquals(checkSavedNet({ ...good(), more: 1 }), good());
});

const WRONG: readonly (readonly [path: string, value: unknown, names: string])[] = [
  ["version", 2, "version 2"],
  ["device", "blk", "device"],
  ["profile", "other", "profile"],
  ["features", "12", "features"],
  ["mac", "02:00:00:00:00", "mac"],
  ["mtu", 67, "mtu"],
  ["bufferBytes", 0, "bufferBytes"],
  ["filters", { loud: true }, "filters.loud"],
  ["filters", { promisc: 1 }, "filters.promisc"],
  ["macTable.unicast.0", "x", "macTable.unicast[0]"],
  ["activePairs", 2, "activePairs"],
  ["pairs", [], "pairs is empty"],
  ["pairs.0.receive.ring.queue", 2, "pairs[0]: queue 2 stands where queue 0 belongs"],
  ["pairs.0.receive.ring.state", { layout: "split", availableIndex: 1 }, "pairs[0].receive: "],
  ["pairs.0.receive.ring.size", 3, "pairs[0].receive: "],
  ["pairs.0.receive.device", { ...state, availableSlot: 6 }, "pairs[0].receive: queue state: availableSlot"],
  ["pairs.0.receive.frames", ["?"], "pairs[0].receive.frames[0]"],
  ["pairs.0.transmit.frames", [], "pairs[0].transmit.frames: 0 frames of 1 chains"],
  ["pairs.0.transmit.frames", ["AAAA"], "pairs[0].transmit.frames[0]"],
  ["pairs.0.transmit.undecided", 2, "pairs[0].transmit.undecided"],
  ["pairs.0.transmit.ring.inFlight.0.id", -1, "pairs[0].transmit: saved queue: inFlight[0].id"],
  ["control.ring.queue", 1, "control.ring.queue 1"],
  ["control", 5, "control is not an object"],
];

for (const [path, value, names] of WRONG) {
  Deno.test(`a saved device with ${path} = ${JSON.stringify(value)} is refused by name`, () => {
    const error = assertThrows(() => checkSavedNet(changed(path, value)), UsageError);
    assertEquals(error.message.includes(names), true, error.message);
  });
}

Deno.test("rings of two layouts in one saved device are refused", () => {
  const wrong = changed("control.ring", {
    version: 1,
    queue: 2,
    size: 16,
    state: { layout: "split", availableIndex: 1 },
    inFlight: [],
  });
  assertThrows(() => checkSavedNet(wrong), UsageError, "queue 2 is split, others packed");
});
