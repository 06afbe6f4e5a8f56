import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { DeviceError, NotFoundError, TimeoutError, UnsupportedError } from "../../../lib/errors/mod.ts";
import type { VirtioTransport } from "../../../lib/virtio/mod.ts";
import type { MmioForm } from "../../../lib/virtio/spec/mmio.ts";
import { type Reached, TopologyHost } from "../drivers/topology_host.ts";
import { PROFILE_OF } from "../transports/matrix.ts";
import { exchange } from "../transports/traffic.ts";

const PEER = "0000:01:00.0";
const ALL: readonly MmioForm[] = ["modern", "legacy", "v3", "msi-v2"];
const MODERN: readonly MmioForm[] = ["modern", "v3", "msi-v2"];
const DRAFTS: readonly MmioForm[] = ["v3", "msi-v2"];

interface Liar {
  readonly served: TopologyHost;
  readonly form: MmioForm;
  readonly address: string;
  reach(): Reached<VirtioTransport>;
}

/** A device of this kind and each form, which lies, beside an honest one over PCI; afterwards nothing of them is left. */
async function withLiars(
  kind: string,
  lies: Partial<Record<MmioForm, string>>,
  use: (liar: Liar) => Promise<void>,
): Promise<void> {
  const before = [openFdCount(), mappingCount()];
  const liars = Object.entries(lies).map(([form, lie], at) => ({
    address: `a${at}00000000.virtio_mmio`,
    kind,
    mmio: { form: form as MmioForm },
    lie,
  }));
  await using served = await TopologyHost.start([...liars, { address: PEER, kind }]);
  for (const { address, mmio: { form } } of liars) {
    await use({ served, form, address, reach: () => served.open(address, { profile: PROFILE_OF[form] }) });
  }
  await served.stop();
  assertEquals([openFdCount(), mappingCount()], before);
}

function each(forms: readonly MmioForm[], lie: string): Partial<Record<MmioForm, string>> {
  return Object.fromEntries(forms.map((form) => [form, lie]));
}

/** Frames with the honest one. */
async function talks({ served }: Liar, net: VirtioNet): Promise<void> {
  using honest = served.open(PEER);
  await using peer = await VirtioNet.open(honest.transport);
  await exchange(net, peer, "poll", 20);
}

for (
  const [lie, type, text] of [
    ["mmio-magic:0:1", UnsupportedError, "MagicValue reads 0x74724976"],
    ["mmio-version:0:1", UnsupportedError, "Version is 4"],
    ["mmio-device-id-zero:0:1", NotFoundError, "DeviceID is 0"],
    ["mmio-garbage:7", UnsupportedError, "MagicValue reads 0x"],
  ] as const
) {
  Deno.test(`lie ${lie}: no form of it is opened, by ${type.name}; once it is honest, it is`, async () => {
    await withLiars("virtio-net", each(ALL, lie), async (liar) => {
      const error = assertThrows(() => liar.reach(), type, text);
      assert(error.message.startsWith(liar.address), error.message);
      if (lie.startsWith("mmio-garbage")) return;
      using reached = liar.reach();
      await using net = await VirtioNet.open(reached.transport);
      await talks(liar, net);
    });
  });
}

for (
  const [lie, forms, type, text] of [
    ["features-ok-refused:0:1", MODERN, DeviceError, "Status: the device refuses FEATURES_OK"],
    ["version-1-missing:0:1", MODERN, UnsupportedError, "VIRTIO_F_VERSION_1"],
    ["generation-never-settles:0:230", MODERN, DeviceError, "ConfigGeneration: it never settled"],
    ["queue-enable-ignored:1:1", MODERN, DeviceError, "QueueReady: 1 was written, 0 reads back"],
    ["mmio-notify-outside:0:12", DRAFTS, DeviceError, "QueueNotify"],
  ] as const
) {
  Deno.test(`lie ${lie}: open fails with a ${type.name} that says where, leaves nothing behind, and works when the lie is over`, async () => {
    await withLiars("virtio-net", each(forms, lie), async (liar) => {
      using reached = liar.reach();
      const error = await assertRejects(() => VirtioNet.open(reached.transport), type, text);
      assert(error.message.startsWith(liar.address), error.message);
      assertEquals(reached.device.dma.usage.labels, [], liar.form);
      let net: VirtioNet | undefined;
      for (let tries = 0; net === undefined && tries < 12; tries++) {
        net = await VirtioNet.open(reached.transport).catch((error) => {
          assert(error instanceof type, `${error}`);
          return undefined;
        });
      }
      await using opened = net!;
      await talks(liar, opened);
    });
  });
}

