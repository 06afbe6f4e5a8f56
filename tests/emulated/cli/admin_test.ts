import { assert, assertEquals, assertMatch } from "@std/assert";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { exchangePolled } from "../../../drivers/net/virtio/exchange.ts";
import { TestFrames } from "../../../drivers/net/virtio/test_frames.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { O, OwnedFd, readText, writeAll } from "../../../ffi/mod.ts";
import { KNOWN_ADMIN_OPCODES } from "../../../lib/virtio/admin/group.ts";
import { loadParts } from "../../../lib/virtio/admin/device_part_text.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { cli, type CliResult, startCli } from "./run_cli.ts";

const NET = "0000:01:00.0";
const BLK = "0000:02:00.0";
const SILENT = "0000:03:00.0";
const PLAIN = "0000:04:00.0";
const RNG = "0000:05:00.0";
const vf = (pf: string, index: number) => pf.replace(/.$/, String(index + 1));

const serve = () =>
  TopologyHost.start([
    { address: NET, kind: "virtio-net", totalVfs: 3, queuePairs: 1, switch: "s0", mtu: 1400, adminQueues: 2 },
    { address: BLK, kind: "virtio-blk", totalVfs: 1, queues: 1, sizeBytes: 1 << 20, legacyNotify: "owner" },
    { address: SILENT, kind: "virtio-net", totalVfs: 1, queuePairs: 1, legacyNotify: "none" },
    { address: PLAIN, kind: "virtio-net", totalVfs: 1, queuePairs: 1, adminQueues: 0 },
    { address: RNG, kind: "virtio-rng", totalVfs: 1 },
  ]);

function json<T = Record<string, unknown>>({ code, out, err }: CliResult): T {
  assertEquals([code, err], [0, ""]);
  return JSON.parse(out);
}

function failed({ code, out, err }: CliResult, status: number, says: RegExp): void {
  assertEquals([code, out], [status, ""], err);
  assertMatch(err, says);
  assertEquals(err.split("\n").length, 2, "one line");
}

