/**
 * What was measured for the page of figures: a file of JSON each part, as the benchmark printed it, with when and how.
 *
 * @module
 */
import { accessible, readText, replaceFile } from "../../ffi/mod.ts";
import type { Section } from "../report.ts";

/** One part: what `deno task bench --only PART --json` printed, and when. */
export interface Recorded {
  /** As `2026-11-30 17:40 UTC`. */
  readonly date: string;
  readonly command: string;
  readonly machine: Readonly<Record<string, string>>;
  /** Few rounds: the figures say little. */
  readonly short: boolean;
  readonly seconds: number;
  readonly sections: readonly Section[];
}

/** Folder of the parts and their pictures. */
export const FIGURES: URL = new URL("../../docs/figures/", import.meta.url);

/** Where a part's file is. */
export function pathOf(part: string): string {
  return new URL(`${part}.json`, FIGURES).pathname;
}

/** A part; undefined when it was never measured. */
export function readRecord(part: string): Recorded | undefined {
  const path = pathOf(part);
  return accessible(path) ? JSON.parse(readText(path)) : undefined;
}

/** Writes a file, whole or not at all. @throws SyscallError */
export function writeFile(path: string, text: string): void {
  replaceFile(path, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
}
