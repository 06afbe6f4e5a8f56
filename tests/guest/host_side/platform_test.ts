/**
 * Kernel VFIO on platform devices, which x86 kernels do not have: QEMU's virtio-mmio devices in an AArch64 guest. There is no IOMMU in front of them, so
 * the kernel lets them have no DMA: everything else is tried.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { DEVICE_FLAG, IRQ_FLAG, REGION_FLAG } from "../../../lib/vfio/device.ts";
import { bootJob, whyNoGuest } from "./job_guest.ts";
import {
  ADDRESS,
  type EndReport,
  LINK_CHANGES,
  type ListReport,
  type OpenReport,
  type PlatformReport,
  type TransportReport,
} from "./platform_job.ts";
import { QmpClient } from "./qmp.ts";

const JOB = new URL("./platform_job.ts", import.meta.url).pathname;
const MAC = [0x52, 0x54, 0, 0, 0, 0x21];
const DISK_SECTORS = 2048;
/** Of the machine's device tree. */
const WINDOWS = 32;
const WINDOW_BYTES = 0x200;
const TYPE = { rng: 4, net: 1, blk: 2 } as const;
const VERSION_1 = 1n << 32n;

function deviceArguments(disk: string, monitor: string): string[] {
  const mac = MAC.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
  return [
    ...["-global", "virtio-mmio.force-legacy=off"],
    ...["-object", "rng-builtin,id=source"],
    ...["-device", "virtio-rng-device,rng=source,bus=virtio-mmio-bus.31"],
    ...["-netdev", "hubport,id=link,hubid=0"],
    ...["-device", `virtio-net-device,id=net,netdev=link,mac=${mac},bus=virtio-mmio-bus.30`],
    ...["-blockdev", JSON.stringify({ driver: "file", "node-name": "disk", filename: disk })],
    ...["-device", "virtio-blk-device,drive=disk,bus=virtio-mmio-bus.29"],
    ...["-qmp", `unix:${monitor},server=on,wait=off`],
  ];
}

function checkList(one: ListReport): void {
  assertEquals(one.windows, WINDOWS);
  // The others are placeholders, which nobody has.
  assertEquals(one.listed, [ADDRESS.blk, ADDRESS.net, ADDRESS.rng]);
  for (const name of ["rng", "net", "blk"] as const) {
    const info = one.infos[name];
    assertEquals([info.bus, info.driver, info.virtioType], ["platform", "virtio-mmio", TYPE[name]]);
    assertEquals(info.compatible, ["virtio,mmio"]);
    const address = parseInt(ADDRESS[name], 16);
    assertEquals(info.registers, { address, sizeBytes: WINDOW_BYTES });
    assertEquals(info.iommuGroup, undefined);
  }
  const { rng, net, blk } = one.infos;
  assertEquals([rng, net, blk].map((info) => info.netInterfaces.length), [0, 1, 0]);
  assertEquals([rng, net, blk].map((info) => info.blockDevices), [[], [], ["vda"]]);
  assertEquals(one.refused.inUse.error, "RefusedError");
  assertStringIncludes(one.refused.inUse.message, `of ${ADDRESS.net} has the address 192.0.2.1`);
  assertEquals(one.refused.notBound.error, "UsageError");
  assertStringIncludes(one.refused.notBound.message, "only a function that is bound to vfio-platform");
}

function checkOpen(one: OpenReport): void {
  const { info, refused, device, lacks } = one;
  assertEquals(info.driver, "vfio-platform");
  assert(info.iommuGroup !== undefined, "the no-IOMMU mode makes a group");
  assertEquals(info.groupMembers.filter((member) => member !== info.address), []);
  assertEquals([...info.netInterfaces, ...info.blockDevices], []);
  assertEquals([refused.safe.error, refused.cdev.error], ["RefusedError", "UnsupportedError"]);
  assertStringIncludes(refused.safe.message, "enableUnsafeNoIommuMode");
  assertEquals(device, { path: "group", flags: DEVICE_FLAG.platform, pci: false });
  assertEquals(one.counts, { regions: 1, irqs: 1 });
  // Less than a page: it cannot be mapped.
  const flags = REGION_FLAG.read | REGION_FLAG.write;
  assertEquals(one.region, {
    index: 0,
    flags,
    sizeBytes: WINDOW_BYTES,
    mmapAreas: [],
    msixMappable: false,
  });
  // By edges, the device tree says: nothing masks it.
  assertEquals(one.irq, { index: 0, flags: IRQ_FLAG.eventfd, count: 1 });
  assertEquals(one.identity, [0x7472_6976, 2, TYPE[one.name], 0x554d_4551]);
  for (const lack of Object.values(lacks)) assert(lack.error !== "", lack.message);
  assertEquals(lacks.dma.error, "UnsupportedError");
  assertStringIncludes(lacks.dma.message, "IOMMU");
}

