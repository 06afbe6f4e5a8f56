/**
 * Builds a guest kernel with IOMMUFD and VFIO character devices from Debian's kernel source.
 *
 *     deno run -A tests/guest/rig/build_kernel.ts [--configure-only] [--jobs N]
 *
 * Needs a C tool chain and takes about 12 minutes on two cores. The result lands in `.rig/kernel-build/out`, where
 * the set-up finds it.
 */
import { parseArgs } from "node:util";
import { zstdCompressSync } from "node:zlib";
import { dependencyOf, download, prepareApt, resolveClosure, unpack } from "./apt.ts";
import { runCommand } from "./command.ts";
import { RigError, SetupError } from "./errors.ts";
import { exists, PATHS, RIG_DIR } from "./paths.ts";

const BUILD = `${RIG_DIR}/kernel-build`;
const OUT = `${BUILD}/out`;

/** Programs the build needs, and the packages that have them. */
const TOOLS: Readonly<Record<string, string>> = {
  gcc: "gcc",
  make: "make",
  flex: "flex",
  bison: "bison",
  bc: "bc",
  xz: "xz-utils",
  perl: "perl",
};

/** Header the kernel's own object tool is compiled with; not needed to configure. */
const LIBELF = { path: "/usr/include/gelf.h", package: "libelf-dev" };

/** Options without which the guest tests that need such a kernel make no sense. */
const REQUIRED = [
  "CONFIG_IOMMUFD",
  "CONFIG_VFIO_DEVICE_CDEV",
  "CONFIG_VFIO_PCI",
  "CONFIG_PCI_IOV",
  "CONFIG_9P_FS",
];

/** Configures and builds the kernel; returns the folder with `bzImage` and `modules.tar.zst`. */
export async function buildKernel(
  options: { readonly configureOnly: boolean; readonly jobs: number },
  log: (line: string) => void,
): Promise<string> {
  const missing = Object.entries(TOOLS).filter(([program]) => !onPath(program)).map(([, name]) => name);
  if (!options.configureOnly && !exists(LIBELF.path)) missing.push(LIBELF.package);
  if (missing.length > 0) {
    throw new SetupError(`the kernel build lacks tools; install the packages: ${missing.join(" ")}`);
  }
  const source = await fetchSource(log);
  const make = (...args: string[]): Promise<string> => runCommand(["make", "-C", source, ...args]);
  log("configuring");
  await make("allnoconfig");
  await runCommand(["scripts/kconfig/merge_config.sh", "-m", ".config", PATHS.kernelFragment], {
    cwd: source,
  });
  await make("olddefconfig");
  reportDropped(`${source}/.config`, log);
  if (options.configureOnly) return source;

  log(`compiling with ${options.jobs} jobs; this takes a while`);
  await make(`-j${options.jobs}`, "LOCALVERSION=-ringside", "bzImage", "modules");
  const staging = `${BUILD}/staging`;
  if (exists(staging)) await Deno.remove(staging, { recursive: true });
  await Deno.mkdir(OUT, { recursive: true });
  // DEPMOD=true: the rig reads dependencies from the modules themselves, so depmod need not be there.
  await make("LOCALVERSION=-ringside", `INSTALL_MOD_PATH=${staging}`, "DEPMOD=true", "modules_install");
  for (const link of ["build", "source"]) {
    for (const release of Deno.readDirSync(`${staging}/lib/modules`)) {
      await Deno.remove(`${staging}/lib/modules/${release.name}/${link}`).catch(() => {});
    }
  }
  const tar = `${BUILD}/modules.tar`;
  await runCommand(["tar", "-cf", tar, "-C", staging, "lib"]);
  await Deno.writeFile(`${OUT}/modules.tar.zst`, zstdCompressSync(await Deno.readFile(tar)));
  await Deno.remove(tar);
  await Deno.copyFile(`${source}/.config`, `${OUT}/kernel.config`);
  // Last, because its presence is what makes the folder count as a ready kernel.
  await Deno.copyFile(`${source}/arch/x86/boot/bzImage`, `${OUT}/bzImage`);
  return OUT;
}

function onPath(program: string): boolean {
  return (Deno.env.get("PATH") ?? "").split(":").some((folder) => exists(`${folder}/${program}`));
}

async function fetchSource(log: (line: string) => void): Promise<string> {
  await prepareApt(log);
  const name = await dependencyOf("linux-source", /^linux-source-\d/);
  const folder = `${BUILD}/${name}`;
  if (exists(`${folder}/Makefile`)) return folder;
  log(`downloading ${name} (about 150 MB)`);
  const versions = (await resolveClosure([name])).filter((entry) => entry.name === name);
  const unpacked = `${BUILD}/package`;
  await unpack(await download(versions), unpacked);
  log("unpacking the source");
  await Deno.mkdir(BUILD, { recursive: true });
  await runCommand(["tar", "-xf", `${unpacked}/usr/src/${name}.tar.xz`, "-C", BUILD]);
  await Deno.remove(unpacked, { recursive: true });
  return folder;
}

/** Kconfig silently drops options whose dependencies are off; says so, and fails for those that matter most. */
function reportDropped(config: string, log: (line: string) => void): void {
  const actual = new Set(Deno.readTextFileSync(config).split("\n"));
  const wanted = Deno.readTextFileSync(PATHS.kernelFragment).split("\n").filter((line) =>
    /^CONFIG_.*=[ym]$/.test(line)
  );
  const dropped = wanted.filter((line) => !actual.has(line) && !actual.has(line.replace(/=m$/, "=y")));
  if (dropped.length > 0) log(`options this source does not take: ${dropped.join(" ")}`);
  const fatal = dropped.filter((line) => REQUIRED.some((option) => line.startsWith(`${option}=`)));
  if (fatal.length > 0) {
    throw new SetupError(`the kernel source cannot be configured with ${fatal.join(" ")}`);
  }
}

if (import.meta.main) {
  try {
    const { values } = parseArgs({
      args: Deno.args,
      options: {
        "configure-only": { type: "boolean", default: false },
        jobs: { type: "string", default: String(navigator.hardwareConcurrency) },
      },
    });
    const folder = await buildKernel(
      { configureOnly: values["configure-only"], jobs: Number(values.jobs) },
      (line) => console.log(`guest kernel: ${line}`),
    );
    console.log(`guest kernel: ${values["configure-only"] ? "configured" : "built"} in ${folder}`);
  } catch (error) {
    if (!(error instanceof RigError)) throw error;
    console.error(`guest kernel: ${error.message}`);
    Deno.exit(1);
  }
}
