import { assert, assertEquals, assertMatch } from "@std/assert";
import { readFile, removeFile } from "../../../ffi/mod.ts";
import { CaptureWriter } from "../../../lib/capture/mod.ts";
import { openTransport } from "../../../lib/virtio/mod.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { cli, type CliResult } from "./run_cli.ts";

const RNG = "a003e00.virtio_mmio";
const LEGACY_NETS = ["a003c00.virtio_mmio", "a003a00.virtio_mmio"] as const;
const V3_NETS = ["a003800.virtio_mmio", "a003600.virtio_mmio"] as const;
const BLK = "a003400.virtio_mmio";
const CONSOLE = "a003200.virtio_mmio";
const ISM = "a003000.virtio_mmio";
const PCI = "0000:01:00.0";
const DEVICES = [RNG, ...LEGACY_NETS, ...V3_NETS, BLK, CONSOLE, ISM];

const FUNCTIONS = [
  { address: RNG, kind: "virtio-rng" },
  ...LEGACY_NETS.map((address) => ({ address, kind: "virtio-net", queuePairs: 1, mmio: { form: "legacy" } })),
  ...V3_NETS.map((address) => ({
    address,
    kind: "virtio-net",
    queuePairs: 1,
    mmio: { form: "v3", notify: { base: 0x1000, multiplier: 4 } },
  })),
  {
    address: BLK,
    kind: "virtio-blk",
    sizeBytes: 1 << 20,
    mmio: { form: "msi-v2", sharing: true, vectors: 2 },
  },
  { address: CONSOLE, kind: "virtio-console" },
  { address: ISM, kind: "virtio-ism" },
  { address: PCI, kind: "virtio-rng" },
];

interface Register {
  readonly offset: number;
  readonly width: number;
  readonly name: string;
  readonly select: string | null;
  readonly value: number | string | null;
  readonly meaning: string;
}

function json<T>(result: CliResult): T {
  assertEquals(result.code, 0, result.err);
  return JSON.parse(result.out);
}

