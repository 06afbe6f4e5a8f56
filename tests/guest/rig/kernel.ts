import { zstdDecompressSync } from "node:zlib";
import { dependencyOf, download, GUEST_SUITE, resolveClosure, unpack } from "./apt.ts";
import { runCommand, runCommandBytes } from "./command.ts";
import { NotSetUpError, SetupError } from "./errors.ts";
import type { Architecture } from "./machines.ts";
import { GUEST_MODULES, moduleDepends, moduleName } from "./modules.ts";
import type { ModuleFile, ModuleIndex } from "./modules.ts";
import { exists, PATHS, PROJECT_ROOT, RIG_DIR } from "./paths.ts";

/**
 * Where a kernel comes from: `ready` was built for tests and has IOMMUFD with VFIO character devices; `ready-64k` is the same with pages of
 * 64 KiB, for AArch64; `debian` is the distribution's own, which has the group path only.
 */
export type KernelFlavour = "ready" | "ready-64k" | "debian";

/** A kernel the rig can boot. */
export interface GuestKernel extends ModuleIndex {
  readonly flavour: KernelFlavour;
  /** What `uname -r` says in the guest. */
  readonly release: string;
  /** Tells whether the source, or what is wanted of it, has changed since this was prepared. */
  readonly signature: string;
  readonly image: string;
  readonly moduleFolder: string;
}

/** Where a ready kernel of an architecture is looked for: a variable that names a folder, else these; and what its image is called there. */
const READY = {
  x86_64: {
    variable: "RINGSIDE_GUEST_KERNEL",
    folders: [`${RIG_DIR}/kernel-build/out`, `${PROJECT_ROOT}/../shared/guest`],
    image: "bzImage",
  },
  aarch64: {
    variable: "RINGSIDE_GUEST_KERNEL_AARCH64",
    folders: [`${PROJECT_ROOT}/../shared/guest/arm64-4k`],
    image: "Image.gz",
  },
  "aarch64-64k": {
    variable: "RINGSIDE_GUEST_KERNEL_AARCH64_64K",
    folders: [`${PROJECT_ROOT}/../shared/guest/arm64-64k`],
    image: "Image.gz",
  },
} as const;

/** Which of the ready kernels: one an architecture, and one with large pages. */
export type ReadyKernel = keyof typeof READY;

/** Folder with a ready kernel (its image and `modules.tar.zst`), or undefined when this machine has none. */
export function readyKernelFolder(which: ReadyKernel = "x86_64"): string | undefined {
  const { variable, folders, image } = READY[which];
  const named = Deno.env.get(variable);
  if (named !== undefined && named !== "") {
    if (!exists(`${named}/${image}`)) {
      throw new SetupError(`${variable} is "${named}", but there is no ${image} in it`);
    }
    return named;
  }
  return folders.find((folder) => exists(`${folder}/${image}`));
}

/** A set-up of before may have left modules out that are wanted now. */
const WANTED = `with ${GUEST_MODULES.join(" ")}`;

/** Whether the distribution's kernel is there, of whatever version, with all that is wanted of it. */
export function hasDebianKernel(): boolean {
  const path = `${kernelFolder("debian", "x86_64")}/kernel.json`;
  return exists(path) && (JSON.parse(Deno.readTextFileSync(path)) as GuestKernel).signature.endsWith(WANTED);
}

/** Loads a kernel the set-up has prepared; without a flavour the ready one is preferred. */
export function preparedKernel(
  flavour?: KernelFlavour,
  architecture: Architecture = "x86_64",
): GuestKernel {
  for (const name of flavour === undefined ? ["ready", "debian"] as const : [flavour]) {
    const path = `${kernelFolder(name, architecture)}/kernel.json`;
    if (exists(path)) return JSON.parse(Deno.readTextFileSync(path)) as GuestKernel;
  }
  const what = flavour === undefined ? architecture : `${architecture} "${flavour}"`;
  throw new NotSetUpError(`guest kernel ${what} in ${PATHS.kernels}`);
}

/** Whether a kernel of the architecture was prepared. */
export function hasKernel(
  architecture: Architecture,
  flavours: readonly KernelFlavour[] = ["ready", "debian"],
): boolean {
  return flavours.some((flavour) => exists(`${kernelFolder(flavour, architecture)}/kernel.json`));
}

function kernelFolder(flavour: KernelFlavour, architecture: Architecture): string {
  return `${PATHS.kernels}/${flavour}${architecture === "x86_64" ? "" : `-${architecture}`}`;
}

