/**
 * The documentation as one static site: `deno task docs:site [FOLDER]` (default `build/site`). Its pages are the README and the Markdown files beside this
 * one; the API is what `deno doc` says of the doors. It needs no network to be read, and no server.
 *
 * @module
 */
import { Marked } from "marked";
import configuration from "../deno.json" with { type: "json" };

const ROOT = new URL("../", import.meta.url);
const STYLE = "site.css";
/** Written by `deno doc`: follows the system's light or dark, until the reader chooses. */
const THEME = "api/darkmode_toggle.js";

/** Pages of the navigation that come first; the others follow by name. */
const FIRST = [
  "README.md",
  "tour.md",
  "features.md",
  "cli.md",
  "errors.md",
  "architecture.md",
  "drivers.md",
  "driver_guide.md",
];

interface Page {
  /** Below the project. */
  readonly source: string;
  /** In the site. */
  readonly file: string;
  readonly title: string;
  readonly text: string;
}

/** The anchor of a heading, as GitHub makes it. */
export function anchorOf(heading: string): string {
  return heading.toLowerCase().replace(/[^\w\- ]/g, "").replaceAll(" ", "-");
}

/** Where a link of a Markdown page leads in the site. */
export function linkOf(href: string): string {
  if (/^[a-z]+:/.test(href)) return href;
  const [path = "", anchor] = href.split("#");
  const place = path.replace(/^docs\//, "").replace(/^(\.\.\/)?README\.md$/, "index.md").replace(
    /\.md$/,
    ".html",
  );
  return anchor === undefined ? place : `${place}#${anchor}`;
}

async function readPages(): Promise<Page[]> {
  const names = [...Deno.readDirSync(new URL("docs/", ROOT))].map(({ name }) => name)
    .filter((name) => name.endsWith(".md")).sort();
  const rank = (name: string) => FIRST.includes(name) ? FIRST.indexOf(name) : FIRST.length;
  const ordered = ["README.md", ...names].sort((a, b) => rank(a) - rank(b));
  return await Promise.all(ordered.map(async (name) => {
    const source = name === "README.md" ? name : `docs/${name}`;
    const text = await Deno.readTextFile(new URL(source, ROOT));
    const title = /^# (.*)$/m.exec(text)?.[1] ?? name;
    return { source, file: linkOf(name), title, text };
  }));
}

const markdown = new Marked({
  renderer: {
    heading({ tokens, depth, text }): string {
      return `<h${depth} id="${anchorOf(text)}">${this.parser.parseInline(tokens)}</h${depth}>\n`;
    },
    link({ href, tokens }): string {
      return `<a href="${linkOf(href)}">${this.parser.parseInline(tokens)}</a>`;
    },
    image({ href, text }): string {
      return `<img src="${linkOf(href)}" alt="${text}">`;
    },
    // A table may be wider than the page: it scrolls by itself.
    table(token): string {
      const row = (cells: typeof token.header, tag: "th" | "td") =>
        `<tr>${
          cells.map(({ tokens, align }) =>
            `<${tag}${align === null ? "" : ` class="${align}"`}>${this.parser.parseInline(tokens)}</${tag}>`
          ).join("")
        }</tr>`;
      return `<div class="wide"><table><thead>${row(token.header, "th")}</thead><tbody>${
        token.rows.map((cells) => row(cells, "td")).join("\n")
      }</tbody></table></div>\n`;
    },
  },
});

/** What stands above each page. @param up from the page to the site's folder, such as `../` */
function bar(up: string, more = ""): string {
  return `<header class="site-bar"><a class="site-name" href="${up}index.html">Ringside</a>` +
    `<a href="${up}tour.html">Tour</a><a href="${up}features.html">Features</a>` +
    `<a href="${up}cli.html">Commands</a><a href="${up}errors.html">Errors</a>` +
    `<a href="${up}api/index.html">API</a>${more}</header>`;
}

const TOGGLE = `<button id="theme-toggle" type="button" aria-label="dark or light" style="display: none">` +
  `<span>dark</span><span class="hidden">light</span></button>`;

function pageHtml(page: Page, pages: readonly Page[]): string {
  const links = pages.map(({ file, title }) =>
    `<li><a href="${file}"${file === page.file ? ' aria-current="page"' : ""}>${title}</a></li>`
  );
  return `<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${page.file === "index.html" ? page.title : `${page.title} - Ringside`}</title>
<link rel="stylesheet" href="${STYLE}">
<script src="${THEME}"></script>
</head>
<body class="site">
${bar("", TOGGLE)}
<div class="site-columns">
<nav class="site-pages"><ul>${links.join("\n")}</ul></nav>
<main>
${markdown.parse(page.text, { async: false })}</main>
</div>
</body>
</html>
`;
}

/** The pages of `deno doc`, with the site's bar, and with links to files where they lead to folders: those need a server. */
function dressApi(folder: string, up: string): number {
  let pages = 0;
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    const path = `${folder}/${name}`;
    if (isDirectory) {
      pages += dressApi(path, `../${up}`);
      continue;
    }
    if (!name.endsWith(".html")) continue;
    const html = Deno.readTextFileSync(path)
      .replaceAll("&#x2F;", "/")
      .replace(
        /href="((?![a-z]+:)[^"#]*\/)(#[^"]*)?"/g,
        (_, place, anchor = "") => `href="${place}index.html${anchor}"`,
      )
      .replace("</head>", `<link rel="stylesheet" href="${up}${STYLE}"></head>`)
      .replace("<body>", `<body>${bar(up)}`);
    Deno.writeTextFileSync(path, html);
    pages++;
  }
  return pages;
}

/** Builds the site in a folder, which is made anew. @returns how many pages it has */
async function build(folder: string): Promise<{ pages: number; api: number }> {
  await Deno.remove(folder, { recursive: true }).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  await Deno.mkdir(`${folder}/figures`, { recursive: true });
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "doc",
      "--html",
      "--name=Ringside",
      `--output=${folder}/api`,
      ...Object.values(configuration.exports),
    ],
    cwd: ROOT.pathname,
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`deno doc failed:\n${new TextDecoder().decode(stderr)}`);
  const api = dressApi(`${folder}/api`, "../");
  const pages = await readPages();
  for (const page of pages) await Deno.writeTextFile(`${folder}/${page.file}`, pageHtml(page, pages));
  for (const { name } of Deno.readDirSync(new URL("docs/figures/", ROOT))) {
    if (name.endsWith(".svg")) {
      await Deno.copyFile(new URL(`docs/figures/${name}`, ROOT), `${folder}/figures/${name}`);
    }
  }
  await Deno.copyFile(new URL(`docs/${STYLE}`, ROOT), `${folder}/${STYLE}`);
  return { pages: pages.length, api };
}

if (import.meta.main) {
  const folder = Deno.args[0] ?? `${ROOT.pathname}build/site`;
  const { pages, api } = await build(folder);
  console.log(`${pages} pages, ${api} of the API: ${folder}/index.html`);
}
