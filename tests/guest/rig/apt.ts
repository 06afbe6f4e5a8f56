import { debianMirrors, parseDeb822, parseOneLine } from "./apt_sources.ts";
import type { AptSource } from "./apt_sources.ts";
import { runCommand } from "./command.ts";
import { CommandError, SetupError } from "./errors.ts";
import { exists, PATHS } from "./paths.ts";

/** Release whose packages the rig unpacks, whatever the host runs. */
export const GUEST_SUITE = "trixie";
/** QEMU older than 11 has neither `sriov-pf` nor `vfio-user-pci`; the release itself has 10. */
export const BACKPORTS_SUITE = `${GUEST_SUITE}-backports`;

/** Newer releases of the package call the file `.pgp`. */
const KEYRINGS = ["gpg", "pgp"].map((suffix) => `/usr/share/keyrings/debian-archive-keyring.${suffix}`);
const CONFIG = `${PATHS.apt}/apt.conf`;

/** A package at one version. */
export interface PackageVersion {
  readonly name: string;
  readonly version: string;
}

/** Makes the private apt state and fetches its package lists, for the host and other architectures. Returns the archive used. */
export async function prepareApt(
  log: (line: string) => void,
  foreign: readonly string[] = [],
): Promise<string> {
  const keyring = KEYRINGS.find(exists);
  if (keyring === undefined) {
    throw new SetupError(`${KEYRINGS[0]} is missing: install the package debian-archive-keyring`);
  }
  await writeConfig(["amd64", ...foreign]);
  const mirrors = await findMirrors();
  const failures: string[] = [];
  for (const mirror of mirrors) {
    await Deno.writeTextFile(
      `${PATHS.apt}/sources.list`,
      `deb [signed-by=${keyring}] ${mirror} ${GUEST_SUITE} main\n` +
        `deb [signed-by=${keyring}] ${mirror} ${BACKPORTS_SUITE} main\n`,
    );
    log("fetching package lists");
    try {
      await apt("apt-get", ["-q", "--error-on=any", "update"]);
      return mirror;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      failures.push(error.message);
    }
  }
  throw new SetupError(
    `no archive of this machine's apt sources serves ${GUEST_SUITE} and ${BACKPORTS_SUITE}; ` +
      `name one in RINGSIDE_APT_MIRROR.\n${failures.join("\n")}`,
  );
}

/** Every package an installation on an empty system would take, dependencies included. */
export async function resolveClosure(
  names: readonly string[],
  suite: string = BACKPORTS_SUITE,
): Promise<PackageVersion[]> {
  const plan = await apt("apt-get", [
    "--simulate",
    "--no-install-recommends",
    "-t",
    suite,
    "install",
    ...names,
  ]);
  return [...plan.matchAll(/^Inst (\S+) \((\S+) /gm)].map((match) => ({
    name: match[1] ?? "",
    version: match[2] ?? "",
  }));
}

/** Name of the package a meta package stands for, e.g. the kernel behind `linux-image-amd64`. */
export async function dependencyOf(
  name: string,
  pattern: RegExp,
  suite: string = BACKPORTS_SUITE,
): Promise<string> {
  const release = ["-o", `APT::Default-Release=${suite}`];
  const depends = await apt("apt-cache", [...release, "depends", "--no-recommends", "--no-suggests", name]);
  const found = [...depends.matchAll(/Depends: (\S+)/g)].map((match) => match[1] ?? "").find((dependency) =>
    pattern.test(dependency)
  );
  if (found === undefined) throw new SetupError(`package ${name} has no dependency matching ${pattern}`);
  return found;
}

/** Downloads packages (those already there are kept) and returns the files. @param packages a text is `name`, `name:architecture` or `name/suite` */
export async function download(packages: readonly (PackageVersion | string)[]): Promise<string[]> {
  await Deno.mkdir(PATHS.debs, { recursive: true });
  const specs = packages.map((entry) => typeof entry === "string" ? entry : `${entry.name}=${entry.version}`);
  const uris = await apt("apt-get", ["--print-uris", "download", ...specs]);
  const files = [...uris.matchAll(/^'[^']*' (\S+) (\d+)/gm)].map((match) => ({
    path: `${PATHS.debs}/${match[1]}`,
    sizeBytes: Number(match[2]),
  }));
  if (files.length !== specs.length) {
    throw new SetupError(`apt named ${files.length} files for ${specs.length} packages:\n${uris}`);
  }
  // apt answers in an order of its own, so files are told apart by the package name they begin with.
  const present = new Set(
    files.filter((file) => exists(file.path) && Deno.statSync(file.path).size === file.sizeBytes)
      .map((file) => file.path.slice(PATHS.debs.length + 1).split("_")[0]),
  );
  const missing = specs.filter((spec) => !present.has(spec.split(/[:=/]/)[0]));
  if (missing.length > 0) {
    await apt("apt-get", ["-q", "download", ...missing], PATHS.debs);
  }
  return files.map((file) => file.path);
}

