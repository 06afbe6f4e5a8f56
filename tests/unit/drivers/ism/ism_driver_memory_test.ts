import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { IsmError, type IsmEvent } from "../../../../drivers/ism/virtio_ism.ts";
import { ClosedError, DeviceError, TimeoutError, UsageError } from "../../../../lib/errors/mod.ts";
import { ISM_ACK } from "../../../../lib/virtio/spec/ism.ts";
import { withIsm } from "./ism_driven.ts";

const PAGE = 4096;

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
