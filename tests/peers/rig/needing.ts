/**
 * Tests with third-party programs as peers.
 *
 * @module
 */
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { findProgram, hasBlkio, type ProgramName } from "./programs.ts";

/** What a test needs: a program, or libblkio beside qemu-img. */
export type Needed = ProgramName | "libblkio";

/** A test that is skipped, and says why, where what it needs is neither unpacked nor installed. @param test gets a folder that goes with it */
export function peerTest(
  needs: readonly Needed[],
  name: string,
  test: (folder: string) => Promise<void> | void,
): void {
  const missing = needs.filter((need) => need === "libblkio" ? !hasBlkio() : findProgram(need) === undefined);
  const why = missing.length === 0
    ? ""
    : ` (skipped: no ${missing.join(", no ")}; run: deno task peers:setup)`;
  Deno.test({
    name: `${needs.join(", ")}: ${name}${why}`,
    ignore: missing.length > 0,
    fn: async () => {
      const folder = makeTemporaryDirectory();
      try {
        await test(folder);
      } finally {
        removeTree(folder);
      }
    },
  });
}
