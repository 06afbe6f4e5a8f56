import { assert, assertEquals, assertMatch } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { O, OwnedFd, removeFile, writeAll } from "../../../ffi/mod.ts";
import { cli, cliWith } from "./run_cli.ts";

/** Everything of a host that a command could have changed. */
function snapshot(directory: string): string {
  using host = openHost(directory);
  return JSON.stringify({ functions: host.list(), journal: host.journal() });
}

const text = `/tmp/ringside-cli-${crypto.randomUUID()}.txt`;
const PF = "0000:01:00.0";
const RNG = "0000:02:00.0";

/** Each wrong request, what its one line must say, and the exit status. */
const CASES: readonly { args: readonly string[]; says: RegExp; code: 1 | 2 }[] = [
  {
    args: ["show", "0000:55:00.0"],
    says: /there is no PCI function 0000:55:00\.0/,
    code: 2,
  },
  { args: ["bind", "0000:55:00.0"], says: /there is no PCI function 0000:55:00\.0/, code: 2 },
  { args: ["sriov", "0000:55:00.0", "1"], says: /there is no PCI function 0000:55:00\.0/, code: 2 },
  { args: ["show", "nonsense"], says: /"nonsense" is not a PCI address/, code: 2 },
  { args: ["bind", "1:2:3:4"], says: /is not a PCI address/, code: 2 },
  { args: ["bind", RNG, "--driver", "no-such-driver"], says: /no-such-driver/, code: 2 },
  { args: ["sriov", RNG, "1"], says: /0000:02:00\.0.*SR-IOV/, code: 1 },
  { args: ["sriov", PF, "5"], says: /cannot have 5 VFs: its TotalVFs is 4/, code: 2 },
  { args: ["sriov", PF, "-1"], says: /-1/, code: 2 },
  { args: ["sriov", PF, "many"], says: /N: "many" is no whole number/, code: 2 },
  { args: ["rng", PF], says: /0000:01:00\.0.*virtio-pci.*bind/, code: 2 },
  { args: ["rng", RNG, "0"], says: /BYTES: "0" is no whole number from 1 to/, code: 2 },
  { args: ["net", "send", PF, "/nonexistent.pcap"], says: /\/nonexistent\.pcap.*ENOENT/, code: 2 },
  { args: ["net", "send", PF, "/tmp"], says: /\/tmp: EISDIR/, code: 2 },
  { args: ["net", "send", PF, "/dev/null/x"], says: /\/dev\/null\/x: ENOTDIR/, code: 2 },
  { args: ["net", "send", PF, text], says: /is not a pcap or pcapng file/, code: 2 },
  { args: ["net", "send", RNG, text], says: /is not a pcap or pcapng file/, code: 2 },
  {
    args: ["net", "receive", PF, "/nonexistent/x.pcap"],
    says: /bound to virtio-pci.*\(ringside --host \S+ bind 0000:01:00\.0\)/,
    code: 2,
  },
  { args: ["net", "loop", PF, RNG], says: /bound to virtio-pci.*ringside .*bind/, code: 2 },
  { args: ["net", "loop", PF, "01:00.0"], says: /cannot receive what it sends itself/, code: 2 },
  { args: ["net", "send", PF, "-", "--repeat", "2"], says: /standard input can be read once/, code: 2 },
  { args: ["net", "send", PF, "-"], says: /standard input is not a pcap or pcapng file/, code: 2 },
  ...[
    ["regs", PF, "--diff"],
    ["regs", PF, "--table"],
    ["peek", PF, "0:0", "--table"],
    ["queue", "load", PF],
    ["trace", "show"],
    ["net", "send", PF],
  ].map((args) => ({
    args: [...args, text],
    // Also what a file says with its first line's end is told in one line, with the file.
    says: new RegExp(`^ringside: ${text}(:| is not)`),
    code: 2 as const,
  })),
  { args: ["demo"], says: /takes no --host.*vf_to_vf/, code: 2 },
  { args: ["emulate", "/tmp/never-made"], says: /takes no --host/, code: 2 },
  { args: ["restore", "0000:55:00.0"], says: /there is no PCI function 0000:55:00\.0/, code: 2 },
  { args: ["lst"], says: /"lst"/, code: 2 },
  { args: ["bind"], says: /FUNCTION/, code: 2 },
  { args: ["list", "--colour"], says: /--colour/, code: 2 },
  { args: [], says: /No command; --help lists them/, code: 2 },
  { args: ["net"], says: /net: no command; it needs one of send, receive, loop/, code: 2 },
];

