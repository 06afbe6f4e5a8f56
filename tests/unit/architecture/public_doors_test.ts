/** What is shown to users goes by the doors of `deno.json` alone, and the doors have it. */
import { assert, assertEquals } from "@std/assert";
import configuration from "../../../deno.json" with { type: "json" };
import { readDirectory, readText } from "../../../ffi/mod.ts";
import { fromFileUrl, walk } from "./source_files.ts";

const root = fromFileUrl(new URL("../../../", import.meta.url));
const DOORS: Readonly<Record<string, string>> = configuration.exports;

interface Use {
  readonly where: string;
  readonly from: string;
  readonly names: readonly string[];
}

function usesIn(where: string, text: string): Use[] {
  return [...text.matchAll(/^import (?:type )?(?:\{([^}]*)\} from )?"([^"]+)"/gm)].map((found) => ({
    where,
    from: found[2]!,
    names: (found[1] ?? "").split(",").map((name) => name.trim()).filter((name) => name !== ""),
  }));
}

/** Code of the pages, of the doors' own texts, the examples, and the driver of another device that the guest runs. */
function shownToUsers(): Use[] {
  const pages = ["README.md", ...readDirectory(`${root}docs`).map(({ name }) => `docs/${name}`)]
    .filter((path) => path.endsWith(".md"));
  const blocks = (where: string, text: string) =>
    [...text.matchAll(/```ts\n([\s\S]*?)```/g)].flatMap(([, code]) => usesIn(where, code!));
  const examples = walk(root).filter(({ path }) => path.startsWith("examples/")).map(({ path }) => path);
  return [
    ...pages.flatMap((page) => blocks(page, readText(root + page))),
    ...Object.values(DOORS).flatMap((door) => blocks(door, readText(root + door).replaceAll(/^ \* ?/gm, ""))),
    ...[...examples, "tests/guest/edu_driver.ts"].flatMap((path) => usesIn(path, readText(root + path))),
  ];
}

/** Names that a module exports, by its text. */
function exported(path: string): Set<string> {
  const text = readText(path);
  const names = new Set<string>();
  const declared = /^export (?:abstract |async )?(?:const|function|class|interface|type) (\w+)/gm;
  for (const [, name] of text.matchAll(declared)) names.add(name!);
  for (const [, list] of text.matchAll(/^export (?:type )?\{([^}]*)\}/gm)) {
    for (const name of list!.split(",")) names.add(name.trim().replace(/^type /, ""));
  }
  for (const [, from] of text.matchAll(/^export (?:type )?\* from "([^"]+)"/gm)) {
    for (const name of exported(new URL(from!, `file://${path}`).pathname)) names.add(name);
  }
  return names;
}

Deno.test("pages, doors' texts, examples and the driver of another device import from doors alone, and what they import is there", () => {
  const uses = shownToUsers();
  const wrong = uses.flatMap(({ where, from, names }) => {
    const door = DOORS[from.replace("@ringside/ringside", ".")];
    if (door === undefined) return [`${where}: ${from}`];
    const there = exported(root + door.replace("./", ""));
    return names.map((name) => name.replace(/^type /, "")).filter((name) => !there.has(name))
      .map((name) => `${where}: ${from} has no ${name}`);
  });
  assertEquals(wrong, []);
  assert(uses.length >= 40, `${uses.length} imports seen`);
});

Deno.test("every door says what it is for, and shows it", () => {
  const silent = Object.entries(DOORS).filter(([door, path]) => {
    const text = /^\/\*\*[\s\S]*?\*\//.exec(readText(root + path))?.[0] ?? "";
    return door !== "./cli" && !(text.includes("```ts") && text.includes("@module"));
  });
  assertEquals(silent, []);
});

Deno.test("the check of documentation looks at every door", () => {
  const looked = configuration.tasks["doc:lint"].split(" ").filter((word) => word.endsWith(".ts"));
  assertEquals(looked.sort(), Object.values(DOORS).map((path) => path.replace("./", "")).sort());
});