function write(path: string, text: string): void {
  using file = OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
  writeAll(file, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
}

Deno.test("admin on the embedded host, command by command", async (t) => {
  await using served = await serve();
  const { host } = served;
  const scratch = makeTemporaryDirectory();
  const run = (...args: string[]) => cli("--host", host.name, "admin", ...args);
  try {
    await t.step(
      "PFs that have no administration queue, no VFs, or are VFs; those that are somebody's",
      async () => {
        failed(await run(NET, "list"), 2, /^ringside: 0000:01:00\.0 is bound to virtio-pci/);
        for (const pf of [NET, BLK, SILENT, PLAIN, RNG]) host.bind(pf);
        const [plain, list, sriov, caps, missing] = await Promise.all([
          run(PLAIN, "list"),
          run(NET, "list", "--json"),
          run(BLK, "list", "--group", "sriov"),
          run(RNG, "caps", "--json"),
          run(SILENT, "legacy", "dump", "--vf", "0"),
        ]);
        failed(plain, 1, /has no administration queue: it does not offer VIRTIO_F_ADMIN_VQ/);
        const { groups, queues } = json<ListJson>(list);
        assertEquals([queues, groups.map(({ group }) => group)], [[3, 4], ["sriov", "self"]]);
        assertMatch(groups[0]!.problem!, /while VF Enable is clear/);
        assertEquals(groups[0]!.commands, []);
        failed(sriov, 2, /while VF Enable is clear/);
        assertEquals(json(caps), {
          function: RNG,
          capabilities: [{
            id: 0,
            name: "VIRTIO_DEV_PARTS_CAP",
            bytes: "1010000000000000",
            meaning: "objects to get parts with: 16, to set them with: 16",
          }],
        });
        failed(missing, 2, /has no VF 0: none are enabled \(ringside .*sriov 0000:03:00\.0 N enables some\)/);
        host.setVfCount(NET, 3);
        for (const pf of [BLK, SILENT, RNG]) host.setVfCount(pf, 1);
      },
    );

    await t.step("list and caps", async () => {
      const [list, text, rng] = await Promise.all([
        run(RNG, "list", "--json"),
        run(NET, "list"),
        run(SILENT, "caps"),
      ]);
      const { groups } = json<ListJson>(list);
      const names = (which: "supported" | "used") =>
        groups.map(({ commands }) => commands.filter((one) => one[which]).map(({ name }) => name));
      assertEquals(names("used"), names("supported"));
      assertEquals(names("supported")[1], [
        "LIST_QUERY",
        "LIST_USE",
        "CAP_ID_LIST_QUERY",
        "DEVICE_CAP_GET",
        "DRIVER_CAP_SET",
      ]);
      assert(names("supported")[0]!.includes("DEV_PARTS_SET"));
      assert(
        !names("supported")[0]!.some((name) => name.startsWith("LEGACY_")),
        "an entropy device has no legacy",
      );
      for (const { commands } of groups) {
        assertEquals(commands.map(({ opcode }) => opcode), [...KNOWN_ADMIN_OPCODES].sort((a, b) => a - b));
      }
      assertEquals([text.code, text.err], [0, ""]);
      assertMatch(text.out, /^0000:01:00\.0: admin queues 3, 4\nGROUP +OPCODE +COMMAND +SUPPORTED +IN USE\n/);
      assertMatch(text.out, /\nsriov +0003 +LEGACY_COMMON_CFG_READ +yes +yes\n/);
      assertMatch(text.out, /\nself +0011 +DEV_MODE_SET +no +no\n/);
      assertMatch(rng.out, /\n0000 +VIRTIO_DEV_PARTS_CAP +\S+ +objects to get parts with: 16/);
    });

    await t.step("legacy dump, read and write", async () => {
      const dumped = json<DumpJson>(await run(NET, "legacy", "dump", "--vf", "1", "--json"));
      assertEquals([dumped.function, dumped.vf, dumped.address, dumped.deviceId], [NET, 1, vf(NET, 1), 1]);
      const value = (name: string) => dumped.registers.find((one) => one.name === name)?.value;
      assertEquals(
        ["queue_size", "device_status", "queue_pfn", "config_msix_vector", "mac5", "mtu"].map(value),
        [256, 0, 0, null, 2, 1400],
      );
      const [text, disk, common, device, written] = await Promise.all([
        run(SILENT, "legacy", "dump", "--vf", "0"),
        run(BLK, "legacy", "dump", "--vf", "0", "--json"),
        run(NET, "legacy", "read", "0", "4", "--vf", "1", "--json"),
        run(RNG, "legacy", "read", "0", "4", "--vf", "0"),
        cli("--host", host.name, "admin", PLAIN, "legacy", "write", "14", "2", "0x10000", "--vf", "0"),
      ]);
      assertMatch(text.out, /\ncommon +0 +4 +device_features +0x[0-9a-f]{8} +VIRTIO_NET_F_MTU /);
      assertMatch(text.out, /\ncommon +20 +2 +config_msix_vector +- +there only while MSI-X is enabled\n/);
      assertMatch(text.out, /\ndevice +10 +2 +mtu +0x05dc\n/);
      assertEquals(json<DumpJson>(disk).registers.find(({ name }) => name === "capacity")?.value, 2048);
      assertEquals(json(common), {
        function: NET,
        vf: 1,
        address: vf(NET, 1),
        part: "common",
        offset: 0,
        width: 4,
        value: value("device_features"),
      });
      failed(device, 1, /the device does not support it/);
      failed(written, 2, /"0x10000" is no value of 2 bytes/);

      const write = await run(NET, "legacy", "write", "14", "2", "0x1", "--vf", "1");
      assertEquals([write.code, write.out], [0, ""]);
      assertMatch(write.err, /^wrote 0x0001 to offset 14 of the common part of 0000:01:00\.2\n$/);
      assertEquals((await run(NET, "legacy", "read", "14", "2", "--vf", "1")).out, "0x0001\n");
      assertEquals(
        (await run(NET, "legacy", "read", "10", "2", "--part", "device", "--vf", "1")).out,
        "0x0578\n",
      );
      const [misaligned, beyond, width, offset, far] = await Promise.all([
        run(NET, "legacy", "read", "1", "4", "--vf", "0"),
        run(BLK, "legacy", "read", "200", "4", "--part", "device", "--vf", "0"),
        run(SILENT, "legacy", "read", "0", "3", "--vf", "0"),
        run(SILENT, "legacy", "read", "256", "1", "--vf", "0"),
        run(SILENT, "legacy", "read", "0", "4", "--vf", "1"),
      ]);
      for (const [result, what] of [[misaligned, "COMMON"], [beyond, "DEV"]] as const) {
        failed(result, 1, new RegExp(`LEGACY_${what}_CFG_READ of sriov member 1 .*: EINVAL, INVALID_FIELD`));
      }
      failed(width, 2, /WIDTH/);
      failed(offset, 2, /OFFSET/);
      failed(far, 2, /has no VF 1: 1 are enabled \(--vf takes 0 to 0\)/);
    });

    await t.step("notify-info: of the member, of the owner, and none", async () => {
      const [member, owner, none, text] = await Promise.all([
        run(NET, "notify-info", "--vf", "2", "--json"),
        run(BLK, "notify-info", "--vf", "0", "--json"),
        run(SILENT, "notify-info", "--vf", "0"),
        run(RNG, "notify-info", "--vf", "0", "--json"),
      ]);
      const areas = (result: CliResult) => json<{ areas: { whose: string; bar: number }[] }>(result).areas;
      assertEquals(areas(member).map(({ whose, bar }) => [whose, bar]), [["member", 4]]);
      assertEquals(areas(owner).map(({ whose, bar }) => [whose, bar]), [["owner", 4]]);
      assertEquals(areas(text), []);
      assertEquals([none.code, none.out], [0, ""]);
      assertMatch(none.err, /has no notify address/);
      assertMatch((await run(BLK, "notify-info", "--vf", "0")).out, /\n0000:02:00\.0 +4 +0x[0-9a-f]+\n$/);
    });

    await t.step(
      "parts: shown of a driven VF, saved, loaded into another VF, and not into a device of another type",
      async () => {
        const file = `${scratch}/parts.json`;
        {
          using reached = served.reach(vf(NET, 0));
          await using net = await VirtioNet.open(reached.transport, { queueSize: 64, interrupts: "msix" });
          const shown = json<PartsJson>(await run(NET, "parts", "show", "--vf", "0", "--json"));
          assertEquals([shown.function, shown.vf, shown.address, shown.deviceId], [NET, 0, vf(NET, 0), 1]);
          const found = (name: string, selector: string) =>
            shown.parts.find((part) => part.name === name && part.selector === selector)?.value;
          assertEquals((found("DEVICE_STATUS", "") as { status: number }).status, 15);
          const queue = found("VQ_CFG", "queue 0") as Record<string, unknown>;
          assertEquals([queue.size, queue.enabled], [64, true]);
          const saved = json(await run(NET, "parts", "save", file, "--vf", "0", "--json"));
          assertEquals(saved, { function: NET, vf: 0, address: vf(NET, 0), file, parts: shown.parts.length });
          // It goes on, and nothing that it has is lost.
          await net.setPromiscuous(true);
        }
        const { parts } = loadParts(JSON.parse(readText(file)), 1);
        // Rings are memory of the process that has the VF open; for a VF that nobody has, a running state means nothing.
        failed(
          await run(NET, "parts", "load", file, "--vf", "1"),
          1,
          /DEV_PARTS_SET of sriov member 2 .*: EINVAL, INVALID_FIELD/,
        );
        {
          using held = served.reach(vf(NET, 1));
          const text = await run(NET, "parts", "load", file, "--vf", "1", "--keep-stopped");
          assertEquals(
            [text.code, text.out],
            [0, `${parts.length} parts of ${file} in ${vf(NET, 1)}\n`],
            text.err,
          );
          assertEquals(text.err, "0000:01:00.2 is stopped\n");
          const loaded = json<PartsJson>(await run(NET, "parts", "show", "--vf", "1", "--json"));
          const queue = loaded.parts.find(({ name, selector }) =>
            name === "VQ_CFG" && selector === "queue 0"
          );
          assertEquals((queue?.value as Record<string, unknown>).size, 64, "the state of the other VF");
          assertEquals(held.transport.readStatus(), 15);
        }
        // The state of a device that nobody drives goes anywhere.
        const idle = `${scratch}/idle.json`;
        const saved = await run(NET, "parts", "save", idle, "--vf", "2");
        assertMatch(saved.out, /^\d+ parts of 0000:01:00\.3 in .*idle\.json\n$/);
        const moved = json(await run(NET, "parts", "load", idle, "--vf", "0", "--json"));
        assertEquals([moved.vf, moved.file, moved.stopped], [0, idle, false]);

        write(`${scratch}/no.json`, "{");
        write(`${scratch}/empty.json`, "{}");
        const cut = JSON.parse(readText(file));
        cut.parts[0].value = "zz";
        write(`${scratch}/cut.json`, JSON.stringify(cut));
        const [other, no, empty, bad, absent] = await Promise.all([
          run(BLK, "parts", "load", file, "--vf", "0"),
          run(SILENT, "parts", "load", `${scratch}/no.json`, "--vf", "0"),
          run(NET, "parts", "load", `${scratch}/empty.json`, "--vf", "0"),
          run(RNG, "parts", "load", `${scratch}/cut.json`, "--vf", "0"),
          run(RNG, "parts", "load", `${scratch}/absent.json`, "--vf", "0"),
        ]);
        failed(other, 2, /network device/);
        failed(no, 2, /no\.json is not JSON/);
        failed(empty, 2, /version|kind/);
        failed(bad, 2, /./);
        failed(absent, 2, /absent\.json: ENOENT/);
        assertEquals((await run(NET, "parts", "show", "--vf", "0")).code, 0);
      },
    );

    await t.step("mode stop --hold: a driven VF stands still until an interrupt, then goes on", async () => {
      using first = served.reach(vf(NET, 0));
      using second = served.reach(vf(NET, 2));
      const options = { interrupts: "none" } as const;
      await using from = await VirtioNet.open(first.transport, options);
      await using to = await VirtioNet.open(second.transport, options);
      const frames = new TestFrames(to.mac, from.mac, 60, 1414);
      assertEquals((await exchangePolled(from, to, frames, 100)).frames, 100);
      const child = startCli(
        {},
        "--host",
        host.name,
        "admin",
        NET,
        "mode",
        "stop",
        "--vf",
        "2",
        "--hold",
        "--json",
      );
      const reader = child.stdout.getReader();
      const stopped = JSON.parse(new TextDecoder().decode((await reader.read()).value));
      assertEquals(stopped, { function: NET, vf: 2, address: vf(NET, 2), stopped: true });
      reader.releaseLock();
      assert(from.send(new Uint8Array([...to.mac, ...from.mac, 8, 0, ...new Uint8Array(50)])));
      assertEquals(await to.waitReceive(200), false, "a stopped VF receives nothing");
      child.kill("SIGINT");
      const { code, stderr } = await child.output();
      assertEquals(code, 0, new TextDecoder().decode(stderr));
      assertMatch(new TextDecoder().decode(stderr), /is held; an interrupt lets 0000:01:00\.3 go on/);
      assertEquals(await to.waitReceive(10_000), true, "it waited for the VF");
      assertEquals((await exchangePolled(from, to, frames, 100)).frames, 100);
      const resumed = await run(NET, "mode", "resume", "--vf", "2");
      assertEquals([resumed.code, resumed.out], [0, "0000:01:00.3 goes on\n"]);
    });

    failed(
      await run(vf(NET, 0), "list"),
      1,
      /has no SR-IOV capability \(it is a VF: its PF is 0000:01:00\.0\)/,
    );
    assertEquals(host.describe(NET).heldBy, undefined);
  } finally {
    removeTree(scratch);
  }
  assertEquals(await served.stop(), []);
});

interface ListJson {
  readonly queues: number[];
  readonly groups: readonly {
    readonly group: string;
    readonly problem?: string;
    readonly commands: readonly {
      opcode: number;
      name: string;
      supported: boolean;
      used: boolean;
    }[];
  }[];
}

interface DumpJson {
  readonly function: string;
  readonly vf: number;
  readonly address: string;
  readonly deviceId: number;
  readonly registers: readonly { readonly name: string; readonly value: number | null }[];
}

interface PartsJson extends Omit<DumpJson, "registers"> {
  readonly parts: readonly { readonly name: string; readonly selector: string; readonly value: unknown }[];
}
