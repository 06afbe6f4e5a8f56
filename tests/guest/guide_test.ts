/** docs/driver_guide.md, as it stands: its commands, its lines of the REPL, and its script by each of the kernel's paths. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { main } from "../../cli/main.ts";
import { fencedBlocks } from "../readme/fenced_blocks.ts";
import { root } from "../readme/readme_commands.ts";
import { functions, guestTest, PATHS, snapshot } from "./guest_host.ts";
import { guestHasCdev } from "./rig/in_guest.ts";

const blocks = fencedBlocks(`${root}docs/driver_guide.md`);
const textsOf = (info: string) =>
  blocks.filter((one) => one.info === info).map(({ lines }) => lines.join("\n"));

/** What each command must print. */
const PRINTS: readonly [RegExp, RegExp][] = [
  [/^list /, /1234:11e8/],
  [/^show /, /size=1M\][\s\S]*MSI/],
  [/^bind /, /-> vfio-pci/],
  [/^regs /, /table:identification +0x0 +0x[0-9a-f]{6}ed[\s\S]*table:dma_command/],
  [/^peek /, /^0x[0-9a-f]{6}ed major \d+, minor \d+, magic 237\n$/],
];

async function deno(stdin: string, ...args: string[]): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", ...args],
    // On a terminal of no known kind the REPL prints its prompt also for a pipe.
    env: { NO_COLOR: "1", TERM: "xterm" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(code, 0, `${out}${err}`);
  return out!;
}

guestTest(
  "the driver guide: its commands, the REPL, its script by group and by cdev",
  async () => {
    const before = snapshot();
    const [address] = functions("1234:11e8");
    const folder = Deno.makeTempDirSync();
    const script = `${root}tests/guest/.guide-${crypto.randomUUID()}.ts`;
    const table = `${folder}/edu.txt`;
    const here = (text: string) => text.replaceAll("05:00.0", address!).replaceAll("edu.txt", table);
    Deno.writeTextFileSync(script, textsOf("ts").join("\n"));
    try {
      Deno.writeTextFileSync(table, textsOf("text edu.txt")[0]!);
      const commands = textsOf("sh guide").flatMap((text) => text.split("\n"));
      assertEquals(commands.length, PRINTS.length);
      for (const line of commands) {
        const words = line.replace(/^ringside /, "");
        const expected = PRINTS.find(([command]) => command.test(words));
        if (expected === undefined) throw new Error(`no expectation for ${line}`);
        let [out, err] = ["", ""];
        const code = await main(here(words).split(" "), {
          out: (text) => void (out += text),
          err: (text) => void (err += text),
        });
        assertEquals(code, 0, err);
        assertMatch(out, expected[1], line);
      }
      const lines = textsOf("repl").join("\n").split("\n");
      const typed = lines.filter((line) => line.startsWith("> ")).map((line) => `${line.slice(2)}\n`).join(
        "",
      );
      assert(typed !== "");
      const command = [`${root}cli/main.ts`, "repl", address!, "--table", table];
      const said = await deno(typed, "--allow-ffi", "--allow-env", "--allow-run", ...command);
      assertEquals(said.trimEnd().split("\n"), lines.filter((line) => !line.startsWith("> ")));
      for (const path of PATHS) {
        if (path === "cdev" && guestHasCdev() === false) continue;
        const printed = await deno("", "--allow-ffi", script, "linux", address!, path);
        console.log(`by ${path}: ${printed.trimEnd().replaceAll("\n", "; ")}`);
        assertMatch(printed, /^edu \d+\.\d+\n10! = 3628800\n12! = 479001600\nround trip: all as sent\n$/);
      }
    } finally {
      Deno.removeSync(folder, { recursive: true });
      Deno.removeSync(script);
      await main(["restore", address!], { out: () => {}, err: () => {} });
    }
    assertEquals(snapshot(), before);
  },
);