/** Prepares the ready kernel of a folder. Returns false when that was already done. */
export async function prepareReadyKernel(folder: string, which: ReadyKernel = "x86_64"): Promise<boolean> {
  const image = `${folder}/${READY[which].image}`;
  const target = which === "aarch64-64k"
    ? kernelFolder("ready-64k", "aarch64")
    : kernelFolder("ready", which);
  const archive = `${folder}/modules.tar.zst`;
  const stamps = [image, archive].map((file) => {
    const info = Deno.statSync(file);
    return `${file}:${info.size}:${info.mtime?.getTime()}`;
  });
  const signature = `${stamps.join(" ")} ${WANTED}`;
  if (isPrepared(target, signature)) return false;
  const tree = `${target}.unpack`;
  await startAfresh(tree);
  await Deno.writeFile(`${tree}/modules.tar`, zstdDecompressSync(await Deno.readFile(archive)));
  await runCommand(["tar", "-xf", `${tree}/modules.tar`, "-C", tree]);
  await prepare("ready", target, signature, image, tree);
  return true;
}

/** Downloads and prepares the distribution's kernel. Returns false when that was already done. */
export async function prepareDebianKernel(log: (line: string) => void): Promise<boolean> {
  const name = await dependencyOf("linux-image-amd64", /^linux-image-\d/, GUEST_SUITE);
  const target = kernelFolder("debian", "x86_64");
  const signature = `${name} ${WANTED}`;
  if (isPrepared(target, signature)) return false;
  const image = (await resolveClosure([name], GUEST_SUITE)).filter((entry) => entry.name === name);
  log(`downloading ${name} (about 100 MB)`);
  const files = await download(image.length > 0 ? image : [name]);
  const tree = `${target}.unpack`;
  await startAfresh(tree);
  await unpack(files, tree);
  const boot = [...Deno.readDirSync(`${tree}/boot`)].find((entry) => entry.name.startsWith("vmlinuz-"));
  if (boot === undefined) throw new SetupError(`${name} holds no boot/vmlinuz-*`);
  log("preparing its modules");
  await prepare("debian", target, signature, `${tree}/boot/${boot.name}`, tree);
  return true;
}

function isPrepared(folder: string, signature: string): boolean {
  const path = `${folder}/kernel.json`;
  if (!exists(path)) return false;
  const kernel = JSON.parse(Deno.readTextFileSync(path)) as GuestKernel;
  // Scripts and folders move with a checkout; absolute paths in an old record do not.
  return kernel.signature === signature && exists(kernel.image) &&
    kernel.moduleFolder === `${folder}/modules`;
}

async function startAfresh(folder: string): Promise<void> {
  if (exists(folder)) await Deno.remove(folder, { recursive: true });
  await Deno.mkdir(folder, { recursive: true });
}

/** Copies image and modules out of an unpacked tree, and removes the tree. */
async function prepare(
  flavour: KernelFlavour,
  folder: string,
  signature: string,
  image: string,
  tree: string,
): Promise<void> {
  await startAfresh(folder);
  const modulesRoot = [`${tree}/lib/modules`, `${tree}/usr/lib/modules`].find(exists);
  const release = modulesRoot === undefined
    ? undefined
    : [...Deno.readDirSync(modulesRoot)].find((entry) => entry.isDirectory)?.name;
  if (modulesRoot === undefined || release === undefined) {
    throw new SetupError(`no lib/modules/<release> among the modules of the ${flavour} kernel`);
  }
  const source = `${modulesRoot}/${release}`;
  const builtin = (await Deno.readTextFile(`${source}/modules.builtin`)).split("\n").filter(Boolean).map(
    moduleName,
  );
  const moduleFolder = `${folder}/modules`;
  await Deno.mkdir(moduleFolder);
  const modules = await copyModules(source, moduleFolder);
  await Deno.copyFile(image, `${folder}/bzImage`);
  const kernel: GuestKernel = {
    flavour,
    release,
    signature,
    image: `${folder}/bzImage`,
    moduleFolder,
    builtin,
    modules,
  };
  // Written last: its presence says that all the rest is there.
  await Deno.writeTextFile(`${folder}/kernel.json`, JSON.stringify(kernel, null, 1));
  await Deno.remove(tree, { recursive: true });
}

async function copyModules(source: string, target: string): Promise<Record<string, ModuleFile>> {
  const files = new Map<string, string>();
  for (const path of walk(`${source}/kernel`)) {
    if (/\.ko(\.[a-z0-9]+)?$/.test(path)) files.set(moduleName(path), path);
  }
  const modules: Record<string, ModuleFile> = {};
  const queue = [...GUEST_MODULES];
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
    const path = files.get(name);
    if (path === undefined || modules[name] !== undefined) continue;
    const data = await readModule(path);
    await Deno.writeFile(`${target}/${name}.ko`, data);
    const depends = moduleDepends(data);
    modules[name] = { file: `${name}.ko`, depends };
    queue.push(...depends);
  }
  return modules;
}

async function readModule(path: string): Promise<Uint8Array> {
  if (path.endsWith(".ko.xz")) {
    return await runCommandBytes([`${PATHS.sysroot}/usr/bin/busybox`, "xzcat", path]);
  }
  const data = await Deno.readFile(path);
  return path.endsWith(".ko.zst") ? zstdDecompressSync(data) : data;
}

function* walk(folder: string): Generator<string> {
  for (const entry of Deno.readDirSync(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* walk(path);
    else yield path;
  }
}
