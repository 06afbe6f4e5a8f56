/** docs/driver_guide.md without its device: its script has sound types, and its table, its script and its header say the same. */
import { assert, assertEquals } from "@std/assert";
import { cHeader, parseRegisters, type RegisterTable } from "@ringside/ringside/registers";
import { readText, removeFile, replaceFile } from "../../ffi/mod.ts";
import { fencedBlocks } from "./fenced_blocks.ts";
import { root } from "./readme_commands.ts";

const page = `${root}docs/driver_guide.md`;
const textsOf = (info: string) =>
  fencedBlocks(page).filter((one) => one.info === info).map(({ lines }) => lines.join("\n"));

/** The script's own `registerTable({…})`. */
function declared(script: string): RegisterTable {
  const [, text] = /registerTable\((\{[\s\S]*?\n\})\)/.exec(script)!;
  return new Function(`return ${text}`)();
}

Deno.test("the driver guide: table, script and C header say the same", () => {
  const table = parseRegisters(textsOf("text edu.txt")[0]!);
  const header = cHeader(table, "EDU");
  const plain = (text: string) => text.replaceAll(/ *\/\*.*/g, "").replaceAll(/ +/g, " ");
  assertEquals(plain(cHeader(declared(textsOf("ts").join("\n")), "EDU")), plain(header));
  for (const line of textsOf("c")[0]!.split("\n")) assert(plain(header).includes(plain(line)), line);
});

Deno.test("the driver guide: its script has sound types, and is under 250 lines with its page", async () => {
  assert(readText(page).split("\n").length <= 250);
  const script = `${root}tests/readme/.guide-${crypto.randomUUID()}.ts`;
  replaceFile(script, new TextEncoder().encode(textsOf("ts").join("\n")));
  try {
    const { code, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["check", "--quiet", script],
      cwd: root,
      env: { NO_COLOR: "1" },
    }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
  } finally {
    removeFile(script);
  }
});
