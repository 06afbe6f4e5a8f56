/** `ringside show --dump`: functions out of files and of standard input. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { replaceFile } from "../../../ffi/mod.ts";
import { addressOf, DUMPS, dumpText } from "../../unit/pci/dumps.ts";
import { cli, shell } from "./run_cli.ts";

interface DumpJson {
  readonly line?: number;
  readonly config: { readonly address?: string; readonly capabilities: { readonly kind: string }[] };
  readonly bytes?: string;
}

Deno.test("show --dump: many functions as text and JSON, raw bytes, standard input, and what is wrong", async (t) => {
  const folder = makeTemporaryDirectory(), file = `${folder}/dump`, raw = `${folder}/config`;
  const texts = DUMPS.map(({ config }, index) => dumpText(config, addressOf(index)));
  const put = (path: string, text: string) => replaceFile(path, new TextEncoder().encode(text));
  put(file, texts.join("\n"));
  replaceFile(raw, DUMPS[0]!.config.bytes.slice());
  try {
    await t.step("text: one block a function", async () => {
      const { code, out, err } = await cli("show", "--dump", file);
      assertEquals([code, err], [0, ""]);
      const blocks = out.trimEnd().split("\n\n");
      assertEquals(blocks.length, DUMPS.length);
      blocks.forEach((block, index) =>
        assert(block.startsWith(`${addressOf(index).toShortString()} `), block)
      );
      assertMatch(blocks[0]!, /\n\tCapabilities: \[160 v1\] Single Root I\/O Virtualization/);
    });
    await t.step("JSON: line and configuration of each, and the bytes", async () => {
      const { code, out } = await cli("show", "--dump", file, "--hex", "--json");
      const all = JSON.parse(out) as DumpJson[];
      assertEquals([code, all.length, all[0]!.line], [0, DUMPS.length, 1]);
      assertEquals(all.map(({ config }) => config.address), DUMPS.map((_, index) => `${addressOf(index)}`));
      assertEquals(all.map(({ bytes }) => bytes), DUMPS.map(({ config }) => config.bytes.toHex()));
      assert(all[0]!.config.capabilities.some(({ kind }) => kind === "sr-iov"));
    });
    await t.step("raw bytes: no address, and --hex gives them again", async () => {
      const { code, out } = await cli("show", "--dump", raw, "--hex");
      assertEquals(code, 0);
      assertMatch(out, /^Ethernet controller: Intel Corporation 82576 /);
      assertMatch(out, /\n000: 86 80 c9 10 /);
      const [one] = JSON.parse((await cli("show", "--dump", raw, "--json")).out) as DumpJson[];
      assertEquals([one!.line, one!.config.address, one!.bytes], [undefined, undefined, undefined]);
    });
    await t.step("standard input, and what it prints can be read again", async () => {
      const { code, out, err } = await shell(
        'ringside show --dump - < "$DUMP" -x | ringside show --dump - --json',
        {
          DUMP: file,
        },
      );
      assertEquals([code, err], [0, ""]);
      assertEquals((JSON.parse(out) as DumpJson[]).length, DUMPS.length);
    });
    await t.step("errors name file, line and function", async () => {
      put(file, `${texts[5]}\n${texts[6]!.replace(/^20: 00/m, "20: 0x")}`);
      const { code, out, err } = await cli("show", "--dump", file);
      assertEquals([code, out], [2, ""]);
      assertMatch(
        err,
        /^ringside: \S+\/dump: line 16: 0000:07:00\.0: "0x" is not a byte in two hexadecimal digits\n$/,
      );
      const wrong: [string[], RegExp][] = [
        [["show"], /show needs a FUNCTION, an option that chooses some, or --dump FILE/],
        [["show", "01:00.0", "--dump", file], /--dump takes no FUNCTION/],
        [["show", "--dump", `${folder}/none`], /none: ENOENT/],
      ];
      for (const [args, says] of wrong) {
        const failed = await cli(...args);
        assertEquals([failed.code, failed.out], [2, ""], args.join(" "));
        assertMatch(failed.err, says);
      }
    });
  } finally {
    removeTree(folder);
  }
});
