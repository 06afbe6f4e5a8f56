/**
 * Tests with third-party programs as peers.
 *
 * @module
 */
import { accessible } from "../../../ffi/mod.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { userNamespaces } from "./passt.ts";
import { findProgram, hasBlkio, libblkio, type ProgramName } from "./programs.ts";

/** What a test needs besides programs, and whether it is here. */
const CONDITIONS = {
  "libblkio of qemu-img": hasBlkio,
  "libblkio to compile for": () => libblkio() !== undefined,
  "user namespaces": userNamespaces,
  "second processor": () => navigator.hardwareConcurrency >= 2,
  "C compiler": () => ["cc", "gcc", "clang"].some((name) => accessible(`/usr/bin/${name}`)),
} as const;

/** What a test needs. */
export type Needed = ProgramName | keyof typeof CONDITIONS;

/** A test that is skipped, and says why, where what it needs is neither unpacked nor installed. @param test gets a folder that goes with it */
export function peerTest(
  needs: readonly Needed[],
  name: string,
  test: (folder: string) => Promise<void> | void,
): void {
  const missing = needs.filter((need) =>
    !(need in CONDITIONS ? CONDITIONS[need as keyof typeof CONDITIONS]() : findProgram(need as ProgramName))
  );
  const why = missing.length === 0
    ? ""
    : ` (skipped: no ${missing.join(", no ")}; deno task peers:setup fetches programs)`;
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