Deno.test("virtio-mmio devices by the command line, on the embedded host", async (t) => {
  await using served = await TopologyHost.start(FUNCTIONS);
  const { host } = served;
  const run = (...args: string[]) => cli("--host", host.name, ...args);
  for (const device of DEVICES) host.bind(device, { driver: "vfio-platform" });
  const scratch = `/tmp/ringside-mmio-${crypto.randomUUID()}`;

  await t.step("mmio show: a table of all registers, as text and as JSON", async () => {
    const { code, out, err } = await run("mmio", RNG, "show");
    assertEquals(code, 0, err);
    assertMatch(
      out,
      /^a003e00\.virtio_mmio: entropy source \(4\), virtio-mmio version 2, profile spec, form modern\n/,
    );
    assertMatch(
      out,
      /\nOFFSET +WIDTH +REGISTER +OF +VALUE +MEANING\n0x000 +4 +MagicValue +- +0x74726976 +"virt"\n/,
    );
    assertMatch(out, /\n0x010 +4 +DeviceFeatures +DeviceFeaturesSel 1 +0x[0-9a-f]{8} +VIRTIO_F_VERSION_1 /);
    assertMatch(out, /\n0x034 +4 +QueueSizeMax +QueueSel 0 +0x00000040 +64 descriptors\n/);
    assertMatch(err, /written, and put back to 0: DeviceFeaturesSel, QueueSel, SHMSel/);
    const told = json<Record<string, unknown> & { registers: Register[] }>(
      await run("mmio", RNG, "show", "--json"),
    );
    assertEquals([told.function, told.profile, told.form, told.version, told.deviceId, told.deviceType], [
      RNG,
      "spec",
      "modern",
      2,
      4,
      "entropy source",
    ]);
    assertEquals(told.written, ["DeviceFeaturesSel", "QueueSel", "SHMSel"]);
    assertEquals(told.registers[0], {
      offset: 0,
      width: 4,
      name: "MagicValue",
      select: null,
      value: 0x7472_6976,
      meaning: '"virt"',
    });
  });

  await t.step("mmio show: version 1, both drafts, a config space, shared memory", async () => {
    assertMatch(
      (await run("mmio", LEGACY_NETS[0], "show")).out,
      /version 1.*form legacy\n[^]*QueuePFN +QueueSel 0/,
    );
    const v3 = (await run("mmio", V3_NETS[0], "show", "--profile", "mmio-v3")).out;
    assertMatch(v3, /version 3, profile mmio-v3, form v3\n/);
    assertMatch(v3, /\n0x0c0 +2 +MsiStatus +- +0x[0-9a-f]{4} +max_queue_num \d+, msi_enabled 0\n/);
    assertMatch(v3, /\n0x1004 +4 +doorbell +QueueSel 1 /);
    assertMatch(v3, /\n0x100 +6 +config\.mac +- +0x[0-9a-f]{12} +([0-9a-f]{2}:){5}[0-9a-f]{2}\n/);
    assertMatch(v3, /\n0x10c +4 +config\.speed +- +- +not there: VIRTIO_NET_F_SPEED_DUPLEX is not offered\n/);
    const v2 = (await run("mmio", BLK, "show", "--profile", "mmio-msi-v2")).out;
    assertMatch(v2, /MsiState +- +0x00000002 +msi_enabled 0, msi_sharing 1\n/);
    assertMatch(v2, /config\.capacity +- +0x0000000000000800 +2048\n/);
    assertMatch((await run("mmio", ISM, "show")).out, /SHMLen +SHMSel 1 +0x/);
  });

  await t.step("mmio show: --trace - tells each access by name", async () => {
    const { err } = await run("mmio", RNG, "show", "--trace", "-");
    assertMatch(err, /a003e00\.virtio_mmio read +magic_value 0x74726976\n/);
    assertMatch(err, /write device_features_select 0x00000001\n/);
  });

  await t.step(
    "a wrong profile: the registers that all forms have, and why the device cannot be driven",
    async () => {
      const { code, out, err } = await run("mmio", V3_NETS[0], "show");
      assertEquals(code, 0);
      assertMatch(out, /version 3, profile spec\n/);
      assert(!out.includes("QueueReady"));
      assertMatch(err, /it cannot be driven: .*Version is 3.*open it with profile "mmio-v3"/);
      assert(!err.includes("written"));
      const shown = await run("show", V3_NETS[0]);
      assertMatch(shown.out, /\n\tVirtio: a003800\.virtio_mmio: Version is 3.*\(.*profile "mmio-v3"\)\n/);
      const refused = await run("rng", RNG, "--profile", "mmio-v3");
      assertEquals([refused.code, /Version is 2.*profile "spec"/.test(refused.err)], [1, true], refused.err);
      const pci = await run("rng", PCI, "--profile", "mmio-v3");
      assert(pci.code !== 0);
      const unknown = await run("rng", RNG, "--profile", "mmio");
      assertEquals(unknown.code, 2);
    },
  );

  await t.step("rng, by text and as bytes", async () => {
    assertMatch((await run("rng", RNG, "40")).out, /^[0-9a-f]{64}\n[0-9a-f]{16}\n$/);
    const told = json<{ interruptKind: string }>(
      await run("rng", RNG, "500", "-o", scratch, "--json", "--interrupts", "intx"),
    );
    assertEquals(told.interruptKind, "intx");
    assertEquals(readFile(scratch).length, 500);
    removeFile(scratch);
  });

  for (
    const [form, nets, how] of [["legacy", LEGACY_NETS, []], ["v3", V3_NETS, [
      "--profile",
      "mmio-v3",
    ]]] as const
  ) {
    await t.step(`net loop, ${form}: by interrupt, and polled`, async () => {
      for (const more of [[], ["--interrupts", "none"]]) {
        const told = json<{ frames: number }>(
          await run("net", "loop", ...nets, "--count", "200", "--json", ...how, ...more),
        );
        assertEquals(told.frames, 200);
      }
    });
  }

  await t.step("net send, by MSI of version 3", async () => {
    {
      using writer = new CaptureWriter(scratch);
      writer.write(new Uint8Array(60));
    }
    const told = json<{ sent: number }>(
      await run("net", "send", V3_NETS[0], scratch, "--json", "--profile", "mmio-v3", "--interrupts", "msi"),
    );
    assertEquals(told.sent, 1);
    removeFile(scratch);
  });

  await t.step("blk info by the draft; queue, ism and console by the standard", async () => {
    assertMatch((await run("blk", "info", BLK, "--profile", "mmio-msi-v2")).out, /VIRTIO_F_MMIO_MSI/);
    assertMatch(
      (await run("queue", RNG)).out,
      /^a003e00\.virtio_mmio: entropy source, .*\n(.*\n)?QUEUE .*\n0 /,
    );
    const shown = (await run("show", BLK, "--profile", "mmio-msi-v2")).out;
    assertMatch(shown, /\(profile mmio-msi-v2\)[^]*VIRTIO_F_MMIO_MSI/);
    assertMatch((await run("ism", ISM, "info")).out, /^a003000\.virtio_mmio +device \d+ of domain /);
    const ports = await run("console", CONSOLE, "--list");
    assertEquals(ports.code, 0, ports.err);
  });

  await t.step("a device that a driver has is left alone", async () => {
    using device = host.open(RNG);
    using transport = openTransport(device);
    await using rng = VirtioRng.open(transport);
    const refused = await run("mmio", RNG, "show", "--json");
    assertEquals(refused.code, 1);
    assertMatch(refused.err, /a003e00\.virtio_mmio is in use by .*pid/);
    assertEquals(JSON.parse(refused.out).error.type, "RefusedError");
    assertEquals((await rng.read(16)).length, 16);
    assertMatch((await run("queue", RNG)).out, /\n0 +(split|packed) +\d+ +yes /);
  });

  await t.step("what is no virtio-mmio device", async () => {
    const pci = await run("mmio", "01:00.0", "show");
    assertEquals(pci.code, 1);
    assertMatch(pci.err, /0000:01:00\.0 is a PCI function, .* show 0000:01:00\.0 decodes it/);
    const none = await run("mmio", "a00f000.virtio_mmio", "show");
    assertEquals(none.code, 2, none.err);
    assertEquals((await run("mmio", RNG)).code, 2);
    host.restore(CONSOLE);
    const bound = await run("mmio", CONSOLE, "show");
    assert(bound.code !== 0);
    assertMatch(bound.err, /a003200\.virtio_mmio.*virtio-mmio/);
  });

  host.restore();
  assertEquals(await served.stop(), []);
});
