import { assert, assertEquals, assertRejects } from "@std/assert";
import { IsmError } from "../../../../drivers/ism/virtio_ism.ts";
import { mappingCount } from "../../../../ffi/mod.ts";
import { DeviceError } from "../../../../lib/errors/mod.ts";
import { withIsm } from "./ism_driven.ts";
import type { Heard } from "./model_ism.ts";

const PAGE = 4096;

function told(heard: Heard): string[] {
  const bytes = new Uint8Array(heard.data.buffer);
  return [heard.command, Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")];
}

function le64(value: bigint): string {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

Deno.test("5.3, A-5.2, A-5.8, A-5.12, A-5.14: every command in elements of its own, byte for byte", async () => {
  await withIsm(async (ism, model) => {
    const region = await ism.alloc(5000);
    const token = region.token;
    model.regions.set(0x77n, { size: 4096n, chunks: [20] });
    await ism.query(token);
    const other = await ism.attach(0x77n, { read: true, write: false });
    await ism.grantDefault(region, 5);
    await ism.grantFor(region, 9n, 15, { cleanDefault: true });
    await ism.grantFor(0x77n, 9n, 0);
    await ism.setEventVector(region, 3);
    await ism.setEventVector(region, null);
    await other.detach();
    assertEquals(model.heard.map(told), [
      ["0.0", le64(5000n)],
      ["1.0", le64(token)],
      ["2.0", le64(0x77n) + le64(1n)],
      ["4.0", le64(token) + le64(5n)],
      ["4.1", le64(token) + le64(31n) + le64(9n)],
      ["4.1", le64(0x77n) + le64(0n) + le64(9n)],
      // the draft has two titles for one command.
      ["5.0", le64(token) + le64(3n)],
      //
      ["5.0", le64(token) + le64(0xffffn)],
      ["3.0", le64(0x77n)],
    ]);
    assertEquals(model.heard.map(({ parts }) => parts.slice(0, 3).join(" ")), [
      "r2 r8 w1",
      "r2 r8 w1",
      "r2 r16 w1",
      "r2 r16 w1",
      "r2 r24 w1",
      "r2 r24 w1",
      "r2 r16 w1",
      "r2 r16 w1",
      "r2 r8 w1",
    ]);
    // Room for the two chunks of the allocation; for size and permissions; none.
    assertEquals([0, 1, 3].map((i) => model.heard[i]!.replyBytes), [32, 16, 0]);
  }, { regionVectors: 2 });
});

Deno.test("5.3: each acknowledgement is a typed error", async () => {
  await withIsm(async (ism, model) => {
    const acks = [
      [2, "ENOENT"],
      [12, "ENOMEM"],
      [28, "ENOSPC"],
      [100, "PERM_EATTACH"],
      [101, "PERM_EREAD"],
      [102, "PERM_EWRITE"],
      [255, "ERR"],
      [77, undefined],
    ] as const;
    for (const [ack, name] of acks) {
      model.answer = () => ({ ack });
      const error = await assertRejects(() => ism.attach(5n), IsmError);
      assertEquals([error.command, error.ack, error.ackName, error.token], ["ATTACH_REGION", ack, name, 5n]);
    }
    model.answer = () => ({ ack: 28 });
    const error = await assertRejects(() => ism.alloc(1), IsmError);
    assertEquals([error.command, error.token], ["ALLOC_REGION", undefined]);
    const rest = [
      () => ism.query(1n),
      () => ism.detach(1n),
      () => ism.grantDefault(1n, 0),
      () => ism.grantFor(1n, 1n, 0),
    ];
    for (const call of rest) await assertRejects(call, IsmError, "ENOSPC");
    assertEquals(ism.regions, []);
  });
});

Deno.test("A-5.5, A-5.6: E2BIG is asked again with as much room as the device says", async () => {
  await withIsm(async (ism, model) => {
    let answers = 0;
    model.answer = ({ command, replyBytes }) => {
      if (command !== "0.0" || ++answers > 1) return undefined;
      assertEquals(replyBytes, 24);
      return { ack: 7, reply: [0n, 5n] };
    };
    await ism.alloc(PAGE);
    assertEquals(model.heard.map(({ replyBytes }) => replyBytes), [24, 16 + 40]);
  });
  // ATTACH does not know the size: its first try has room for as many chunks as fit a page, here 486.
  await withIsm(
    async (ism, model) => {
      const chunks = Array.from({ length: 600 }, (_, i) => i);
      model.regions.set(9n, { size: BigInt(600 * PAGE), chunks });
      const region = await ism.attach(9n);
      assertEquals([region.chunks.length, region.contiguous], [600, true]);
      assertEquals(model.heard.map(({ replyBytes }) => replyBytes), [3904, 16 + 8 * 600]);
      // Memory of the long reply is given back.
      assertEquals(model.transport.dma.usage.labels.includes("control reply"), false);
    },
    {},
    { chunks: 700, notifySize: 1 },
  );
  const lies: [string, bigint[] | undefined, typeof DeviceError | typeof IsmError][] = [
    ["a device that is never content", [0n, 3n], IsmError],
    ["no more than there was room for", [0n, 1n], IsmError],
    ["only ack", undefined, IsmError],
    ["more chunks than there are", [0n, 65n], DeviceError],
    ["2^60 chunks", [0n, 1n << 60n], DeviceError],
    ["none", [0n, 0n], DeviceError],
  ];
  for (const [what, reply, type] of lies) {
    await withIsm(async (ism, model) => {
      let num = 2n;
      model.answer = () => ({
        ack: 7,
        ...(reply === undefined ? {} : { reply: reply[1] === 3n ? [0n, num++] : reply }),
      });
      await assertRejects(() => ism.alloc(PAGE), type as typeof DeviceError, undefined, what);
      // One that is never content is asked three times; the others break off at once.
      assertEquals(model.heard.length, what === "a device that is never content" ? 3 : 1, what);
    });
  }
});

Deno.test("hostile replies: nothing is mapped, nothing taken, and the device is told that the region is not wanted", async () => {
  const at = (chunk: number) => BigInt(chunk * PAGE);
  const cases: [string, bigint[], number?][] = [
    ["outside the area", [1n, 2n, at(5), at(64)]],
    ["far outside the area", [1n, 2n, at(5), 1n << 63n]],
    ["not a chunk's", [1n, 2n, at(5), at(6) + 8n]],
    ["twice in the list", [1n, 2n, at(5), at(5)]],
    ["of another region", [1n, 2n, at(5), at(0)]],
    ["no chunks", [1n, 0n]],
    ["2^32 chunks", [1n, 1n << 32n, at(5), at(6)]],
    ["2^64 - 1 chunks", [1n, (1n << 64n) - 1n, at(5), at(6)]],
    ["too few for the size", [1n, 1n, at(5)]],
    ["too many for the size", [1n, 3n, at(5), at(6), at(7)]],
    ["more than the reply has", [1n, 2n, at(5), at(6)], 1 + 24],
    ["not even num", [1n, 2n, at(5), at(6)], 1 + 8],
    ["only ack", [1n, 2n, at(5), at(6)], 1],
    ["not even ack", [1n, 2n, at(5), at(6)], 0],
    ["a token that this driver has", [0x1000n, 2n, at(5), at(6)]],
  ];
  for (const [what, reply, used] of cases) {
    await withIsm(async (ism, model) => {
      const kept = await ism.alloc(1);
      const before = [model.area.maps.length, mappingCount(), model.transport.dma.usage.bytes];
      model.heard.length = 0;
      model.answer = ({ command }) =>
        command === "0.0" ? { ack: 0, reply, ...(used === undefined ? {} : { used }) } : { ack: 0 };
      const error = await assertRejects(() => ism.alloc(PAGE + 1), DeviceError, undefined, what);
      assert(!(error instanceof IsmError), what);
      const after = [model.area.maps.length, mappingCount(), model.transport.dma.usage.bytes];
      assertEquals([after, ism.regions], [before, [kept]], what);
      const undone = model.heard.some(({ command }) => command === "3.0");
      assertEquals(undone, reply[0] === 1n && (used ?? 99) > 17 && reply[1]! >= 1n && reply[1]! <= 64n, what);
      // The driver goes on, and the chunks of the list are free.
      model.answer = () => undefined;
      model.chunksFor = () => [6, 5];
      assertEquals((await ism.alloc(PAGE + 1)).chunks, [6 * PAGE, 5 * PAGE]);
    });
  }
});

Deno.test("hostile replies to ATTACH: sizes that the chunks do not hold, or that change", async () => {
  for (const size of [0n, 1n, BigInt(2 * PAGE + 1), BigInt(64 * PAGE + 1), 1n << 63n]) {
    await withIsm(async (ism, model) => {
      model.regions.set(5n, { size, chunks: [3, 4] });
      await assertRejects(() => ism.attach(5n), DeviceError);
      assertEquals([model.area.maps, model.heard.at(-1)!.command], [[], "3.0"]);
    });
  }
  await withIsm(async (ism, model) => {
    model.regions.set(5n, { size: 5000n, chunks: [3, 4] });
    model.answer = ({ command }) => command === "1.0" ? { ack: 0, reply: [4000n, 7n] } : undefined;
    await assertRejects(() => ism.attach(5n), DeviceError, "the query before said 4000");
    assertEquals([model.area.maps, ism.statistics().lentBytes], [[], 0]);
  }, { devMem: false });
});
