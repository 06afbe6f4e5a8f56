import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { cli } from "./run_cli.ts";

const PF = "0000:01:00.0";
const RNG = "0000:02:00.0";
const MANAGEMENT = "0000:03:00.0";
const MMIO = "a003e00.virtio_mmio";

function snapshot(directory: string): string {
  using host = openHost(directory);
  return JSON.stringify([host.list({ all: true }), host.journal()]);
}

Deno.test("several functions at once, by name and by what they are; --dry-run prints what the command prints", async (t) => {
  const served = await startEmulatedHost();
  const run = (...args: string[]) => cli("--host", served.directory, ...args);
  const ok = async (...args: string[]) => {
    const { code, out, err } = await run(...args);
    assertEquals([code, err], [0, ""], args.join(" "));
    return out;
  };
  /** A dry run and the command itself print the same, and only the second changes something. */
  const both = async (...args: string[]) => {
    const before = snapshot(served.directory);
    const dry = await ok(...args, "--dry-run");
    assertEquals(snapshot(served.directory), before, `${args.join(" ")} --dry-run`);
    const out = await ok(...args);
    assertEquals(dry, out, args.join(" "));
    return out;
  };
  try {
    const interfaceName: string = JSON.parse(await ok("list", "--json"))[0].netInterfaces[0];
    await t.step("bind: by interface, address and ids, in one journal", async () => {
      assertEquals(
        await both("bind", interfaceName, "--device", "1af4:1044", MMIO),
        `${PF}: virtio-pci -> vfio-pci\n${MMIO}: virtio-mmio -> vfio-platform\n${RNG}: virtio-pci -> vfio-pci\n`,
      );
      const status = JSON.parse(await ok("status", "--json"));
      assertEquals(
        new Set(status.journal.map((one: { function: string }) => one.function)),
        new Set([PF, MMIO, RNG]),
      );
      assertStringIncludes(await ok("status", PF), `(was ${interfaceName}, since `);
      assertEquals(JSON.parse(await ok("status", RNG, "--json")).vfio.length, 1);
    });
    await t.step("sriov: addresses are known before", async () => {
      assertEquals(await both("sriov", PF, "2"), `${PF}: 2 VFs\n  0000:01:00.1\n  0000:01:00.2\n`);
      const { numVfs, vfs } = JSON.parse(await ok("sriov", PF, "2", "--json"));
      assertEquals([numVfs, vfs.length, vfs[0].function], [2, 2, "0000:01:00.1"]);
    });
    await t.step("show and list: one object for one that is named, a list for every choice", async () => {
      const one = JSON.parse(await ok("show", PF, "--json"));
      assertEquals([one.address, one.vendorId, one.config.vendorId], [PF, "0x1af4", "0x1af4"]);
      const two = JSON.parse(await ok("show", PF, RNG, "--json"));
      assertEquals(two.map((each: { address: string }) => each.address), [PF, RNG]);
      assertEquals(JSON.parse(await ok("show", "--driver", "vfio-platform", "--json")).length, 1);
      const text = await ok("show", PF, RNG);
      assertMatch(text, /^01:00\.0 [^]*\n\n02:00\.0 /);
      assertEquals(JSON.parse(await ok("list", "--driver", "vfio-pci", "--json")).length, 4);
      assertEquals(await ok("list", "--class", "0108"), "no functions match\n");
      const group = JSON.parse(await ok("list", "--json"))[0].iommuGroup;
      assertMatch(await ok("list", "--group", String(group)), /0000:01:00\.0/);
    });
    await t.step("all or none: what one of them is refused for leaves the others alone", async () => {
      const before = snapshot(served.directory);
      for (
        const args of [
          ["bind", MANAGEMENT, "0000:55:00.0"],
          ["bind", MANAGEMENT, "eth77"],
          ["bind", MANAGEMENT, "--from", "no-such-driver"],
          ["bind", MANAGEMENT, RNG, "--driver", "no-such-driver"],
          ["bind"],
          ["show"],
          ["sriov", PF, MANAGEMENT, "1"],
          ["sriov", "2"],
          ["show", PF, "0000:55:00.0"],
        ]
      ) {
        const { code, out, err } = await run(...args);
        assert(code === 1 || code === 2, `${args.join(" ")}: ${code}`);
        assertEquals(out, "", args.join(" "));
        assertMatch(err, /^ringside: [^\n]+\n$/);
        assertEquals(snapshot(served.directory), before, args.join(" "));
      }
    });
    await t.step("restore: some, by an interface that is not there any more, and the rest", async () => {
      const dropped = await ok("restore", RNG, "--forget", "--dry-run");
      assertMatch(dropped, /^dropped: 0000:02:00\.0 driver: vfio-pci -> virtio-pci\n/);
      const pf = await both("restore", interfaceName);
      assertMatch(pf, /0000:01:00\.0 driver: vfio-pci -> virtio-pci/);
      assert(!pf.includes(RNG));
      const rest = await both("restore", "--driver", "vfio-pci");
      assertMatch(rest, /^0000:02:00\.0 driver: vfio-pci -> virtio-pci\n/);
      assertEquals((await run("restore", "--driver", "vfio-pci")).code, 2);
      await both("restore");
      assertEquals(await ok("restore"), "nothing to put back\n");
    });
    assertEquals(served.violations(), []);
  } finally {
    await served.stop();
  }
});

Deno.test("show --dump refuses what is about a function of a host, and list --json what is about the table", async () => {
  const wrong: readonly (readonly [args: string[], says: RegExp])[] = [
    [["show", "--dump", "x", "01:00.0"], /--dump takes no FUNCTION/],
    [["show", "--dump", "x", "--host", "linux"], /--dump takes no --host/],
    [["show", "--dump", "x", "--path", "cdev"], /--dump takes no --path/],
    [["show", "--dump", "x", "--vf-token", "y"], /--dump takes no --vf-token/],
    [["show", "--dump", "x", "--trace", "-"], /--dump takes no --trace/],
    [["show", "--dump", "x", "--profile", "mmio-v3"], /--dump takes no --profile/],
    [["show", "--dump", "x", "--tvq", "bit=44"], /--dump takes no --tvq/],
    [["show", "--dump", "x", "--assume-access-platform"], /--dump takes no --assume-access-platform/],
    [["show", "--dump", "x", "--enable-unsafe-noiommu-mode"], /--dump takes no --enable-unsafe-noiommu-mode/],
    [["show", "--dump", "x", "--class", "net"], /--dump takes no option that chooses functions/],
    [["list", "--json", "--wide"], /--json has everything/],
    [["list", "--json", "--columns", "ID"], /--json has everything/],
    [["list", "--columns", "COLOUR"], /there is no column "COLOUR" \(columns are FUNCTION,ID,/],
  ];
  for (const [args, says] of wrong) {
    const { code, out, err } = await cli(...args);
    if (!args.includes("--json")) assertEquals(out, "");
    assertEquals(code, 2, err);
    assertMatch(err, says);
  }
});
