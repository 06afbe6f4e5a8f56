import { readText } from "../../ffi/mod.ts";
import { fromFileUrl } from "../unit/architecture/source_files.ts";

/** The project's folder. */
export const root: string = fromFileUrl(new URL("../../", import.meta.url));

/** A fenced block of the README: the words after the fence, and its lines. */
export interface Block {
  readonly info: string;
  readonly section: string;
  readonly lines: readonly string[];
}

/** All fenced blocks of the README, with the section that each stands in. */
export function readmeBlocks(): Block[] {
  const blocks: Block[] = [];
  let section = "";
  let open: { info: string; lines: string[] } | null = null;
  for (const line of readText(`${root}README.md`).split("\n")) {
    if (open === null && line.startsWith("## ")) section = line.slice(3);
    else if (open === null && line.startsWith("```")) open = { info: line.slice(3).trim(), lines: [] };
    else if (open !== null && line.startsWith("```")) {
      blocks.push({ ...open, section });
      open = null;
    } else open?.lines.push(line);
  }
  return blocks;
}

/** A README command for this machine: the Deno that runs the test, instead of one from the PATH or the registry. */
export function runnable(line: string): string {
  const deno = Deno.execPath();
  return line.replace(/^npx --yes deno@[0-9.]+ /, "deno ").replace(/^deno /, `${deno} `);
}
