/** The page of errors quotes messages that the code can say: each is looked for among its texts, with `<…>` for what is filled in. */
import { assert, assertEquals } from "@std/assert";
import { readText } from "../../ffi/mod.ts";
import { walk } from "../unit/architecture/source_files.ts";
import { root } from "./readme_commands.ts";

/** Stands for what is filled in. */
const HOLE = "\0";

/** All strings of a source text that are in quotes or backticks, those within others too; what is filled in is a hole. */
function textsIn(source: string): string[] {
  const found: string[] = [];
  /** Reads on from `at` to what ends it. @returns where it ended */
  const code = (at: number, end: string): number => {
    for (let depth = 0; at < source.length; at++) {
      const char = source[at]!;
      if (char === end && depth === 0) return at;
      if (char === "{") depth++;
      else if (char === "}") depth--;
      else if (source.startsWith("//", at)) at = lineEnd(at);
      else if (source.startsWith("/*", at)) at = source.indexOf("*/", at) + 1;
      else if (char === '"' || char === "`") at = quoted(at);
    }
    return at;
  };
  const quoted = (from: number): number => {
    let text = "";
    let at = from + 1;
    for (; at < source.length && source[at] !== source[from]; at++) {
      if (source[at] === "\\") text += source[++at];
      else if (source[from] === "`" && source.startsWith("${", at)) {
        at = code(at + 2, "}");
        text += HOLE;
      } else if (source[from] === '"' && source[at] === "\n") break;
      else text += source[at];
    }
    found.push(text);
    return at;
  };
  const lineEnd = (at: number) => {
    const end = source.indexOf("\n", at);
    return end < 0 ? source.length : end;
  };
  code(0, "");
  return found;
}

/** Messages that the page quotes: the code that a list's entry begins with. */
function quotedOnPage(page: string): string[] {
  return [...page.matchAll(/^- `([^`]+)`/gm)].map(([, message]) => message!);
}

const asTemplate = (message: string) => message.replaceAll(/<[^>]*>/g, HOLE);

Deno.test("texts of a source: templates have holes, and what is within them is found too", () => {
  const source = 'f(`a ${b ? `in ${c}` : "d"} e`); // "no"\ng("x\\"y"); /* `no` */';
  assertEquals(textsIn(source).sort(), ["a \0 e", "d", "in \0", 'x"y'].sort());
});

Deno.test("each message on the page of errors is one that the code can say", () => {
  const messages = quotedOnPage(readText(`${root}docs/errors.md`));
  assert(messages.length >= 60, `${messages.length} messages`);
  assertEquals(messages.filter((one, i) => messages.indexOf(one) < i), []);
  const texts = walk(root).filter(({ path }) => /^(cli|drivers|ffi|lib)\//.test(path))
    .flatMap(({ text }) => textsIn(text));
  const unknown = messages.filter((message) => !texts.some((text) => text.includes(asTemplate(message))));
  assertEquals(unknown, []);
});
