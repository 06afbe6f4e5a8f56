/** Each kind of device by each form of virtio-mmio on the embedded host: data goes and comes, and no rule is broken on either side. */
import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { ISM_PERM, VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { openTransport, type TransportOptions, type VirtioTransport } from "../../../lib/virtio/mod.ts";
import { Random } from "../../random.ts";
import { testFrame } from "../../unit/virtio/model_net.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const A = "a003c00.virtio_mmio", B = "a003e00.virtio_mmio";

const FORMS = {
  "modern": [{ form: "modern" }, {}],
  "legacy": [{ form: "legacy" }, {}],
  "v3": [{ form: "v3", notify: { base: 0x204, multiplier: 4 } }, { profile: "mmio-v3" }],
  "msi-v2": [{ form: "msi-v2", sharing: true }, { profile: "mmio-msi-v2" }],
} as const satisfies Record<string, readonly [object, TransportOptions]>;

/** Serves devices of a kind, and gives their transports; afterwards nothing was complained of, and nothing leaked. */
async function withDevices(
  kind: string,
  form: keyof typeof FORMS,
  own: Record<string, unknown>,
  use: (one: VirtioTransport, other: VirtioTransport) => Promise<void>,
): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings];
  const [mmio, options] = FORMS[form];
  await using served = await TopologyHost.start([A, B].map((address) => ({ address, kind, mmio, ...own })));
  {
    using opened = new DisposableStack();
    const [one, other] = [A, B].map((address) => {
      served.host.bind(address);
      return opened.use(openTransport(opened.use(served.host.open(address)), options));
    });
    await use(one!, other!);
  }
  assertEquals(await served.stop(), []);
  assertEquals([openFdCount(), mappingCount().mappings], before);
}

/** By polling, and by the best interrupts that there are. */
const MODES = [{ interrupts: "none", wait: "poll" }, { interrupts: "auto", wait: "eventfd" }] as const;

for (const form of Object.keys(FORMS) as (keyof typeof FORMS)[]) {
  const best = form === "v3" || form === "msi-v2" ? "msi" : "intx";

  Deno.test(`virtio-blk by ${form}: what is written is read back, polled and by ${best}`, async () => {
    await withDevices("virtio-blk", form, { sizeBytes: 1 << 20 }, async (transport) => {
      for (const mode of MODES) {
        const bytes = new Random(5).bytes(300 * 512);
        await using blk = await VirtioBlk.open(transport, mode);
        if (mode.interrupts === "auto") assertEquals(blk.interruptKind, best);
        assertEquals(blk.capacitySectors, 2048);
        await blk.write(17, bytes);
        await blk.flush();
        assertEquals(await blk.read(17, 300), bytes);
        for (let sector = 0; sector < 50; sector++) {
          assertEquals(await blk.read(17 + sector, 1), bytes.subarray(512 * sector, 512 * (sector + 1)));
        }
      }
    });
  });

  Deno.test(`virtio-net by ${form}: frames both ways, polled and by ${best}`, async () => {
    await withDevices("virtio-net", form, {}, async (one, other) => {
      for (const mode of MODES) {
        await using a = await VirtioNet.open(one, mode);
        await using b = await VirtioNet.open(other, mode);
        assert(a.macText !== b.macText);
        for (let serial = 0; serial < 50; serial++) {
          const [from, to] = serial % 2 === 0 ? [a, b] : [b, a];
          const frame = testFrame(60 + serial, serial);
          frame.set(to.mac);
          frame.set(from.mac, 6);
          assert(from.send(frame));
          assertEquals(await to.receive(10_000), frame);
        }
      }
    });
  });

  if (form === "legacy") continue;

  Deno.test(`virtio-console by ${form}: an echo, polled and by ${best}`, async () => {
    await withDevices("virtio-console", form, { ports: 2, peer: "loopback" }, async (transport) => {
      for (const mode of MODES) {
        await using console = await VirtioConsole.open(transport, mode);
        for (const port of console.ports) {
          const bytes = new Random(port.index).bytes(5000);
          await port.write(bytes, 10_000);
          const back: number[] = [];
          while (back.length < bytes.length) back.push(...(await port.read(10_000))!);
          assertEquals(Uint8Array.from(back), bytes);
        }
      }
    });
  });

  Deno.test(`virtio-ism by ${form}: a region that two share, mapped, and its events, polled and by ${best}`, async () => {
    await withDevices("virtio-ism", form, { chunks: 16 }, async (one, other) => {
      for (const mode of MODES) {
        await using a = await VirtioIsm.open(one, mode);
        await using b = await VirtioIsm.open(other, mode);
        assertEquals(a.info.cdidText, b.info.cdidText);
        const mine = await a.alloc(10_000);
        await a.grantDefault(mine, ISM_PERM.READ | ISM_PERM.WRITE | ISM_PERM.ATTACH);
        const theirs = await b.attach(mine.token);
        assertEquals([mine.mapped, theirs.mapped], [true, true]);
        const bytes = new Random(9).bytes(9000);
        mine.write(100, bytes);
        const seen = new Uint8Array(9000);
        theirs.read(100, seen);
        assertEquals(seen, bytes);
        mine.notify();
        assert(await theirs.waitUpdate(10_000, 0), "the other one hears of it");
        await theirs.detach();
        await mine.detach();
      }
    });
  });
}
