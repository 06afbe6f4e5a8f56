import { getDocPageSync } from "@optique/core/parser";
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { commandPaths, manualPage } from "../../../cli/man.ts";
import { main } from "../../../cli/main.ts";
import { parse, parseAlone } from "../../../cli/parse.ts";
import { parser } from "../../../cli/parser.ts";
import { EXAMPLES, examplesOf } from "../../../cli/parsers/examples.ts";
import { ownerOf } from "../../../cli/parsers/usage.ts";
import { parseDevice } from "../../../cli/tvq/device_text.ts";
import { vhostUserFields } from "../../../cli/vhost_user_option.ts";
import { readTopology } from "../../../lib/emulation/topology.ts";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import manifest from "../../../deno.json" with { type: "json" };
import { cli, cliWith, shell } from "./run_cli.ts";

const PATHS = commandPaths();

Deno.test("help of every command has an example, and each example is understood as it stands", async () => {
  assertEquals(
    Object.keys(EXAMPLES).toSorted(),
    ["", ...PATHS.map((path) => path.join(" "))].toSorted(),
  );
  for (const path of [[], ...PATHS]) {
    const { code, out } = await cli(...path, "--help");
    assertEquals(code, 0);
    const examples = out.slice(out.indexOf("\nExamples:\n"));
    for (const example of examplesOf(path)) {
      assertStringIncludes(examples, `\n  ${example}\n`);
      const words = example.replace(/ [<>|] .*/, "").replace(/.* \| ringside/, "ringside").split(" ");
      const line = example.startsWith("ringside") ? words : example.split("| ")[1]!.split(" ");
      assertEquals(line[0], "ringside");
      const invocation = await parse(line.slice(1));
      if (typeof invocation === "number") throw new Error(example);
      // Devices are a language of their own, which is read when the command runs.
      const vhostUser = invocation.command === "emulate" ? invocation.vhostUser : [];
      if (vhostUser.length > 0) readTopology({ functions: [], vhostUser: vhostUser.map(vhostUserFields) });
      const devices = "devices" in invocation
        ? invocation.devices
        : invocation.command.startsWith("tvq") && "device" in invocation
        ? [invocation.device]
        : [];
      for (const device of devices) parseDevice(device);
      if (path.length > 0) assert(invocation.command.startsWith(path.join(" ")), example);
    }
  }
});

Deno.test("the usage line is one line, with the function of a group where it belongs", async () => {
  for (const path of PATHS) {
    const usage = (await cli(...path, "--help")).out.split("\n")[0]!;
    const owner = ownerOf(path[0]);
    const words = owner === undefined ? path : [path[0]!, owner, ...path.slice(1)];
    assert(`${usage} `.startsWith(`Usage: ringside ${words.join(" ")} `), usage);
    assert(usage.length <= 110, usage);
  }
  const usageOf = async (...path: string[]) => (await cli(...path, "--help")).out.split("\n")[0];
  assertEquals(await usageOf("admin", "legacy"), "Usage: ringside admin PF legacy COMMAND ...");
  assertEquals(
    await usageOf("admin", "legacy", "read"),
    "Usage: ringside admin PF legacy read --vf N [OPTION...] OFFSET WIDTH",
  );
  assertEquals(await usageOf("sriov"), "Usage: ringside sriov [OPTION...] [PF...] N");
  assertEquals(await usageOf("bind"), "Usage: ringside bind [OPTION...] [FUNCTION...]");
  assertEquals(await usageOf("queue"), "Usage: ringside queue [OPTION...] FUNCTION");
  assertEquals(await usageOf(), "Usage: ringside COMMAND ...");
});

Deno.test("-h and -V are --help and --version, before a command and after it", async () => {
  for (const args of [[], ["net", "loop"], ["show"]]) {
    const long = await cli(...args, "--help");
    assertEquals(await cli(...args, "-h"), long);
    assertEquals([long.code, long.err], [0, ""]);
  }
  assertEquals((await cli("-V")).out, `${manifest.version}\n`);
  assertEquals((await cli("--version")).out, `${manifest.version}\n`);
  assertEquals(await parseAlone(["list", "-h"]), undefined);
  assertEquals((await cli("help", "net", "loop")).out, (await cli("net", "loop", "--help")).out);
});