Deno.test("lie queue-size-zero: no queue 0, of any form; QueueSizeMax 65535 and 3 are only more and less than is wanted", async () => {
  await withLiars("virtio-net", each(ALL, "queue-size-zero"), async ({ address, reach }) => {
    using reached = reach();
    const error = await assertRejects(() => VirtioNet.open(reached.transport), UnsupportedError);
    assertEquals(error.message, `${address} has no queue 0`);
  });
  for (const [lie, size] of [["mmio-queue-size-large", 256], ["queue-size-odd", 2]] as const) {
    await withLiars("virtio-net", each(ALL, lie), async (liar) => {
      using reached = liar.reach();
      await using net = await VirtioNet.open(reached.transport, { packed: false });
      assertEquals(net.rx[0]!.views.length, size, `${liar.form} ${lie}`);
      if (size > 2) await talks(liar, net);
    });
  }
});

Deno.test("lie mmio-shm-base: the driver of its memory does not open, and does when the lie is over", async () => {
  await withLiars("virtio-ism", each(MODERN, "mmio-shm-base:0:2"), async ({ address, reach }) => {
    using reached = reach();
    const error = await assertRejects(() => VirtioIsm.open(reached.transport), DeviceError);
    assertEquals(error.location, { function: address, field: "SHMBase" });
    await using ism = await VirtioIsm.open(reached.transport);
    const region = await ism.alloc(10_000);
    region.setUint8(9_999, 7);
    assertEquals(region.getUint8(9_999), 7);
  });
});

Deno.test("N-7.3 lie vector-refused: the line is used in the place of MSI; after a reset MSI is tried again", async () => {
  // So many commands as set up two vectors, turn MSI on, and give up.
  const lies = { "v3": "vector-refused:0:4", "msi-v2": "vector-refused:0:8" };
  await withLiars("virtio-rng", lies, async ({ form, reach }) => {
    using reached = reach();
    await using rng = VirtioRng.open(reached.transport, { interrupts: "auto", wait: "eventfd" });
    for (const kind of ["intx", "msi"]) {
      const before = rng.interrupts;
      for (let i = 0; i < 50; i++) assertEquals((await rng.read(64)).length, 64);
      assert(rng.interrupts > before, `${form}: ${kind} does not interrupt`);
      assertEquals(rng.interruptKind, kind);
      await rng.reset();
    }
  });
});

Deno.test("lie reset-never-finishes: a TimeoutError that names the device, and the next reset goes on", async () => {
  await withLiars("virtio-net", each(ALL, "reset-never-finishes"), async (liar) => {
    using reached = liar.reach();
    await using net = await VirtioNet.open(reached.transport, { resetTimeoutMs: 100 });
    const error = await assertRejects(() => net.reset(), TimeoutError);
    assert(error.message.startsWith(liar.address), error.message);
    await net.reset();
    await talks(liar, net);
  });
});

for (
  const [lie, packed, field] of [
    ["used-id-out-of-range", false, "used.id"],
    ["used-length-over", false, "used.len"],
    ["used-not-in-flight", false, "used.id"],
    ["used-index-jump", false, "used.idx"],
    ["used-id-out-of-range", true, "used.id"],
    ["used-length-over", true, "used.len"],
    ["used-not-in-flight", true, "used.id"],
  ] as const
) {
  Deno.test(`lie ${lie} of a ${packed ? "packed" : "split"} ring: a DeviceError naming device, queue and field; after a reset it goes on`, async () => {
    await withLiars("virtio-rng", each(MODERN, `${lie}:3`), async ({ address, reach }) => {
      using reached = reach();
      await using rng = VirtioRng.open(reached.transport, { timeoutMs: 10_000, packed });
      const error = await assertRejects(async () => {
        for (let i = 0; i < 10; i++) await rng.read(64);
      }, DeviceError);
      assertEquals(error.location, { function: address, queue: 0, field });
      await rng.reset();
      for (let i = 0; i < 10; i++) assertEquals((await rng.read(64)).length, 64);
    });
  });
}
