/**
 * The lists of test files that the tasks run: a runtime for each file would take longer than most files' tests. `deno run --allow-ffi` on
 * this file prints what belongs into each; `--write` with `--allow-write` writes it.
 */
import { fromFileUrl, walk } from "./source_files.ts";

/** Folders that have a list; what lies below one of them has a line in its list alone. */
const LISTED = [
  "tests/unit",
  "tests/emulated",
  "tests/emulated/admin",
  "tests/emulated/cli",
  "tests/emulated/host",
  "tests/emulated/ism",
  "tests/emulated/life",
  "tests/emulated/management",
  "tests/emulated/mmio",
] as const;

const root = fromFileUrl(new URL("../../../", import.meta.url));

/** What each list must be, by its path. */
export function testLists(): Map<string, string> {
  const lists = new Map(LISTED.map((folder) => [`${folder}/all.ts`, ""]));
  const files = walk(root).map(({ path }) => path).filter((path) => path.endsWith("_test.ts")).sort();
  for (const path of files) {
    const folder = LISTED.findLast((folder) => path.startsWith(`${folder}/`));
    if (folder === undefined) continue;
    const list = `${folder}/all.ts`;
    lists.set(list, `${lists.get(list)}import "./${path.slice(folder.length + 1)}";\n`);
  }
  return lists;
}

if (import.meta.main) {
  for (const [path, text] of testLists()) {
    if (Deno.args.includes("--write")) Deno.writeTextFileSync(`${root}${path}`, text);
    else console.log(`${path}\n${text}`);
  }
}
