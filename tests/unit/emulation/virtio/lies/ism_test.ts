/** virtio-ism devices that lie: exactly as announced, when announced, and honest otherwise. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../../lib/errors/mod.ts";
import { IsmDomains } from "../../../../../lib/emulation/virtio/ism/domain.ts";
import { ISM_FAMILY, ISM_LIES } from "../../../../../lib/emulation/virtio/lies/ism.ts";
import { Occasions, parseLie } from "../../../../../lib/emulation/virtio/lies/lie.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { CHUNK, IsmRig, OK } from "../ism/rig.ts";
import { capabilityBytes } from "../capability_bytes.ts";

function pair(lie: string): { a: IsmRig; b: IsmRig } & Disposable {
  const domains = new IsmDomains();
  const a = new IsmRig(domains, { lie }, "0000:01:00.0");
  const b = new IsmRig(domains, {}, "0000:02:00.0");
  return {
    a,
    b,
    [Symbol.dispose]: () => {
      a[Symbol.dispose]();
      b[Symbol.dispose]();
    },
  };
}

/** ack, second word, chunk offsets of two ALLOCs of two chunks, the second of which is honest. */
function twoAllocs(lie: string): { ack: number; num: bigint; chunks: number[] }[] {
  using rigs = pair(lie);
  return [0, 1].map(() => {
    const { ack, reply } = rigs.a.alloc(2 * CHUNK);
    const chunks = Array.from(
      { length: (reply.byteLength - 16) / 8 },
      (_, i) => Number(reply.getBigUint64(16 + 8 * i, true)) / CHUNK,
    );
    return { ack, num: reply.getBigUint64(8, true), chunks };
  });
}

Deno.test("lies about chunks", () => {
  const honest = (chunks: number[]) => ({ ack: OK, num: 2n, chunks });
  assertEquals(twoAllocs("ism-chunk-outside"), [honest([0, 64]), honest([2, 3])]);
  assertEquals(twoAllocs("ism-chunk-outside:1"), [honest([0, 1]), honest([2, 64])]);
  assertEquals(twoAllocs("ism-chunk-overlap"), [honest([0, 0]), honest([2, 3])]);
  assertEquals(twoAllocs("ism-num-large"), [{ ...honest([0, 1]), num: 1n << 32n }, honest([2, 3])]);
  assertEquals(twoAllocs("ism-num-zero:0:2"), [{ ...honest([0, 1]), num: 0n }, {
    ...honest([2, 3]),
    num: 0n,
  }]);
  assertEquals(twoAllocs("ism-bad-ack"), [{ ...honest([0, 1]), ack: 77 }, honest([2, 3])]);
});

Deno.test("the lie about chunks that overlap waits for a region of two", () => {
  using rigs = pair("ism-chunk-overlap");
  assertEquals(rigs.a.region(1).chunks, [0]);
  const [first, second] = rigs.a.region(2 * CHUNK).chunks;
  assertEquals(first, second);
});

Deno.test("the lie about a size: one byte more than the chunks hold", () => {
  using rigs = pair("ism-size-lie");
  const { token } = rigs.b.region(CHUNK);
  const size = () => rigs.a.attach(token).reply.getBigUint64(0, true);
  assertEquals(size(), BigInt(CHUNK + 1));
  rigs.a.detach(token);
  assertEquals(size(), BigInt(CHUNK));
});

Deno.test("lies about events", () => {
  const used = (lie: string) => {
    using rigs = pair(lie);
    const { token } = rigs.a.region(CHUNK);
    rigs.b.attached(token);
    rigs.a.giveEvents(2);
    rigs.a.fn.run();
    rigs.b.detach(token);
    rigs.a.fn.run();
    const ring = rigs.a.fn.rings.get(1)!;
    return ring.takeUsed().map(({ id, length }) => {
      const at = Number(
        rigs.a.fn.client.view.getBigUint64(ring.desc + 16 * id, true) - rigs.a.fn.client.iova,
      );
      return [length, rigs.a.fn.client.view.getBigUint64(at, true)];
    });
  };
  assertEquals(used("ism-unknown-event"), [[32, 3n], [32, 4n]]);
  assertEquals(used("ism-short-event"), [[24, 2n], [32, 4n]]);
});

Deno.test("lies that are there from the start: chunk size, no shared memory", () => {
  using odd = pair("ism-chunk-size");
  assertEquals(new DataView(odd.a.config().buffer).getBigUint64(24, true), BigInt(3 * CHUNK));
  using none = pair("ism-no-shm");
  const { front } = none.a;
  assertEquals(capabilityBytes(front.vendorCapabilities).filter((bytes) => bytes[3] === 8), []);
  assertEquals(front.bars.filter(({ index }) => index === 2), []);
  assertEquals(front.doorbells(2), []);
});

Deno.test("every lie has a name that the models take; others are UsageErrors", () => {
  const models = createVirtioModels();
  for (const lie of ISM_LIES) {
    const behaviour = models.createBehaviour("virtio-ism", { address: "0000:01:00.0", lie });
    behaviour.close();
  }
  for (const lie of ["ism-", "ism-bad-ack:x", "ism-bad-ack:1:2:3"]) {
    assertThrows(
      () => models.createBehaviour("virtio-ism", { address: "0000:01:00.0", lie }),
      UsageError,
      "virtio-ism device can tell",
    );
  }
  assertThrows(() => models.createBehaviour("virtio-rng", { address: "0000:01:00.0", lie: "ism-bad-ack" }));
  const plan = new Occasions(parseLie("ism-bad-ack:2:1", ISM_FAMILY));
  assertEquals(
    (["ism-bad-ack", "ism-num-zero", "ism-bad-ack", "ism-bad-ack", "ism-bad-ack"] as const).map((one) =>
      plan.take(one)
    ),
    [false, false, false, true, false],
  );
  assert(ISM_LIES.length === 10);
});
