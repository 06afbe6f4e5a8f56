/**
 * Configuration spaces out of dumps: what `lspci -x`, `-xxx` and `-xxxx` print, and the raw bytes of one function.
 *
 * @module
 */

import { typedCall } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { PciAddress } from "./address.ts";
import { ConfigSpace } from "./config_space.ts";
import { EXTENDED_BYTES, HEADER_BYTES } from "./header.ts";

/** One function of a dump. */
export interface DumpedFunction {
  /** Its address; raw bytes have none. */
  readonly address?: PciAddress;
  /** Number of the line that names it, counted from 1; 0 for raw bytes. */
  readonly line: number;
  /** Its configuration space. */
  readonly config: ConfigSpace;
}

/** `01:00.0`, `0000:01:00.0` or `10000:01:00.0` at the start of a line, and what it is behind a space. */
const TITLE = /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])(?=\s|$)/i;
/** An offset and up to 16 bytes. */
const BYTES = /^([0-9a-f]{2,8}):(?=\s|$)(.*)$/i;

/** A function while its lines are read. */
interface Unfinished {
  readonly address: PciAddress;
  readonly line: number;
  readonly bytes: Uint8Array;
  length: number;
}

/**
 * Reads a dump: text if it looks like text, else the raw bytes of one function, as `/sys/bus/pci/devices/…/config` has them.
 *
 * In text, a function begins with the line that `lspci` prints for it, and has lines of an offset and bytes; what `lspci -v` prints besides is
 * skipped. Several functions follow one another.
 *
 * @returns the functions in the order of the dump, at least one
 * @throws {UsageError} naming line and function where the text is broken, or saying that there is no function in it
 */
export function parseDump(data: Uint8Array): DumpedFunction[] {
  return typedCall("parseDump", [data], () => {
    const text = textOf(data);
    return text === undefined ? [{ line: 0, config: rawSpace(data) }] : readText(text);
  });
}

/** The data as text, unless it is none. A configuration space has bytes that text has not: zeros that are reserved, or nothing but ones. */
function textOf(data: Uint8Array): string | undefined {
  if (data.some((byte) => byte < 0x20 && (byte < 0x09 || byte > 0x0d))) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(data);
  } catch {
    return undefined;
  }
}

function rawSpace(data: Uint8Array): ConfigSpace {
  if (data.length < HEADER_BYTES || data.length > EXTENDED_BYTES) {
    throw new UsageError(`this is neither a dump in text nor a configuration space: ${data.length} bytes`, {
      hint: "a function has 64 to 4096 bytes; text is what lspci -x, -xxx or -xxxx prints",
    });
  }
  return new ConfigSpace(data);
}

function readText(text: string): DumpedFunction[] {
  const found: Unfinished[] = [];
  let open: Unfinished | undefined;
  text.split(/\r\n|\n|\r/).forEach((content, index) => {
    const line = index + 1;
    const title = TITLE.exec(content);
    if (title !== null) {
      const address = PciAddress.tryParse(title[1]!);
      if (address === undefined) throw new UsageError(`line ${line}: ${title[1]} is not a PCI address`);
      const earlier = found.find((one) => one.address.equals(address));
      if (earlier !== undefined) {
        throw new UsageError(`line ${line}: ${address} is there twice; it was on line ${earlier.line}`);
      }
      open = { address, line, bytes: new Uint8Array(EXTENDED_BYTES), length: 0 };
      found.push(open);
      return;
    }
    const bytes = BYTES.exec(content);
    if (bytes !== null) addBytes(open, line, bytes[1]!, bytes[2]!);
  });
  if (found.length === 0) {
    throw new UsageError("there is no function in this dump", {
      hint:
        "a function begins with its address, as 01:00.0, and has lines as 00: f4 1a 41 10 …: lspci -x prints them",
    });
  }
  return found.map(finish);
}

/** @throws {UsageError} where they belong to no function, do not go on where the ones before ended, or are no bytes */
function addBytes(open: Unfinished | undefined, line: number, offsetText: string, text: string): void {
  const values = text.trim() === "" ? [] : text.trim().split(/\s+/);
  if (open === undefined) {
    throw new UsageError(`line ${line}: bytes before the first function`, {
      hint: "a line with the function's address, as 01:00.0, comes before its bytes",
    });
  }
  const where = `line ${line}: ${open.address}`, offset = parseInt(offsetText, 16);
  if (offset !== open.length) {
    throw new UsageError(
      `${where}: bytes at 0x${offset.toString(16)}, where 0x${open.length.toString(16)} is next`,
    );
  }
  const wrong = values.find((one) => !/^[0-9a-f]{2}$/i.test(one));
  if (wrong !== undefined) {
    throw new UsageError(`${where}: ${JSON.stringify(wrong)} is not a byte in two hexadecimal digits`);
  }
  if (offset + values.length > EXTENDED_BYTES) {
    throw new UsageError(
      `${where}: bytes beyond 0x${EXTENDED_BYTES.toString(16)}, where configuration space ends`,
    );
  }
  values.forEach((one, i) => open.bytes[offset + i] = parseInt(one, 16));
  open.length += values.length;
}

/** @throws {UsageError} when there are fewer bytes than a header has */
function finish({ address, line, bytes, length }: Unfinished): DumpedFunction {
  if (length < HEADER_BYTES) {
    const there = length === 0 ? "no bytes" : `only ${length} bytes`;
    throw new UsageError(`line ${line}: ${address} has ${there}, and a header has ${HEADER_BYTES}`, {
      hint: "lspci prints the bytes with -x (64), -xxx (256) or -xxxx (4096)",
    });
  }
  return { address, line, config: new ConfigSpace(bytes.slice(0, length)) };
}