/** Unpacks package files into a folder without running any of their scripts. */
export async function unpack(files: readonly string[], folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const file of files) await runCommand(["dpkg-deb", "--extract", file, folder]);
}

function apt(program: string, args: readonly string[], cwd?: string): Promise<string> {
  return runCommand([program, ...args], {
    env: { APT_CONFIG: CONFIG, DEBIAN_FRONTEND: "noninteractive" },
    ...(cwd === undefined ? {} : { cwd }),
  });
}

async function writeConfig(architectures: readonly string[]): Promise<void> {
  for (const folder of ["state/lists/partial", "cache/archives/partial", "etc", "log"]) {
    await Deno.mkdir(`${PATHS.apt}/${folder}`, { recursive: true });
  }
  await Deno.writeTextFile(`${PATHS.apt}/state/status`, "");
  // Proxies and the like are the machine's business and are kept; index targets and hooks are not: they
  // fetch or run things this private state has no use for.
  const acquire = (await runCommand(["apt-config", "dump", "Acquire"]))
    .split("\n")
    .filter((line) => /^Acquire::[^ ]+ "/.test(line) && !line.startsWith("Acquire::IndexTargets"));
  const own = {
    "APT::Architecture": "amd64",
    "APT::Install-Recommends": "false",
    // Otherwise apt, run as root, becomes a user who may not enter this folder.
    "APT::Sandbox::User": "root",
    "Dir::State": `${PATHS.apt}/state`,
    "Dir::State::status": `${PATHS.apt}/state/status`,
    "Dir::Cache": `${PATHS.apt}/cache`,
    "Dir::Log": `${PATHS.apt}/log`,
    "Dir::Etc::parts": `${PATHS.apt}/etc`,
    "Dir::Etc::main": "/dev/null",
    "Dir::Etc::sourcelist": `${PATHS.apt}/sources.list`,
    "Dir::Etc::sourceparts": "/dev/null",
    "Dir::Etc::preferences": "/dev/null",
    "Dir::Etc::preferencesparts": "/dev/null",
    "Acquire::Languages": "none",
    "Debug::NoLocking": "true",
  };
  const lines = Object.entries(own).map(([key, value]) => `${key} "${value}";`);
  await Deno.writeTextFile(
    CONFIG,
    [
      ...acquire,
      "#clear APT::Architectures;",
      `APT::Architectures { ${architectures.map((name) => `"${name}"; `).join("")}};`,
      ...lines,
      "",
    ].join("\n"),
  );
}

async function findMirrors(): Promise<string[]> {
  const named = Deno.env.get("RINGSIDE_APT_MIRROR");
  if (named !== undefined && named !== "") return [named];
  const sources: AptSource[] = [];
  if (exists("/etc/apt/sources.list")) sources.push(...parseOneLine(await readText("/etc/apt/sources.list")));
  const folder = "/etc/apt/sources.list.d";
  for (const entry of exists(folder) ? [...Deno.readDirSync(folder)] : []) {
    const path = `${folder}/${entry.name}`;
    if (entry.name.endsWith(".list")) sources.push(...parseOneLine(await readText(path)));
    if (entry.name.endsWith(".sources")) sources.push(...parseDeb822(await readText(path)));
  }
  const release = exists("/etc/os-release") ? await readText("/etc/os-release") : "";
  const codename = /^VERSION_CODENAME=(\S+)$/m.exec(release)?.[1] ?? GUEST_SUITE;
  const mirrors = debianMirrors(sources, codename);
  if (mirrors.length === 0) {
    throw new SetupError(
      `this machine's apt sources have no Debian archive for "${codename}"; ` +
        `name one with ${GUEST_SUITE} and ${BACKPORTS_SUITE} in RINGSIDE_APT_MIRROR`,
    );
  }
  return mirrors;
}

/** Files only root may read hold credentials for some other archive; the rig does without them. */
async function readText(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) return "";
    throw error;
  }
}
