import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet, type VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import { exchangeByInterrupt, exchangePolled } from "../../../drivers/net/virtio/exchange.ts";
import { TestFrames } from "../../../drivers/net/virtio/test_frames.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { FEATURE, NET_FEATURE } from "../../../lib/virtio/mod.ts";
import { LegacyIoBar, LegacyNotify } from "../../../lib/virtio/mod.ts";
import { LegacyHost } from "./legacy_host.ts";
import { campaign, rounds } from "../../random.ts";

const FRAMES = rounds(100_000);
const NET = { kind: "virtio-net", switch: "s0" };

/** A VF driven as a legacy device and one driven as a modern one; the device side must have nothing to complain of. */
async function withNets(
  fields: Record<string, unknown>,
  options: { legacy?: VirtioNetOptions; both?: VirtioNetOptions },
  use: (legacy: VirtioNet, modern: VirtioNet, host: LegacyHost) => Promise<void>,
): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings];
  await using host = await LegacyHost.start({ ...NET, ...fields });
  {
    await using legacy = await VirtioNet.open(host.legacy(0), { ...options.both, ...options.legacy });
    await using modern = await VirtioNet.open(host.modern(1), options.both);
    assertEquals([legacy.transport.kind, legacy.features >> 32n, modern.features >> 32n & 1n], [
      "pci-legacy-admin",
      0n,
      1n,
    ]);
    await use(legacy, modern, host);
  }
  assertEquals(await host.stop(), []);
  assertEquals([openFdCount(), mappingCount().mappings], before);
}

const frames = (from: VirtioNet, to: VirtioNet) => new TestFrames(to.mac, from.mac, 60, 1514);

Deno.test(campaign(`a legacy and a modern VF: ${FRAMES} frames checked by content, by polling`, async () => {
  await withNets({}, { both: { interrupts: "none" } }, async (legacy, modern) => {
    for (const [from, to] of [[legacy, modern], [modern, legacy]] as const) {
      const result = await exchangePolled(from, to, frames(from, to), FRAMES / 2);
      assertEquals(result.frames, FRAMES / 2);
    }
  });
}));

Deno.test(
  campaign(`a legacy and a modern VF: ${FRAMES} frames checked by content, with interrupts`, async () => {
    await withNets({}, { both: { interrupts: "msix", wait: "eventfd" } }, async (legacy, modern) => {
      for (const [from, to] of [[legacy, modern], [modern, legacy]] as const) {
        const before = to.statistics().interrupts;
        const result = await exchangeByInterrupt(from, to, frames(from, to), FRAMES / 2);
        assertEquals(result.frames, FRAMES / 2);
        const interrupts = to.statistics().interrupts - before;
        // One may stand for several frames.
        assert(interrupts >= FRAMES / 8, `${interrupts} interrupts`);
      }
    });
  }),
);

for (const legacyNotify of ["member", "owner", "both", "none"] as const) {
  Deno.test(`N-3.16 notified by ${legacyNotify}: frames both ways`, async () => {
    await withNets({ legacyNotify }, { both: { interrupts: "none" } }, async (legacy, modern, host) => {
      const commands = () => host.admin.admin.statistics.sent;
      const before = commands();
      const count = 2000;
      for (const [from, to] of [[legacy, modern], [modern, legacy]] as const) {
        assertEquals((await exchangePolled(from, to, frames(from, to), count)).frames, count);
      }
      // The hot path needs no command where there is a notify address.
      assertEquals(commands() > before, legacyNotify === "none");
    });
  });
}

for (
  const [what, refusedFeatures, extra] of [
    ["without ANY_LAYOUT, header of 12 bytes apart, in tables", FEATURE.ANY_LAYOUT, {}],
    ["without ANY_LAYOUT and MRG_RXBUF: 10 bytes", FEATURE.ANY_LAYOUT, { mergeable: false }],
    ["without ANY_LAYOUT and INDIRECT_DESC: two descriptors", FEATURE.ANY_LAYOUT, { indirect: false }],
    ["ANY_LAYOUT without MRG_RXBUF: 10 bytes before the frame", 0n, { mergeable: false }],
    ["no ring feature at all", FEATURE.ANY_LAYOUT, { indirect: false, eventIndex: false, mergeable: false }],
  ] as const
) {
  Deno.test(`2.3 framing: ${what}`, async () => {
    const legacy = { refusedFeatures, ...extra };
    await withNets({}, { legacy, both: { interrupts: "msix" } }, async (legacy, modern) => {
      assertEquals(legacy.features & refusedFeatures, 0n);
      assertEquals((legacy.features & NET_FEATURE.MRG_RXBUF) === 0n, "mergeable" in extra);
      for (const [from, to] of [[legacy, modern], [modern, legacy]] as const) {
        assertEquals((await exchangePolled(from, to, frames(from, to), 3000)).frames, 3000);
      }
      await legacy.setPromiscuous(true);
      await legacy.setMacTable([Uint8Array.of(2, 0, 0, 0, 0, 7)], [Uint8Array.of(1, 0, 0x5e, 0, 0, 1)]);
      await legacy.reset();
      assertEquals((await exchangePolled(modern, legacy, frames(modern, legacy), 500)).frames, 500);
    });
  });
}

