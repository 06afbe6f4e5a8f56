import { assertEquals, assertRejects } from "@std/assert";
import { VirtioIsm } from "../../../../drivers/ism/virtio_ism.ts";
import { mappingCount } from "../../../../ffi/mod.ts";
import { DeviceError, UnsupportedError } from "../../../../lib/errors/mod.ts";
import { FakeTransport } from "../../virtio/transport/fake_transport.ts";
import { withIsm } from "./ism_driven.ts";
import { CDID, ModelIsm, type ModelIsmOptions } from "./model_ism.ts";

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
