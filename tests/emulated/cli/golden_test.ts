/**
 * What an operator sees: `list`, `show`, `regs`, `top` and `doctor` on terminals of several widths, on a dumb one, in a pipe, and in colour. It was looked at, and
 * is kept in `golden/`; `deno test … golden_test.ts -- --golden` writes it anew, to be looked at again.
 */
import { assert, assertEquals } from "@std/assert";
import { main } from "../../../cli/main.ts";
import type { Output } from "../../../cli/output.ts";
import { removeTree } from "../../../cli/temporary_directory.ts";
import { readText, replaceFile } from "../../../ffi/mod.ts";
import { fromFileUrl } from "../../unit/architecture/source_files.ts";
import { cli, cliWith, shell } from "./run_cli.ts";

const FOLDER = fromFileUrl(new URL("./golden/", import.meta.url));
const WRITE = Deno.args.includes("--golden");

/** Terminals, by the name of what is kept. */
const TERMINALS: Readonly<Record<string, Omit<Output, "out" | "err">>> = {
  "60": { columns: 60 },
  "80": { columns: 80 },
  "120": { columns: 120 },
  "200": { columns: 200 },
  pipe: {},
  colour: { columns: 120, colour: true },
};

const COMMANDS: Readonly<Record<string, readonly string[]>> = {
  list: ["list"],
  show: ["show", "01:00.1"],
  regs: ["regs", "01:00.1", "co*:*"],
  top: ["top", "--once"],
  doctor: ["doctor"],
};

/** Standard output, then standard error: what changes from run to run is replaced by what is as long. */
function normal(text: string, directory: string): string {
  return text.replaceAll(directory, "/tmp/host".padEnd(directory.length, "_"))
    .replace(/\d\d:\d\d:\d\d UTC/g, "12:34:56 UTC");
}

async function seen(args: readonly string[], terminal: Omit<Output, "out" | "err">): Promise<string> {
  let [out, err] = ["", ""];
  await main(args, { ...terminal, out: (text) => out += text, err: (text) => err += text });
  return `${out}${err === "" ? "" : `-- standard error --\n${err}`}`;
}

/** Escapes stand as they are read in an editor. */
const visible = (text: string) => text.replaceAll("\x1b", "␛");

Deno.test("list, show, regs, top and doctor look as they were looked at", async (t) => {
  const directory = `/tmp/rsg-${crypto.randomUUID().slice(0, 8)}`;
  const host = ["--host", directory];
  const ok = async (...args: string[]) => {
    const { code, err } = await cli(...host, ...args);
    assertEquals(code, 0, err);
  };
  assertEquals((await cliWith({}, "emulate", directory, "--background")).code, 0);
  try {
    await ok("bind", "01:00.0", "a003e00.virtio_mmio");
    await ok("sriov", "01:00.0", "2");
    await ok("net", "loop", "01:00.1", "01:00.2", "--count", "1000", "--interrupts", "none");
    for (const [name, command] of Object.entries(COMMANDS)) {
      for (const [terminal, how] of Object.entries(TERMINALS)) {
        await t.step(`${name} ${terminal}`, async () => {
          const text = normal(visible(await seen([...host, ...command], how)), directory);
          const path = `${FOLDER}${name}-${terminal}.txt`;
          if (WRITE) replaceFile(path, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
          assertEquals(text, readText(path));
          // What a terminal folds, nobody has laid out: only show and doctor print sentences.
          if (how.columns === undefined || name === "show" || name === "doctor") return;
          const longest = Math.max(...text.replace(/␛\[\d+m/g, "").split("\n").map((line) => line.length));
          assert(longest <= how.columns, `a line of ${longest} columns`);
        });
      }
    }
    await t.step("a real terminal: COLUMNS counts, and TERM=dumb and NO_COLOR mean no colour", async () => {
      const on = async (env: Record<string, string>) => {
        const line = `ringside --host ${directory} list 2>/dev/null`;
        const { code, out } = await shell(
          `declare -f ringside > ${directory}/ringside.sh
          script -qec ". ${directory}/ringside.sh; ${line}" /dev/null`,
          { NO_COLOR: "", ...env },
        );
        assertEquals(code, 0);
        return normal(out.replaceAll("\r\n", "\n"), directory);
      };
      const kept = (name: string) => readText(`${FOLDER}${name}.txt`).split("-- standard error --")[0]!;
      assertEquals(await on({ TERM: "dumb", COLUMNS: "80" }), kept("list-80"));
      assertEquals(await on({ TERM: "xterm", COLUMNS: "120", NO_COLOR: "1" }), kept("list-120"));
      assertEquals(visible(await on({ TERM: "xterm", COLUMNS: "120" })), kept("list-colour"));
    });
  } finally {
    await cli("emulate", directory, "--stop");
    removeTree(directory);
  }
});
