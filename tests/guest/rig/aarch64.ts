/** What a guest of the AArch64 machine needs beside a kernel: a root of its own, since the host's has no programs for it. */
import { download, resolveClosure, unpack } from "./apt.ts";
import { runCommand } from "./command.ts";
import { exists, PATHS } from "./paths.ts";

/** What Deno needs, and a shell. */
const PACKAGES = ["libc6:arm64", "libgcc-s1:arm64", "busybox-static:arm64"];
/** The registry's package of Deno's program. */
const DENO = `@deno/linux-arm64-glibc@${Deno.version.deno}`;
/** Says what the root was made of; written when all is there. */
const STAMP = `${PATHS.aarch64}.json`;
const CONTENTS = JSON.stringify([...PACKAGES, DENO]);

/** Whether the root is there as it should be. */
export function hasAarch64Root(): boolean {
  return exists(STAMP) && Deno.readTextFileSync(STAMP) === CONTENTS;
}

/** Makes the root: unpacked packages, Deno, and the folders that a guest mounts things at. Needs npm. */
export async function prepareAarch64Root(log: (line: string) => void): Promise<void> {
  const root = PATHS.aarch64;
  log("downloading what AArch64 needs: Debian packages and Deno (about 45 MB)");
  const files = await download(await resolveClosure(PACKAGES));
  // npm says the file's name alone on standard output.
  const archive = (await runCommand(["npm", "pack", "--silent", DENO], { cwd: PATHS.debs })).trim();
  if (exists(root)) await Deno.remove(root, { recursive: true });
  await unpack(files, root);
  await runCommand([
    ...["tar", "-xzf", `${PATHS.debs}/${archive}`, "-C", `${root}/usr/bin`],
    ...["--strip-components=1", "package/deno"],
  ]);
  for (const [link, target] of [["bin", "usr/bin"], ["sbin", "usr/bin"], ["lib", "usr/lib"]] as const) {
    await Deno.symlink(target, `${root}/${link}`);
  }
  for (const applet of ["sh", "cat", "ls", "dmesg", "lsmod", "insmod", "devmem"]) {
    await Deno.symlink("busybox", `${root}/usr/bin/${applet}`);
  }
  for (const folder of ["proc", "sys", "dev", "tmp", "run"]) {
    await Deno.mkdir(`${root}/${folder}`);
  }
  await Deno.writeTextFile(STAMP, CONTENTS);
}
