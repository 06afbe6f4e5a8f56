/** The site is built, and each link between its files leads to one that is there. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { removeTree } from "../../cli/temporary_directory.ts";
import { linkOf } from "../../docs/site.ts";
import { accessible, readDirectory, readText } from "../../ffi/mod.ts";
import { root } from "./readme_commands.ts";

function files(folder: string): string[] {
  const DIRECTORY = 4;
  return readDirectory(folder).flatMap(({ name, type }) =>
    type === DIRECTORY ? files(`${folder}/${name}`) : [`${folder}/${name}`]
  );
}

/** Links of a page to other files of the site that are not there, or have no such anchor. */
function brokenIn(page: string, ids: (path: string) => ReadonlySet<string>): string[] {
  const html = readText(page).replace(/<pre[\s\S]*?<\/pre>/g, "");
  return [...html.matchAll(/ (?:href|src)="([^"]*)"/g)].map(([, link]) => link!)
    .filter((link) => !/^[a-z]+:/.test(link))
    .filter((link) => {
      const [path = "", anchor] = link.split("#");
      const target = path === "" ? page : decodeURIComponent(new URL(path, `file://${page}`).pathname);
      if (!accessible(target) || target.endsWith("/")) return true;
      // Anchors of the API are deno doc's own business.
      return anchor !== undefined && anchor !== "" && !target.includes("/api/") && !ids(target).has(anchor);
    })
    .map((link) => `${page}: ${link}`);
}

Deno.test("links of Markdown pages lead to pages of the site", () => {
  assertEquals(linkOf("docs/cli.md#list"), "cli.html#list");
  assertEquals(linkOf("../README.md"), "index.html");
  assertEquals(linkOf("README.md"), "index.html");
  assertEquals(linkOf("figures/a.svg"), "figures/a.svg");
  assertEquals(linkOf("#here"), "#here");
  assertEquals(linkOf("https://example.com/a.md"), "https://example.com/a.md");
});

Deno.test("the site: pages and API, with no link that leads nowhere, and nothing from elsewhere", async () => {
  const folder = `/tmp/ringside-site-${crypto.randomUUID().slice(0, 8)}`;
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "docs:site", folder],
    cwd: root,
    stdin: "null",
  }).output();
  try {
    assert(success, new TextDecoder().decode(stderr));
    assertMatch(new TextDecoder().decode(stdout), /^\d+ pages, \d+ of the API: /);
    const pages = files(folder).filter((path) => path.endsWith(".html"));
    assert(pages.length > 1000);
    const known = new Map<string, ReadonlySet<string>>();
    const ids = (path: string) => {
      const found = known.get(path) ??
        new Set([...readText(path).matchAll(/ id="([^"]*)"/g)].map(([, id]) => id!));
      known.set(path, found);
      return found;
    };
    assertEquals(pages.flatMap((page) => brokenIn(page, ids)), []);
    const own = pages.filter((path) => !path.includes("/api/"));
    assert(own.length > 20);
    for (const page of own) assert(!/(src|rel="stylesheet" href)="https?:/.test(readText(page)), page);
  } finally {
    if (accessible(folder)) removeTree(folder);
  }
});
