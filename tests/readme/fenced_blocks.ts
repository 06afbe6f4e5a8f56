/** Commands and code that stand on a page of the documentation. */
import { readText } from "../../ffi/mod.ts";

/** A fenced block: the words after the fence, and its lines. */
export interface Block {
  readonly info: string;
  readonly section: string;
  readonly lines: readonly string[];
}

/** All fenced blocks of a page, with the section that each stands in. */
export function fencedBlocks(path: string): Block[] {
  const blocks: Block[] = [];
  let section = "";
  let open: { info: string; lines: string[] } | null = null;
  for (const line of readText(path).split("\n")) {
    if (open === null && line.startsWith("## ")) section = line.slice(3);
    else if (open === null && line.startsWith("```")) open = { info: line.slice(3).trim(), lines: [] };
    else if (open !== null && line.startsWith("```")) {
      blocks.push({ ...open, section });
      open = null;
    } else open?.lines.push(line);
  }
  return blocks;
}
