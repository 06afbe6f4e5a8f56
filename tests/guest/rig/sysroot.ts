import { download, resolveClosure, unpack } from "./apt.ts";
import { exists } from "./paths.ts";

/** A tree of unpacked packages, whose programs run through its own loader. */
export interface Sysroot {
  readonly folder: string;
  /** With all that they depend on. */
  readonly packages: readonly string[];
  /** Packages of which some files are needed, but nothing that they depend on. */
  readonly alone?: readonly string[];
}

/**
 * Unpacks what a tree is to hold, in place of what was there for other packages.
 *
 * @param needApt makes the package lists ready; not called when nothing is to be done
 * @returns false when the tree is there already
 */
export async function fillSysroot(
  { folder, packages, alone = [] }: Sysroot,
  needApt: () => Promise<void>,
  log: (line: string) => void,
): Promise<boolean> {
  // Written when all are there.
  const stamp = `${folder}.json`;
  const content = JSON.stringify(alone.length === 0 ? packages : { packages, alone });
  if (exists(stamp) && Deno.readTextFileSync(stamp) === content) return false;
  await needApt();
  const closure = await resolveClosure(packages);
  log(`downloading ${closure.length + alone.length} packages`);
  const files = await download([...closure, ...alone]);
  log("unpacking them");
  if (exists(folder)) await Deno.remove(folder, { recursive: true });
  await unpack(files, folder);
  await Deno.writeTextFile(stamp, content);
  return true;
}
