/**
 * `ringside show --dump`
 *
 * @module
 */
import { O, OwnedFd, readToEnd } from "../ffi/mod.ts";
import { RingsideError, UsageError } from "../lib/errors/mod.ts";
import { readPciNames } from "../lib/host/functions/names.ts";
import { describeFunction, type DumpedFunction, formatFunction, parseDump } from "../lib/pci/mod.ts";
import { hex, hexText, painted, print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";
import { meansAll } from "./selecting.ts";

/** Decodes the functions of a dump. @throws UsageError (no dump, or an option that is about a function of a host), SyscallError */
export function showDump(options: Of<"show"> & { readonly dump: string }): void {
  refuseBesideDump(options);
  const functions = parse(options.dump), names = readPciNames();
  if (options.json) {
    return printJson(functions.map(({ address, line, config }) => ({
      ...(line === 0 ? {} : { line }),
      config: describeFunction(config, { address, names }),
      ...(options.hex ? { bytes: hexText(config.bytes) } : {}),
    })));
  }
  functions.forEach(({ address, config }, index) => {
    if (index > 0) print();
    printDecoded(formatFunction(config, { address, names }));
    if (options.hex) printHex(config.bytes);
  });
}

/** What is about a function of a host means nothing for a dump. @throws UsageError */
function refuseBesideDump(options: Of<"show">): void {
  const { functions, path, vfToken, unsafe, assumeAccessPlatform, profile, trace, tvq } = options;
  const given: readonly [name: string, isGiven: boolean][] = [
    ["FUNCTION", functions.length > 0],
    ["--host", options.host !== undefined],
    ["option that chooses functions", !meansAll([], options)],
    ["--path", path !== undefined],
    ["--vf-token", vfToken !== undefined],
    ["--enable-unsafe-noiommu-mode", unsafe],
    ["--assume-access-platform", assumeAccessPlatform],
    ["--profile", profile !== undefined],
    ["--trace", trace !== undefined],
    ["--tvq", tvq !== undefined],
  ];
  const first = given.find(([, isGiven]) => isGiven);
  if (first !== undefined) throw new UsageError(`--dump takes no ${first[0]}: it shows what is in the file`);
}

function parse(file: string): DumpedFunction[] {
  using fd = file === "-" ? OwnedFd.standard("input") : OwnedFd.open(file, O.RDONLY);
  const data = readToEnd(fd);
  try {
    return parseDump(data);
  } catch (error) {
    if (!(error instanceof RingsideError)) throw error;
    throw new UsageError(`${fd.target}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

/** Lines of a decoded function: its name and those of its capabilities stand out where there is colour. */
export function printDecoded(lines: readonly string[]): void {
  lines.forEach((line, index) => {
    const capability = /^(\tCapabilities: )(\[[^\]]*\] )([^:]*)(.*)$/.exec(line);
    if (index === 0) print(painted(line, "bold"));
    else if (capability !== null) {
      const [, label, at, name, rest] = capability;
      print(`${label}${at}${painted(name!, "cyan")}${rest}`);
    } else print(line);
  });
}

/** Bytes as `lspci -x` prints them. */
export function printHex(config: Uint8Array): void {
  for (let at = 0; at < config.length; at += 16) {
    const bytes = [...config.subarray(at, at + 16)].map((byte) => hex(byte, 2)).join(" ");
    print(`${hex(at, config.length > 256 ? 3 : 2)}: ${bytes}`);
  }
}
