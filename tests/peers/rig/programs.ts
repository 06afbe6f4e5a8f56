/**
 * Third-party programs: those that `deno task peers:setup` unpacked, else the system's own.
 *
 * @module
 */
import { accessible, readDirectory } from "../../../ffi/mod.ts";
import { PATHS } from "../../guest/rig/paths.ts";

/** Programs that can be asked for, and where packages have them. */
const PLACES = {
  "dpdk-testpmd": "/usr/bin/dpdk-testpmd",
  "qemu-storage-daemon": "/usr/bin/qemu-storage-daemon",
  "qemu-img": "/usr/bin/qemu-img",
  passt: "/usr/bin/passt",
} as const;

/** See `findProgram`. */
export type ProgramName = keyof typeof PLACES;

/** A program, and how it is started. */
export interface Program {
  readonly name: ProgramName;
  /** `rig`: unpacked, with its own loader and libraries. */
  readonly origin: "rig" | "system";
  /** What a command line begins with. */
  readonly argv: readonly string[];
  /** Added to the environment. */
  readonly env: Readonly<Record<string, string>>;
}

const LIBRARIES = "/usr/lib/x86_64-linux-gnu";
const LINE_BUFFERING = "/usr/libexec/coreutils/libstdbuf.so";

/** The program, or undefined where it is neither unpacked nor installed. */
export function findProgram(name: ProgramName): Program | undefined {
  const path = PLACES[name];
  // What testpmd prints by way of the C library would come by blocks of 4 KiB, to a pipe.
  const lines = name === "dpdk-testpmd";
  if (accessible(`${PATHS.peers}.json`) && accessible(`${PATHS.peers}${path}`)) {
    const libraries = `${PATHS.peers}${LIBRARIES}`;
    const preload = lines ? ["--preload", `${PATHS.peers}${LINE_BUFFERING}`] : [];
    return {
      name,
      origin: "rig",
      argv: [
        `${libraries}/ld-linux-x86-64.so.2`,
        ...preload,
        "--library-path",
        libraries,
        PATHS.peers + path,
      ],
      env: { ...(lines ? { _STDBUF_O: "L" } : {}), QEMU_MODULE_DIR: `${libraries}/qemu` },
    };
  }
  if (!accessible(path)) return undefined;
  return { name, origin: "system", argv: lines ? ["/usr/bin/stdbuf", "-oL", path] : [path], env: {} };
}

/**
 * Files of the plug-ins of an unpacked DPDK, by their names (`net_vhost`). An installed one finds its own, and then there are none here.
 * @throws SyscallError
 */
export function dpdkPlugins(program: Program, names: readonly string[]): string[] {
  if (program.origin === "system") return [];
  const folders = `${PATHS.peers}${LIBRARIES}/dpdk`;
  return readDirectory(folders).filter(({ name }) => name.startsWith("pmds-")).flatMap((folder) => {
    // `.so.25` and `.so.25.0` are one file.
    const files = readDirectory(`${folders}/${folder.name}`).map(({ name }) => name);
    return names.flatMap((name) =>
      files.filter((file) => new RegExp(`^librte_${name}\\.so\\.\\d+$`).test(file))
    )
      .map((file) => `${folders}/${folder.name}/${file}`);
  });
}

/** True where QEMU's programs can drive a disk over vhost-user, which they do by libblkio. */
export function hasBlkio(): boolean {
  const program = findProgram("qemu-img");
  if (program === undefined) return false;
  const root = program.origin === "rig" ? PATHS.peers : "";
  return accessible(`${root}${LIBRARIES}/qemu/block-blkio.so`);
}

/** What a C compiler needs for a program that uses libblkio, and what starts that program; undefined where there is no libblkio to compile for. */
export function libblkio():
  | { readonly compile: readonly string[]; readonly run: readonly string[] }
  | undefined {
  const [header, libraries] = ["/usr/include/blkio.h", `${PATHS.peers}${LIBRARIES}`];
  if (accessible(`${PATHS.peers}.json`) && accessible(`${PATHS.peers}${header}`)) {
    return {
      // What libblkio needs itself is found when the program is started.
      compile: [`-I${PATHS.peers}/usr/include`, `${libraries}/libblkio.so.1`, "-Wl,--allow-shlib-undefined"],
      run: [`${libraries}/ld-linux-x86-64.so.2`, "--library-path", libraries],
    };
  }
  return accessible(header) ? { compile: ["-lblkio"], run: [] } : undefined;
}
