import { fromFileUrl } from "../unit/architecture/source_files.ts";
import { type Block, fencedBlocks } from "./fenced_blocks.ts";

/** The project's folder. */
export const root: string = fromFileUrl(new URL("../../", import.meta.url));

/** Pages whose commands are run. */
export type CommandPage = "README.md" | "docs/tour.md";

/** All fenced blocks of a page, with the section that each stands in. */
export function blocksOf(page: CommandPage): Block[] {
  return fencedBlocks(root + page);
}

/** A command of a page for this machine: the Deno that runs the test, instead of one from the PATH or the registry. */
export function runnable(line: string): string {
  const deno = Deno.execPath();
  return line.replace(/^npx --yes deno@[0-9.]+ /, "deno ").replace(/^deno /, `${deno} `);
}
