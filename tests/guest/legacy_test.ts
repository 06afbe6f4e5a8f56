/** The legacy interface against QEMU's transitional functions: our rings, headers and vectors, judged by devices that are not ours. */
import { assert, assertEquals, assertGreaterOrEqual, assertRejects } from "@std/assert";
import { VirtioBlk } from "../../drivers/blk/virtio_blk.ts";
import { VirtioNet, type VirtioNetOptions } from "../../drivers/net/virtio_net.ts";
import { UnsupportedError } from "../../lib/errors/mod.ts";
import type { LinuxHost } from "../../lib/host/linux_host.ts";
import { ConfigAccess } from "../../lib/vfio/config_access.ts";
import { FEATURE, STATUS, VirtioDevice, type VirtioTransport } from "../../lib/virtio/mod.ts";
import { LegacyAdminTransport } from "../../lib/virtio/transport/pci_legacy_admin.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { anyPathTest, functions, type KernelPath, pathTest } from "./guest_host.ts";
import { bothWays, drive } from "./net_pair.ts";
import { IoBarRegisters, msixEnabled, withPhysicalDma } from "./transitional.ts";

const NET = "1af4:1000";
const BLK = "1af4:1001";
const SECTOR_BYTES = 512;
/** Buffers of a queue, whose length the device says, fit in a huge page. */
const SIZES = { requestBytes: 4096, segmentBytes: 2048 } as const;

function open(
  host: LinuxHost,
  path: KernelPath,
  address: string,
  kind: "legacy" | "modern",
  stack: AsyncDisposableStack,
): VirtioTransport {
  host.bind(address);
  const opened = stack.use(host.open(address, { path }));
  const device = withPhysicalDma(opened);
  stack.defer(() => device.dma.close());
  // Bit 0: I/O Space Enable.
  const config = new ConfigAccess(opened);
  config.write16(4, config.read16(4) | 1);
  if (kind === "modern") return stack.use(PciModernTransport.open(device));
  return stack.use(
    LegacyAdminTransport.open(device, new IoBarRegisters(opened, () => msixEnabled(opened))),
  );
}

const MIXES: readonly (readonly [string, VirtioNetOptions])[] = [
  ["everything", {}],
  ["no event index", { eventIndex: false }],
  ["no indirect tables", { indirect: false }],
  ["neither, by INTx", { eventIndex: false, indirect: false, interrupts: "intx" }],
];

anyPathTest(
  "2.3 virtio-net by its legacy interface: frames to and from one by the modern",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const [one, other] = functions(NET);
    const legacy = open(host, path, one!, "legacy", stack);
    const modern = open(host, path, other!, "modern", stack);
    for (const [name, options] of MIXES) {
      await using nets = new AsyncDisposableStack();
      const a = nets.use(await VirtioNet.open(legacy, { wait: "eventfd", ...options }));
      const b = nets.use(await VirtioNet.open(modern, { wait: "eventfd" }));
      assertEquals(a.features & FEATURE.VERSION_1, 0n, name);
      assertEquals((a.features & FEATURE.EVENT_IDX) !== 0n, options.eventIndex ?? true, name);
      await bothWays(a, b, 1500, 40);
      await a.reset();
      await bothWays(a, b, 100, 10);
    }
    const [a, b] = await drive([legacy, modern], stack);
    await bothWays(a, b, 200, 20);
  },
);

pathTest("1.2 a function that is not behind the IOMMU, and says so, is refused", async (host, path) => {
  const [address] = functions(NET);
  host.bind(address!);
  {
    using device = host.open(address!, { path });
    using transport = PciModernTransport.open(device);
    const error = await assertRejects(
      () => VirtioNet.open(transport),
      UnsupportedError,
      "VIRTIO_F_ACCESS_PLATFORM",
    );
    assert(error.hint.includes("iommu_platform=on"), error.hint);
    assertEquals(device.dma.usage.allocations, 0, "it was given no address");
    assertEquals(transport.readStatus() & STATUS.driverOk, 0);
  }
  // Insisting is possible; without a queue it does no harm.
  using device = host.open(address!, { path });
  using transport = PciModernTransport.open(device, { assumeAccessPlatform: true });
  using virtio = new VirtioDevice(transport);
  assertEquals(virtio.negotiate() & (FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM), FEATURE.VERSION_1);
});

anyPathTest(
  "2.3 virtio-net: two legacy drivers",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const transports = functions(NET).map((address) => open(host, path, address, "legacy", stack));
    const [a, b] = await drive(transports, stack);
    await bothWays(a, b, 1500, 40);
  },
);

anyPathTest(
  "2.3 virtio-blk by its legacy interface: what it writes, the modern one reads",
  async (host, path) => {
    const [address] = functions(BLK);
    const bytes = Uint8Array.from({ length: 300 * SECTOR_BYTES }, (_, i) => (i * 31 + (i >> 9)) & 0xff);
    {
      await using stack = new AsyncDisposableStack();
      const blk = stack.use(
        await VirtioBlk.open(open(host, path, address!, "legacy", stack), { wait: "eventfd", ...SIZES }),
      );
      assertEquals(blk.features & FEATURE.VERSION_1, 0n);
      assertEquals(await blk.id(), "ringside-legacy");
      await blk.write(1000, bytes);
      await blk.flush();
      assertEquals(await blk.read(1000, 300), bytes);
      await blk.reset();
      assertEquals(await blk.read(1000, 300), bytes);
      // A device that has answered before the driver sleeps interrupts nobody.
      for (let i = 0; i < 500 && blk.statistics().interrupts === 0; i++) await blk.read(1000, 300);
      assertGreaterOrEqual(blk.statistics().interrupts, 1);
    }
    await using stack = new AsyncDisposableStack();
    const blk = stack.use(await VirtioBlk.open(open(host, path, address!, "modern", stack), SIZES));
    assert((blk.features & FEATURE.VERSION_1) !== 0n);
    assertEquals(await blk.read(1000, 300), bytes);
  },
);