function checkTransport(one: TransportReport): void {
  assertEquals([one.kind, one.legacy, one.deviceId], ["mmio", false, TYPE[one.name]]);
  assertEquals(one.queueSizes, { rng: [8], net: [256, 256, 64], blk: [256] }[one.name]);
  const [offered, accepted] = [BigInt(one.offered), BigInt(one.accepted)];
  assertEquals([offered & VERSION_1, accepted & VERSION_1], [VERSION_1, VERSION_1]);
  assertEquals(accepted & ~offered, 0n);
  // ACKNOWLEDGE, DRIVER, FEATURES_OK.
  assertEquals(one.status, 11);
  assertEquals(
    one.config,
    {
      rng: [],
      net: [...MAC, 1, 0],
      blk: [DISK_SECTORS & 0xff, DISK_SECTORS >> 8, 0, 0, 0, 0, 0, 0],
    }[one.name],
  );
  assertEquals(one.vectors, { line: 1, messages: 0 });
  assertMatch(one.noMessages, /messages/);
}

function checkEnd(one: EndReport): void {
  assertEquals(one.fired, 1);
  assertEquals([one.failed, one.journalAfter], [0, 0]);
  assert(one.journalBefore > 0);
  assertEquals(one.after, one.before);
  assertEquals(one.interfaces.length, 1);
}

const why = whyNoGuest("aarch64");

Deno.test({
  name: `platform devices by kernel VFIO: list, bind, open, registers, line, restore${
    why === undefined ? "" : ` (skipped: ${why})`
  }`,
  ignore: why !== undefined,
  sanitizeOps: true,
  sanitizeResources: true,
  fn: async () => {
    const folder = await Deno.makeTempDir();
    const [disk, monitor] = [`${folder}/disk`, `${folder}/monitor`];
    await Deno.writeFile(disk, new Uint8Array(DISK_SECTORS * 512));
    const reports: PlatformReport[] = [];
    const links: boolean[] = [];
    /** Plugs the link out and in, as the guest waits for it. */
    const change = async (round: number): Promise<void> => {
      using qmp = await QmpClient.connect(monitor);
      links.push(round % 2 === 1);
      await qmp.execute("set_link", { name: "net", up: round % 2 === 1 });
    };
    const changes: Promise<unknown>[] = [];
    try {
      const { exitCode, console } = await bootJob({
        job: JOB,
        task: {},
        onReport: (one) => {
          const given = one as PlatformReport;
          reports.push(given);
          // What goes wrong there is told at the end; the guest's wait has a limit.
          if (given.what === "waiting") changes.push(change(given.round).catch((error: unknown) => error));
        },
        guest: {
          machine: "virt",
          iommu: false,
          cpus: 1,
          memoryMiB: 1024,
          hugepages: 0,
          devices: [],
          modules: [
            { name: "vfio", parameters: "enable_unsafe_noiommu_mode=1" },
            { name: "vfio_iommu_type1" },
            // It knows no way to reset a virtio-mmio device.
            { name: "vfio_platform", parameters: "reset_required=0" },
            { name: "virtio_net" },
            { name: "virtio_rng" },
            { name: "virtio_blk" },
            { name: "virtio_mmio" },
          ],
          qemuArgs: deviceArguments(disk, monitor),
        },
      });
      assertEquals(
        await Promise.all(changes),
        Array.from({ length: LINK_CHANGES }, () => undefined),
        console,
      );
      assertEquals(exitCode, 0, console);
      assertEquals(
        reports.map((one) => one.what).filter((what) => what !== "waiting" && what !== "line"),
        ["list", "open", "transport", "open", "transport", "open", "transport", "end"],
      );
      reports.filter((one) => one.what === "list").forEach(checkList);
      reports.filter((one) => one.what === "open").forEach(checkOpen);
      reports.filter((one) => one.what === "transport").forEach(checkTransport);
      reports.filter((one) => one.what === "end").forEach(checkEnd);
      assertEquals(
        reports.filter((one) => one.what === "line"),
        links.map((linkUp, round) => ({
          // QEMU says of every change that a buffer was used, too.
          ...{ what: "line", round, count: 1, interruptStatus: 3, after: 0, linkUp },
          generationChanged: true,
        } as const)),
      );
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