Deno.test("a wrong request is one clear line, status 1 or 2, and nothing changes", async (t) => {
  {
    using fd = OwnedFd.open(text, O.WRONLY | O.CREAT);
    writeAll(fd, new TextEncoder().encode("no capture\n"));
  }
  const host = await startEmulatedHost();
  try {
    const before = snapshot(host.directory);
    for (const { args, says, code } of CASES) {
      await t.step(args.join(" "), async () => {
        // Standard input is the process's.
        const all = ["--host", host.directory, ...args];
        const result = await (args.includes("-") ? cliWith({}, ...all) : cli(...all));
        assertEquals(result.code, code, result.err);
        assertEquals(result.out, "");
        assertMatch(result.err, says);
        assert(!result.err.includes("internal error"), result.err);
        assertMatch(result.err, /^ringside: [^\n]+\n$/);
        assertEquals(snapshot(host.directory), before);
      });
    }
    await t.step("with --json each is an object on standard output as well", async () => {
      const { code, out, err } = await cli("--host", host.directory, "--json", "rng", PF);
      const { error } = JSON.parse(out) as { error: Record<string, string> };
      assertEquals([code, error.type], [2, "UsageError"]);
      assertEquals(err, `ringside: ${error.message} (${error.hint})\n`);
      const much = await cli("--host", host.directory, "rng", RNG, "1000000000", "--json");
      assertEquals([much.code, JSON.parse(much.out).error.hint], [2, "write them to a file: --output FILE"]);
      const unparsed = await cli("--json", "lst");
      assertEquals(unparsed.code, 2);
      assertMatch(JSON.parse(unparsed.out).error.message, /"lst"/);
      const missing = await cli("--host", host.directory, "net", "send", PF, "/nonexistent.pcap", "--json");
      assertEquals(JSON.parse(missing.out).error.errno, "ENOENT");
      assertEquals(missing.code, 2);
    });
  } finally {
    await host.stop();
    removeFile(text);
  }
});

Deno.test("a host that is not there, a directory that is taken, a broken topology", async () => {
  const nowhere = await cli("--host", "/nonexistent/host", "list");
  assertEquals(nowhere.code, 2);
  assertMatch(nowhere.err, /\/nonexistent\/host is not the directory of an emulated host \(start one: /);

  const host = await startEmulatedHost();
  try {
    const second = await cli("emulate", host.directory);
    assertEquals(second.code, 1);
    assertMatch(second.err, new RegExp(`${host.directory} is served by process ${host.pid}`));
  } finally {
    await host.stop();
  }

  {
    using fd = OwnedFd.open(text, O.WRONLY | O.CREAT | O.TRUNC);
    writeAll(fd, new TextEncoder().encode('{"functions":[{"address":"01:00.0","kind":"toaster"}]}'));
  }
  const directory = `${text}.d`;
  const nameless = await cli("--host", "", "list");
  assertEquals([nameless.code, /the name of a host is empty/.test(nameless.err)], [2, true], nameless.err);
  {
    using fd = OwnedFd.open(`${text}.cut`, O.WRONLY | O.CREAT);
    writeAll(fd, new TextEncoder().encode('{"functions":[\n\x00\x1b[2J'));
  }
  const cut = await cli("emulate", directory, "--topology", `${text}.cut`);
  removeFile(`${text}.cut`);
  assertEquals(cut.code, 2);
  // deno-lint-ignore no-control-regex -- that there is no control character is what is asked
  assertMatch(cut.err, /^ringside: [^\x00-\x1f\x7f]+\n$/);
  const broken = await cli("emulate", directory, "--topology", text);
  assertEquals(broken.code, 2);
  assertMatch(
    broken.err,
    /^ringside: \/tmp\/ringside-cli-[^ ]+\.txt: topology, functions\[0\]\.kind.*toaster/,
  );
  const both = await cli("emulate", directory, "--topology", text, "--total-vfs", "2");
  assertEquals(both.code, 2);
  removeFile(text);
});

Deno.test("not root, no IOMMU: changing this machine is refused in one line", async () => {
  const result = await cli("bind", "0000:00:00.0");
  // As root the function is missing or its IOMMU is; as a user it is the permission. Either way: one line, no change.
  assert(result.code === 1 || result.code === 2, `status ${result.code}`);
  assertEquals(result.err.trimEnd().split("\n").length, 1, result.err);
  assert(!result.err.includes("internal error"), result.err);
  const doctor = await cli("doctor");
  assert(doctor.code === 0 || doctor.code === 1);
  assertMatch(doctor.out, /IOMMU/);
  assertEquals(doctor.err, "");
});
