/** The commands about where devices come from, on platform devices beside PCI functions. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { replaceFile } from "../../../ffi/mod.ts";
import { cli, type CliResult } from "./run_cli.ts";

const PCI = "0000:01:00.0";
const RNG = "a003e00.virtio_mmio";
const NET = "a003c00.virtio_mmio";
const TOPOLOGY = {
  functions: [
    { address: PCI, kind: "virtio-rng" },
    { address: RNG, kind: "virtio-rng" },
    { address: NET, kind: "virtio-net", hostUse: ["carries the default route"] },
  ],
};

function ok(result: CliResult): string {
  assertEquals(result.code, 0, result.err);
  return result.out;
}

Deno.test("platform devices on the command line: list, bind, status, show, doctor, restore; what is PCI's is refused by name of the bus", async (t) => {
  const scratch = makeTemporaryDirectory();
  const topology = `${scratch}/topology.json`;
  replaceFile(topology, new TextEncoder().encode(JSON.stringify(TOPOLOGY)) as Uint8Array<ArrayBuffer>);
  const host = await startEmulatedHost({ topology });
  const run = (...args: string[]) => cli("--host", host.directory, ...args);
  const json = async (...args: string[]) => JSON.parse(ok(await run(...args, "--json")));
  try {
    await t.step("list: in one table, with the bus in JSON", async () => {
      const lines = ok(await run("list")).split("\n");
      assertMatch(lines[1]!, /^0000:01:00\.0 +1af4:1044 +\S.* virtio-pci /);
      assertMatch(
        lines[2]!,
        /^a003c00\.virtio_mmio +virtio,mmio +platform device +Virtio MMIO network device +virtio-mmio +\d +- +- +eth0$/,
      );
      assertMatch(
        lines[3]!,
        /^a003e00\.virtio_mmio +virtio,mmio +platform device +Virtio MMIO entropy source /,
      );
      const listed = await json("list");
      assertEquals(listed.map((one: { bus: string; address: string }) => [one.bus, one.address]), [
        ["pci", PCI],
        ["platform", NET],
        ["platform", RNG],
      ]);
      assertEquals(await json("list", "--all"), listed);
      assertEquals(ok(await run("list", "--driver", "virtio-mmio")).trim().split("\n").length, 3);
      assertEquals(ok(await run("list", "--sriov")), "no functions match\n");
    });
    await t.step("bind: to vfio-platform unless told otherwise; guarded", async () => {
      assertEquals(ok(await run("bind", RNG)), `${RNG}: virtio-mmio -> vfio-platform\n`);
      assertEquals(ok(await run("bind", RNG)), `${RNG} is on vfio-platform already\n`);
      const guarded = await run("bind", NET);
      assertEquals(guarded.code, 1);
      assertMatch(
        guarded.err,
        /will not bind a003c00\.virtio_mmio to vfio-platform: network interface eth0 .* default route/,
      );
      const wrong = await run("bind", NET, "--driver", "vfio-pci");
      assertEquals(wrong.code, 2);
      assertMatch(wrong.err, /the kernel has no platform driver vfio-pci/);
    });
    await t.step("status", async () => {
      const text = ok(await run("status"));
      assertMatch(text, /\n {2}a003e00\.virtio_mmio driver: vfio-platform -> virtio-mmio /);
      assertMatch(text, /\non vfio-platform:\n {2}a003e00\.virtio_mmio {2}virtio,mmio {2}free\n$/);
      const { vfio } = await json("status");
      assertEquals(vfio, [{ function: RNG, driver: "vfio-platform", iommuGroup: vfio[0].iommuGroup }]);
    });
    await t.step("show: what firmware says, and what the opened device does", async () => {
      const text = ok(await run("show", RNG));
      assertEquals(text.split("\n").slice(0, 3), [
        `${RNG} platform device: virtio,mmio`,
        "\tCompatible: virtio,mmio",
        "\tRegisters: 0x0a003e00, 512 B",
      ]);
      assertMatch(text, /\tRegion 0: 512 B, read\/write\n\t\tInterrupt index 0: 1 vector\n/);
      assertMatch(text, /Virtio: device 4 \(entropy source\)/);
      const shown = await json("show", RNG);
      assertEquals([shown.bus, shown.vfio.path, shown.vfio.virtio.deviceId, "config" in shown], [
        "platform",
        "vfio-user",
        4,
        false,
      ]);
      const closed = ok(await run("show", NET));
      assertMatch(closed, /^a003c00\.virtio_mmio platform device: Virtio MMIO network device\n/);
      assertMatch(closed, /\tUsed as: eth0\n\tVFIO: not opened: .* when the function is on vfio-platform\n$/);
    });
    await t.step("what is PCI's alone", async () => {
      for (
        const [args, lacks] of [
          [["sriov", RNG, "1"], "VFs"],
          [["show", RNG, "--hex"], "configuration space"],
          [["admin", RNG, "list"], "VFs to administer"],
          [["admin", RNG, "legacy", "dump", "--vf", "0"], "VFs to administer"],
        ] as const
      ) {
        const refused = await run(...args);
        assertEquals([refused.code, refused.out], [1, ""], args.join(" "));
        assert(refused.err.includes(`${RNG} is a platform device, which has no ${lacks}`), refused.err);
      }
    });
    await t.step("doctor", async () => {
      assertMatch(ok(await run("doctor")), /\n {2}vfio-pci: loaded\n {2}vfio-platform: loaded\n/);
    });
    await t.step("restore", async () => {
      const { done, failed } = await json("restore", RNG);
      assertEquals([done.length, failed], [2, []]);
      assertEquals((await json("list"))[2].driver, "virtio-mmio");
    });
    await t.step("no violation was reported", () => assertEquals(host.violations(), []));
  } finally {
    await host.stop();
    removeTree(scratch);
  }
});
