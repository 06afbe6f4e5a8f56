import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { IsmError, type IsmEvent, VirtioIsm } from "../../../../drivers/ism/virtio_ism.ts";
import { mappingCount } from "../../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { ISM_ACK } from "../../../../lib/virtio/spec/ism.ts";
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";
import { withIsm } from "./ism_driven.ts";
import { CDID, type Heard, ModelIsm, type ModelIsmOptions } from "./model_ism.ts";

const PAGE = 4096;

async function refused(
  field: string,
  device: ModelIsmOptions,
  change?: (model: ModelIsm) => void,
): Promise<void> {
  const before = mappingCount();
  {
    using model = new ModelIsm(device);
    change?.(model);
    const error = await assertRejects(() => VirtioIsm.open(model.transport), DeviceError);
    assertEquals(error.location.field, field);
  }
  assertEquals(mappingCount(), before);
}

/** What the device was asked, as hexadecimal data. */
function told(heard: Heard): string[] {
  const bytes = new Uint8Array(heard.data.buffer);
  return [heard.command, Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")];
}

function le64(value: bigint): string {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

Deno.test("N-5.1, A-5.7: config: domain in either byte order, devid, chunk and notify size", async () => {
  const text = "11223344-5566-4a88-99aa-bbccddeeff01";
  await withIsm((ism) => {
    const { cdid, cdidText, devid, chunkSizeBytes, notifySizeBytes, maxChunks, devMem } = ism.info;
    assertEquals([...cdid], CDID);
    assertEquals([cdidText, devid, chunkSizeBytes, notifySizeBytes, maxChunks, devMem], [
      text,
      7n,
      4096,
      4,
      64,
      true,
    ]);
    assertEquals(ism.featureNames, [
      "VIRTIO_ISM_F_DEV_MEM",
      "VIRTIO_F_EVENT_IDX",
      "VIRTIO_F_VERSION_1",
    ]);
  });
  await withIsm(
    (ism) => {
      assertEquals([...ism.info.cdid], CDID.toReversed());
      assertEquals(ism.info.cdidText, text);
    },
    {},
    { cdid: CDID.toReversed() },
  );
  await refused("cdid", { cdid: CDID.with(6, 0x1a) });
  await refused("devid", { devid: 0n });
  await refused("chunk_size", { chunkSize: 3 * PAGE });
  await refused("chunk_size", {}, (model) => model.transport.config.fill(0, 24, 32));
  await refused("chunk_size", {}, (model) => model.transport.config[30] = 1);
  await refused("config", { configBytes: 36 });
  await assertRejects(() => VirtioIsm.open(new FakeTransport()), UnsupportedError);
});

Deno.test("N-5.2: both shared memory areas, and room for a notify address", async () => {
  await refused("shmid", {}, (model) => model.transport.areas.delete(1));
  await refused("shmid", {}, (model) => model.transport.areas.delete(2));
  await refused("notify_size", { notifySize: 0 });
  // 4096 bytes of notify addresses.
  await refused("notify_size", { notifySize: 4097 });
  await withIsm(async () => {}, {}, { notifySize: 4096 });
});

Deno.test("A-5.25: a notify address for each region, not for each chunk: a device with fewer is used as far as it goes", async () => {
  // 64 chunks, and addresses of the first 8.
  await withIsm(
    async (ism, model) => {
      model.chunksFor = () => [7, 8, 63];
      const region = await ism.alloc(3 * PAGE);
      region.notify();
      assertEquals(model.notify.kicks, [[7 * 512, 1, 1]]);
      for (const chunk of [8, 63]) {
        model.chunksFor = () => [chunk];
        await region.detach();
        const heard = model.heard.length;
        const error = await assertRejects(() => ism.alloc(1), DeviceError, "8 notify addresses (N-5.2)");
        assertEquals(error.location.field, "chunks[0]");
        assertEquals(model.heard.slice(heard).map(({ command }) => command), ["0.0", "3.0"], "given back");
      }
      assertEquals([ism.regions, model.area.open], [[], 0]);
      model.chunksFor = () => [0];
      await ism.alloc(1);
    },
    {},
    { notifySize: 512 },
  );
});

Deno.test("N-5.3: no chunk is touched before a region refers to it, and then only its own pages", async () => {
  await withIsm(async (ism, { area }) => {
    assertEquals([area.maps, area.messages], [[], []]);
    await ism.alloc(2 * PAGE + 1);
    await ism.alloc(1);
    assertEquals(area.maps, [
      { offset: 0, sizeBytes: 3 * PAGE, writable: true },
      { offset: 3 * PAGE, sizeBytes: PAGE, writable: true },
    ]);
  });
  // Four chunks share a page: a mapping would show three that are somebody else's.
  await withIsm(
    async (ism, model) => {
      const region = await ism.alloc(1000);
      assertEquals([model.area.maps, region.mapped], [[], false]);
      region.setUint32(996, 0x12345678);
      assertEquals(region.getUint32(996), 0x12345678);
      assertEquals(model.area.messages, ["write 996+4", "read 996+4"]);
    },
    {},
    { chunkSize: 1024 },
  );
});

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

Deno.test("N-5.6, N-5.10, N-5.11, A-5.3: without DEV_MEM buffers are the driver's, free again after DETACH and BUFFER_FREE", async () => {
  await withIsm(async (ism, model) => {
    assertEquals(ism.info.devMem, false);
    const region = await ism.alloc(PAGE + 1);
    const alloc = model.heard[0]!;
    const buffer = alloc.data.getBigUint64(8, true);
    // Mapped for the device, both ways, page-aligned.
    model.transport.iommu.at(buffer, PAGE + 1, true);
    assertEquals([alloc.data.byteLength, buffer % 4096n, ism.statistics().lentBytes], [16, 0n, 2 * PAGE]);
    model.regions.set(0x99n, { size: BigInt(2 * PAGE + 9), chunks: [9, 10, 11] });
    const attached = await ism.attach(0x99n);
    const attach = model.heard.findLast(({ command }) => command === "2.0")!;
    model.transport.iommu.at(attach.data.getBigUint64(16, true), 2 * PAGE + 9, true);
    assertEquals([attach.data.byteLength, ism.statistics().lentBytes], [24, 5 * PAGE]);

    // Not before it is detached.
    model.event(8n, buffer);
    const [early] = ism.takeEvents();
    assert(early?.type === "fault" && early.error.message.includes("still attached"));
    await attached.detach();
    assertEquals(ism.statistics().lentBytes, 2 * PAGE);
    await region.detach();
    assertEquals(ism.statistics().lentBytes, 2 * PAGE);
    model.event(8n, buffer + 4096n);
    model.event(8n, buffer);
    const events = ism.takeEvents();
    assertEquals(events.map(({ type }) => type), ["fault", "buffer-free"]);
    assertEquals((events[1] as IsmEvent & { buffer: bigint }).buffer, buffer);
    assertEquals([ism.statistics().lentBytes, ism.statistics().buffersFreed], [0, 1]);
    assertThrows(() => model.transport.iommu.at(buffer, 1, true), Error, "nothing is mapped");
    // A refused allocation leaves nothing lent.
    model.answer = () => ({ ack: 28 });
    await assertRejects(() => ism.alloc(PAGE), IsmError);
    assertEquals(ism.statistics().lentBytes, 0);
  }, { devMem: false });
});

Deno.test("A-5.22: BUFFER_FREE of an attach buffer: it is the driver's again, and the region ends", async () => {
  await withIsm(async (ism, model) => {
    const own = await ism.alloc(PAGE);
    model.regions.set(0x99n, { size: BigInt(2 * PAGE), chunks: [9, 10] });
    const region = await ism.attach(0x99n);
    const buffer = model.heard.at(-1)!.data.getBigUint64(16, true);
    const update = region.waitUpdate();
    const bytes = region.bytes();
    model.event(8n, buffer);
    await assertRejects(() => update, ClosedError);
    assertEquals([region.closed, bytes.length, ism.regions], [true, 0, [own]]);
    assertThrows(() => region.getUint8(0), ClosedError);
    assertThrows(() => region.notify(), ClosedError);
    assertEquals(ism.takeEvents(), [{ type: "buffer-free", buffer }]);
    assertEquals([ism.statistics().lentBytes, ism.statistics().faults], [PAGE, 0]);
    assertThrows(() => model.transport.iommu.at(buffer, 1, true), Error, "nothing is mapped");
    const heard = model.heard.length;
    await region.detach();
    assertEquals(model.heard.length, heard, "the device has let go of it");
    // Neither its token nor its chunks are taken.
    await (await ism.attach(0x99n)).detach();

    // The event may be seen before the answer.
    model.answer = ({ command, data }) => {
      if (command === "2.0") {
        model.event(8n, data.getBigUint64(16, true));
        ism.pollEvents();
      }
      return undefined;
    };
    await assertRejects(() => ism.attach(0x99n), ClosedError, "0x99");
    assertEquals([ism.regions, ism.statistics().lentBytes, ism.statistics().faults], [[own], PAGE, 0]);
  }, { devMem: false });
});

Deno.test("N-5.11: what a device that does not answer was lent stays its own until it is reset", async () => {
  await withIsm(async (ism, model) => {
    model.regions.set(0x99n, { size: BigInt(PAGE), chunks: [9] });
    const region = await ism.attach(0x99n);
    const buffer = model.heard.at(-1)!.data.getBigUint64(16, true);
    model.answer = ({ command }) => command === "3.0" ? "silent" : undefined;
    await assertRejects(() => region.detach(), TimeoutError);
    model.transport.iommu.at(buffer, PAGE, true);
    assertEquals(ism.statistics().lentBytes, PAGE);
    await ism.reset();
    assertEquals(ism.statistics().lentBytes, 0);

    // A region that cannot be used is given back; that this was not answered is no reason to take the buffer away.
    model.answer = ({ command }) =>
      command === "2.0"
        ? { ack: 0, reply: [BigInt(PAGE), 1n, 1n] }
        : command === "3.0"
        ? "silent"
        : undefined;
    await assertRejects(() => ism.attach(0x99n), DeviceError, "chunk");
    assertEquals(ism.statistics().lentBytes, PAGE);
  }, { devMem: false, commandTimeoutMs: 20 });
});

Deno.test("N-5.11: a device that refuses DETACH keeps the buffer of the attachment, one that knows of none does not", async () => {
  for (
    const { ack, lentBytes } of [{ ack: ISM_ACK.ERR, lentBytes: PAGE }, { ack: ISM_ACK.ENOENT, lentBytes: 0 }]
  ) {
    await withIsm(async (ism, model) => {
      model.regions.set(0x99n, { size: BigInt(PAGE), chunks: [9] });
      const region = await ism.attach(0x99n);
      model.answer = ({ command }) => command === "3.0" ? { ack } : undefined;
      await assertRejects(() => region.detach(), IsmError);
      assertEquals([region.closed, ism.statistics().lentBytes], [true, lentBytes]);
      await ism.reset();
      assertEquals(ism.statistics().lentBytes, 0);
    }, { devMem: false });
  }
});

Deno.test("N-5.9: read-only: the mapping cannot be written, and nothing that could write it is handed out", async () => {
  await withIsm(async (ism, model) => {
    model.regions.set(5n, { size: 6000n, chunks: [3, 8] });
    model.area.memory.bytes(3 * PAGE, PAGE).fill(1);
    model.area.memory.bytes(8 * PAGE, PAGE).fill(2);
    const region = await ism.attach(5n, { read: true, write: false });
    assertEquals(model.area.maps.map(({ writable }) => writable), [false, false]);
    assertEquals([region.mapped, region.rights], [true, { read: true, write: false }]);
    const copy = new Uint8Array(4);
    region.read(4094, copy);
    assertEquals([...copy], [1, 1, 2, 2]);
    assertEquals(region.getUint32(4094), 0x02020101);
    assertEquals(region.getUint8(5999), 2);
    assertThrows(() => region.bytes(), UsageError, "may not be written");
    assertThrows(() => region.write(0, copy), UsageError, "without the right to write");
    assertThrows(() => region.setUint8(0, 1), UsageError);
    assertThrows(() => region.setUint16(0, 1), UsageError);
    assertThrows(() => region.setUint32(0, 1), UsageError);
    assertThrows(() => region.setBigUint64(0, 1n), UsageError);
    assertEquals(model.area.memory.bytes(3 * PAGE, 8), new Uint8Array(8).fill(1));
  });
  // Bytes that may be written but not read are not mapped at all.
  await withIsm(async (ism, model) => {
    model.regions.set(5n, { size: 8n, chunks: [3] });
    const region = await ism.attach(5n, { read: false, write: true });
    assertEquals([region.mapped, model.area.maps], [false, []]);
    region.setUint16(2, 0x0102);
    assertThrows(() => region.getUint16(2), UsageError, "without the right to read");
    assertThrows(() => region.read(0, new Uint8Array(1)), UsageError);
    assertThrows(() => region.bytes(), UsageError);
    assertEquals([...model.area.memory.bytes(3 * PAGE, 4)], [0, 0, 2, 1]);
    await assertRejects(() => ism.attach(5n, { read: false, write: false }), UsageError);
  });
});

Deno.test("N-5.13, A-5.11, A-5.12, A-5.13: updates by a vector, and back to the event queue", async () => {
  await withIsm(async (ism, model) => {
    // Vector 0 is for config changes, 1 and 2 for the queues.
    assertEquals(ism.regionVectors, [3, 4]);
    const region = await ism.alloc(1);
    const second = await ism.alloc(1);
    const wrong = await assertRejects(() => ism.setEventVector(region, 2), UsageError);
    assertEquals(wrong.hint, "there are 3, 4");
    await ism.setEventVector(region, 3);
    await ism.setEventVector(second, 3);
    assertEquals([region.vector, second.vector], [3, 3]);
    const waiting = region.waitUpdate(5000);
    model.transport.interrupts[3]!.signal();
    assertEquals(await waiting, true);
    assertEquals([region.updates, second.updates], [1, 1]);
    assertEquals(ism.takeEvents(), [
      { type: "update", region, devid: undefined },
      { type: "update", region: second, devid: undefined },
    ]);
    // The device refuses: the binding stays as it was.
    model.answer = () => ({ ack: 255 });
    await assertRejects(() => ism.setEventVector(region, 4), IsmError);
    await assertRejects(() => ism.setEventVector(region, null), IsmError);
    assertEquals(region.vector, 3);
    model.answer = () => undefined;
    await ism.setEventVector(region, null);
    model.transport.interrupts[3]!.signal();
    assertEquals(ism.pollEvents(), 1);
    assertEquals([region.updates, second.updates], [1, 2]);
    await second.detach();
    model.transport.interrupts[3]!.signal();
    assertEquals(ism.takeEvents().length, 1);
  }, { regionVectors: 2 });
  // Not enough vectors; polling drivers see the vector, too.
  await withIsm(
    async (ism, model) => {
      assertEquals(ism.regionVectors, [3]);
      const region = await ism.alloc(1);
      await ism.setEventVector(region, 3);
      setTimeout(() => model.transport.interrupts[3]!.signal(), 5);
      assertEquals(await ism.waitEvent(5000), true);
      assertEquals(region.updates, 1);
    },
    { regionVectors: 20, interrupts: "msix", wait: "poll" },
    { vectors: 4 },
  );
});

Deno.test("5.6: a kick is one write of 8 bits at the first chunk's notify address, which is looked up once", async () => {
  await withIsm(async (ism, model) => {
    model.chunksFor = () => [17, 4];
    const region = await ism.alloc(5000);
    region.notify();
    region.notify();
    assertEquals([model.notify.kicks, model.notify.doorbells], [[[68, 1, 1], [68, 1, 1]], 1]);
    await region.detach();
    assertThrows(() => region.notify(), ClosedError);
  });
});

Deno.test("5.4: all events, several in a buffer, in order; buffers are posted again", async () => {
  await withIsm(async (ism, model) => {
    model.chunksFor = () => [6];
    const region = await ism.alloc(1);
    assertEquals([region.peers, region.updates, model.postedEvents], [undefined, 0, 32]);
    const offset = BigInt(6 * PAGE);
    model.event(...[2n, offset, 4n, 1n], ...[1n, offset, 4n], ...[4n, offset, 4n, 0n]);
    model.event(1n, BigInt(5 * PAGE), 4n);
    assertEquals(ism.takeEvents(), [
      { type: "attach", region, devid: 4n, peers: 1n },
      { type: "update", region, devid: 4n },
      { type: "detach", region, devid: 4n, peers: 0n },
      // Of a region that is not, or no longer, this driver's.
      { type: "update", region: undefined, devid: 4n },
    ]);
    assertEquals([region.peers, region.updates, model.postedEvents], [0n, 1, 32]);
    const { updates, attaches, detaches, faults } = ism.statistics();
    assertEquals([updates, attaches, detaches, faults], [2, 1, 1, 0]);
    for (let i = 0; i < 100; i++) {
      model.event(1n, offset, 4n);
      assertEquals(ism.pollEvents(), 1);
      assertEquals(ism.takeEvents(5).length, 1);
    }
  });
});

Deno.test("A-5.9: an unknown type, or an event cut short, ends its buffer; what came before counts", async () => {
  await withIsm(async (ism, model) => {
    const region = await ism.alloc(1);
    const update = [1n, 0n, 4n];
    const cases: [bigint[], number, number, string][] = [
      [[...update, 3n, 0n, 4n, ...update], 72, 1, "unknown event type 3"],
      [[0n, 0n, 4n], 24, 0, "unknown event type 0"],
      [[1n << 32n | 1n, 0n, 4n], 24, 0, "unknown event type 4294967297"],
      [[5n, 0n, 4n, 0n], 32, 0, "unknown event type 5"],
      [[...update, ...update], 40, 1, "with 16 of 24 bytes"],
      [[...update, 2n, 0n, 4n, 0n], 48, 1, "with 24 of 32 bytes"],
      [[...update, 1n], 28, 1, "4 bytes after the last event"],
      [[], 0, 0, "came back empty"],
      [[1n, 1n, 4n], 24, 0, "is no chunk of the area"],
      [[4n, BigInt(64 * PAGE), 4n, 0n], 32, 0, "is no chunk of the area"],
      [[1n, 1n << 63n, 4n], 24, 0, "is no chunk of the area"],
      [[8n, 0n], 16, 0, "although the device supplies all memory"],
    ];
    for (const [fields, length, good, message] of cases) {
      model.eventBytes(fields, length);
      const events = ism.takeEvents();
      assertEquals(events.slice(0, -1), new Array(good).fill({ type: "update", region, devid: 4n }), message);
      const last = events.at(-1);
      if (last?.type !== "fault") throw new Error(message);
      assertEquals([last.error.message.includes(message), last.error.location.queue], [true, 1], message);
    }
    assertEquals(ism.statistics().faults, cases.length);
    // It goes on.
    model.event(...update);
    assertEquals(ism.takeEvents().map(({ type }) => type), ["update"]);
    // More than the buffer holds breaks the ring itself.
    model.eventBytes(update, 10_000);
    assertThrows(() => ism.pollEvents(), DeviceError, "used");
  });
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

Deno.test("events that come before the reply to ATTACH are the region's; those of one that is given up are not the next one's", async () => {
  await withIsm(async (ism, model) => {
    model.regions.set(5n, { size: 1n, chunks: [3] });
    model.answer = ({ command }) => {
      if (command !== "2.0") return undefined;
      model.event(1n, BigInt(3 * PAGE), 9n);
      // Somebody looks at the event queue before the reply is taken.
      assertEquals(ism.pollEvents(), 0);
      return undefined;
    };
    const region = await ism.attach(5n);
    assertEquals([region.updates, ism.takeEvents()], [1, [{ type: "update", region, devid: 9n }]]);
    model.answer = ({ command }) => {
      if (command === "3.0") model.event(4n, BigInt(3 * PAGE), 9n, 0n);
      return undefined;
    };
    await region.detach();
    const again = await ism.attach(5n);
    const detach = ism.takeEvents();
    assertEquals([again.peers, detach.map((event) => "region" in event && event.region === again)], [
      undefined,
      [
        false,
      ],
    ]);
  });
});
