/**
 * `ringside show --dump`
 *
 * @module
 */
import { O, OwnedFd, readToEnd } from "../ffi/mod.ts";
import { RingsideError, UsageError } from "../lib/errors/mod.ts";
import { readPciNames } from "../lib/host/functions/names.ts";
import { describeFunction, type DumpedFunction, formatFunction, parseDump } from "../lib/pci/mod.ts";
import { hex, hexText, print, printJson } from "./output.ts";

/** Decodes the functions of a dump. @param file `-` is standard input @throws UsageError (no dump), SyscallError */
export function showDump(file: string, options: { readonly json: boolean; readonly hex: boolean }): void {
  const functions = parse(file), names = readPciNames();
  if (options.json) {
    return printJson(functions.map(({ address, line, config }) => ({
      ...(line === 0 ? {} : { line }),
      config: describeFunction(config, { address, names }),
      ...(options.hex ? { bytes: hexText(config.bytes) } : {}),
    })));
  }
  functions.forEach(({ address, config }, index) => {
    if (index > 0) print();
    for (const line of formatFunction(config, { address, names })) print(line);
    if (options.hex) printHex(config.bytes);
  });
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

/** Bytes as `lspci -x` prints them. */
export function printHex(config: Uint8Array): void {
  for (let at = 0; at < config.length; at += 16) {
    const bytes = [...config.subarray(at, at + 16)].map((byte) => hex(byte, 2)).join(" ");
    print(`${hex(at, config.length > 256 ? 3 : 2)}: ${bytes}`);
  }
}