Deno.test("a VF has no INTx, and vectors with MSI-X only; frames come with neither", async () => {
  await using host = await LegacyHost.start(NET);
  {
    const transport = host.legacy(0);
    assertEquals([transport.interruptCount("intx"), transport.interruptCount("msix") > 0], [0, true]);
    assertThrows(() => transport.enableInterrupts("intx", 1), UnsupportedError);
    await assertRejects(() => VirtioNet.open(transport, { interrupts: "intx" }), UnsupportedError);
    await using legacy = await VirtioNet.open(transport, { interrupts: "none" });
    await using modern = await VirtioNet.open(host.modern(1), { interrupts: "none" });
    const sent = frames(modern, legacy);
    assertEquals((await exchangePolled(modern, legacy, sent, 100)).frames, 100);
    assertThrows(() => transport.setQueueVector(0, 0), UsageError, "while MSI-X is enabled");
    transport.enableInterrupts("msix", 1);
    transport.setQueueVector(0, 0);
    transport.setConfigVector(null);
    transport.disableInterrupts();
    assertThrows(() => transport.setQueueVector(0, 0), UsageError, "while MSI-X is enabled");
    assertEquals((await exchangePolled(modern, legacy, sent, 100)).frames, 100);
  }
  assertEquals(await host.stop(), []);
});

Deno.test("the MAC set in the config space is the one that frames go to", async () => {
  const legacy = { refusedFeatures: NET_FEATURE.CTRL_MAC_ADDR };
  await withNets({}, { legacy, both: { interrupts: "none" } }, async (legacy, modern) => {
    await legacy.setMac(Uint8Array.of(2, 0, 0, 0xaa, 0xbb, 0xcc));
    assertEquals((await exchangePolled(modern, legacy, frames(modern, legacy), 500)).frames, 500);
  });
});

for (const [what, refusedFeatures] of [["", 0n], [" without ANY_LAYOUT", FEATURE.ANY_LAYOUT]] as const) {
  Deno.test(`a block device driven as a legacy one${what}: what was written is read, and the modern driver finds it`, async () => {
    const before = [openFdCount(), mappingCount().mappings];
    await using host = await LegacyHost.start({ kind: "virtio-blk", sizeBytes: 1 << 20, queues: 2 });
    const bytes = Uint8Array.from({ length: 512 * 300 }, (_, i) => Math.imul(i, 2654435761) >>> 24);
    {
      const transport = host.legacy(0);
      {
        await using blk = await VirtioBlk.open(transport, { refusedFeatures, requestBytes: 8192, queues: 2 });
        assertEquals([blk.features >> 32n, blk.capacitySectors], [0n, 2048]);
        await blk.write(7, bytes);
        await blk.flush();
        assertEquals(await blk.read(7, 300), bytes);
        assertEquals(await blk.read(100, 3), bytes.slice(93 * 512, 96 * 512));
        await blk.reset();
        assertEquals(await blk.read(306, 1), bytes.slice(299 * 512));
      }
      transport.close();
      await using modern = await VirtioBlk.open(host.modern(0));
      assertEquals(modern.features >> 32n & 1n, 1n);
      assertEquals(await modern.read(7, 300), bytes);
    }
    assertEquals(await host.stop(), []);
    assertEquals([openFdCount(), mappingCount().mappings], before);
  });
}

Deno.test("A-3.13 the I/O BAR of an emulated VF: registers, config behind 20 and 24, status and notification, by any width", async () => {
  await using host = await LegacyHost.start({ ...NET, mac: "02:00:00:00:00:10", mtu: 1400 });
  const transport = host.legacy(0);
  const registers = host.admin.member(0).legacy;
  using notify = new LegacyNotify(registers, { owner: host.pf });
  const bar = new LegacyIoBar(registers, { deviceId: 1, notify });
  const features = bar.readValue(0, 4);
  assertEquals(BigInt(features), transport.readDeviceFeatures());
  const bytes = new Uint8Array(32);
  bar.read(0, bytes);
  assertEquals(new DataView(bytes.buffer).getUint32(0, true), features);
  assertEquals([...bytes.subarray(20, 26)], [2, 0, 0, 0, 0, 0x11]);
  assertEquals(new DataView(bytes.buffer).getUint16(30, true), 1400);
  const unaligned = new Uint8Array(7);
  bar.read(17, unaligned);
  assertEquals(unaligned.subarray(3), bytes.subarray(20, 24));
  bar.writeValue(18, 1, 1);
  bar.writeValue(18, 1, 3);
  assertEquals(transport.readStatus(), 3);
  bar.writeValue(5, 1, features >> 8 & 0xff);
  assertEquals(bar.readValue(4, 4), features & 0xff00);
  bar.writeValue(14, 2, 1);
  assertEquals([bar.readValue(14, 2), bar.readValue(12, 2) > 0], [1, true]);
  transport.enableInterrupts("msix", 2);
  bar.msixEnabled = true;
  bar.writeValue(20, 2, 1);
  assertEquals([bar.readValue(20, 2), bar.readValue(22, 2), bar.readValue(29, 1)], [1, 0xffff, 0x11]);
  bar.writeValue(18, 1, 0);
  assertEquals(bar.readValue(20, 2), 0xffff, "a reset takes vectors away");
  transport.close();
  assertEquals(await host.stop(), []);
});