/** What is wrong, and what the line says, as a whole. */
const LINES: readonly (readonly [args: string, line: string])[] = [
  ["list -x", 'list: there is no option "-x" (ringside list --help says what it takes)'],
  ["bind 01:00.0 -x", 'bind: there is no option "-x" (ringside bind --help says what it takes)'],
  ["-x", 'there is no option "-x" (ringside --help says what it takes)'],
  ["list --drivr igb", 'list: there is no option "--drivr" (did you mean --driver or --sriov?)'],
  ["lst", 'there is no command "lst" (did you mean list?)'],
  ["help nosuch", 'there is no command "nosuch" (ringside --help lists the commands)'],
  ["completion tcsh", 'there is no completion for "tcsh" (one of bash, fish, nu, pwsh, zsh)'],
  ["completion", "completion needs a shell (one of bash, fish, nu, pwsh, zsh)"],
  ["net", "net: no command; it needs one of send, receive, loop (ringside net --help says what it takes)"],
  ["net sned 01:00.0 x", 'net: there is no command "sned" (did you mean send?)'],
  [
    "rng 01:00.0 -5",
    'rng: "-5" is below 0, which no number here may be (ringside rng --help says what it takes)',
  ],
  [
    "rng 01:00.0 99999999999999999999",
    'rng: BYTES: "99999999999999999999" is no whole number from 1 to 1073741824 (ringside rng --help says what it takes)',
  ],
  [
    "net send 01:00.0 x --count 9007199254740993",
    'net send: -n/--count: "9007199254740993" is no whole number of at least 1 (ringside net send --help says what it takes)',
  ],
  [
    "sriov 01:00.0 -1",
    'sriov: "-1" is below 0, which no number here may be (ringside sriov --help says what it takes)',
  ],
  [
    "sriov 01:00.0",
    'sriov: N: "01:00.0" is no whole number from 0 to 65535 (the number of VFs stands behind the PFs: ringside sriov 01:00.0 2)',
  ],
  ["blk read 01:00.0 1", "blk read: COUNT is missing (ringside blk read --help says what it takes)"],
  ["mmio a b c", 'mmio: there is no command "b" (ringside mmio --help says what it takes)'],
  [
    "show 01:00.0 --path foo",
    'show: --path: "foo" is none of "group" and "cdev" (ringside show --help says what it takes)',
  ],
  [
    "top -t 0",
    'top: -t/--seconds: "0" is no number of seconds from 0.1 to 3600 (ringside top --help says what it takes)',
  ],
  [
    "bench net -t x",
    'bench net: -t/--seconds: "x" is no number of seconds from 0.01 to 3600 (ringside bench net --help says what it takes)',
  ],
  ["ism a grant 0x1", "ism grant: --permissions is missing (ringside ism grant --help says what it takes)"],
  ["list --sriov=1", "list: --sriov takes no value (ringside list --help says what it takes)"],
  [
    "list --group 1 --group 2",
    "list: --group is given more than once (ringside list --help says what it takes)",
  ],
  ["rng a 1 2", 'rng: "2" is one argument too many (ringside rng --help says what it takes)'],
];

Deno.test("what is wrong with a command line is said in one line, and never suggests what was given", async () => {
  for (const [args, line] of LINES) {
    const { code, out, err } = await cli(...args.split(" "));
    assertEquals([err, out, code], [`ringside: ${line}\n`, "", 2]);
  }
});

