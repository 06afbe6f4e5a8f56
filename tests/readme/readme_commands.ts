import { fromFileUrl } from "../unit/architecture/source_files.ts";
import { type Block, fencedBlocks } from "./fenced_blocks.ts";

/** The project's folder. */
export const root: string = fromFileUrl(new URL("../../", import.meta.url));

/** All fenced blocks of the README, with the section that each stands in. */
export function readmeBlocks(): Block[] {
  return fencedBlocks(`${root}README.md`);
}

/** A README command for this machine: the Deno that runs the test, instead of one from the PATH or the registry. */
export function runnable(line: string): string {
  const deno = Deno.execPath();
  return line.replace(/^npx --yes deno@[0-9.]+ /, "deno ").replace(/^deno /, `${deno} `);
}