Deno.test("the manual page is made from the parser: every command, option, argument and example", async () => {
  const page = manualPage();
  const plain = page.replaceAll("\\-", "-").replaceAll("\\e", "\\").replaceAll("\\&", "");
  for (const path of PATHS) {
    const section = plain.split(/^\.SS /m).find((one) => {
      const owner = ownerOf(path[0]);
      const words = owner === undefined ? path : [path[0]!, owner, ...path.slice(1)];
      return `${one.split("\n")[0]} `.startsWith(`ringside ${words.join(" ")} `);
    });
    assert(section !== undefined, path.join(" "));
    for (const { term } of (getDocPageSync(parser, path)?.sections ?? []).flatMap((one) => one.entries)) {
      if (term.type === "option") { for (const name of term.names) assertStringIncludes(plain, name); }
    }
    for (const example of examplesOf(path)) assertStringIncludes(section, example);
  }
  assertMatch(page, /^\.TH RINGSIDE 1 /);
  // Nothing in the text is taken for a request.
  const requests = new Set(
    page.split("\n").filter((line) => /^[.']/.test(line)).map((line) => line.split(" ")[0]),
  );
  assertEquals([...requests].toSorted(), [
    ".B",
    ".I",
    ".PP",
    ".RE",
    ".RS",
    ".SH",
    ".SS",
    ".TH",
    ".TP",
    ".fi",
    ".nf",
  ]);
  assertEquals((await cli("man")).out.trimEnd(), page.trimEnd());
});

Deno.test("bash completes functions, drivers and files", async () => {
  const host = await startEmulatedHost();
  try {
    const suggested = async (...words: string[]) => {
      const { code, out } = await cli("completion", "bash", "--host", host.directory, ...words);
      assertEquals(code, 0);
      return out.split("\n").filter((line) => line !== "");
    };
    assertEquals(await suggested("bind", "0000:01"), ["0000:01:00.0"]);
    assert((await suggested("show", "")).includes("a003e00.virtio_mmio"));
    assertEquals(await suggested("bind", "--driver", "vfio-pl"), ["vfio-platform"]);
    assertMatch((await suggested("show", "--dump", "")).join(), /^__FILE__:any:/);
    assertMatch((await suggested("emulate", "/tm")).join(), /__FILE__:directory:/);
    const { code, out, err } = await shell(
      `eval "$(ringside completion bash)"
      COMP_LINE="ringside --host ${host.directory} bind 0000:02" COMP_POINT=\${#COMP_LINE}
      COMP_WORDS=(ringside --host ${host.directory} bind 0000:02) COMP_CWORD=4
      _ringside ringside 0000:02 bind; echo "\${COMPREPLY[@]}"
      case "$COMP_WORDBREAKS" in *:*) echo colon;; esac`,
    );
    assertEquals([code, out.trim(), err], [0, "0000:02:00.0", ""]);
  } finally {
    await host.stop();
  }
});

Deno.test("RINGSIDE_HOST stands for --host, which goes before it", async () => {
  const host = await startEmulatedHost();
  try {
    const env = { RINGSIDE_HOST: host.directory };
    const { code, out } = await cliWith({ env }, "list");
    assertEquals(code, 0);
    assertMatch(out, /0000:01:00\.0 .* virtio-pci/);
    const nowhere = await cliWith({ env }, "--host", "/nonexistent", "list");
    assertEquals(nowhere.code, 2);
    // Such as take no host are not kept from their work by it.
    assertEquals((await cliWith({ env: { RINGSIDE_HOST: "/nonexistent" } }, "man")).code, 0);
    assertEquals((await cliWith({ env: { RINGSIDE_HOST: "" } }, "list")).code, 0);
  } finally {
    await host.stop();
  }
});

Deno.test("help is folded to the terminal, and not in a pipe", async () => {
  const at = async (columns?: number) => {
    let out = "";
    await main(["net", "loop", "--help"], {
      out: (text) => out += text,
      err: () => {},
      ...(columns === undefined ? {} : { columns }),
    });
    return Math.max(...out.split("\nExamples:")[0]!.split("\n").map((line) => line.length));
  };
  assert(await at(80) <= 80);
  assert(await at(120) <= 120);
  assert(await at() > 120);
});
