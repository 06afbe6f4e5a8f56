/**
 * Bytes that a command reads from a device: in hexadecimal, in JSON, or raw in a file or on standard output.
 *
 * @module
 */
import { NewFile, SyscallError, writeAll } from "../ffi/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import { hexText, jsonText, print, remark } from "./output.ts";

const LINE_BYTES = 32;
const MOST_JSON_BYTES = 16 << 20;

/** How bytes are to be shown. */
export interface RawOptions {
  readonly json: boolean;
  /** File; `-` is standard output. */
  readonly output?: string | undefined;
}

/** Who reads our pipe has seen enough, as with `| head`. */
export function readerLeft(error: unknown, path: string | undefined): boolean {
  return path === "-" && error instanceof SyscallError && error.code === "EPIPE";
}

/** Where the bytes go. */
export class RawOutput implements Disposable {
  readonly #options: RawOptions;
  /** Opened when there is something to put into it. */
  #file: NewFile | undefined;
  #hex = "";

  /** @param what of it there is so much, for messages @throws UsageError */
  constructor(options: RawOptions, bytes: number, what: string) {
    const { json, output } = options;
    if (json && output === undefined && bytes > MOST_JSON_BYTES) {
      throw new UsageError(`${what} as JSON: at most ${MOST_JSON_BYTES} bytes`, {
        hint: "write them to a file: --output FILE",
      });
    }
    this.#options = options;
  }

  /** A bar would stand between the lines. */
  get quiet(): boolean {
    return this.#options.json || this.#options.output === undefined;
  }

  /** Puts them where they go. @param offset of the first byte, printed before each line; undefined: none is */
  write(bytes: Uint8Array<ArrayBuffer>, offset?: number): void {
    const { json, output } = this.#options;
    if (output !== undefined) writeAll((this.#file ??= new NewFile(output, 0o600)).fd, bytes);
    else if (json) this.#hex += hexText(bytes);
    else {
      for (let at = 0; at < bytes.length; at += LINE_BYTES) {
        const place = offset === undefined ? "" : `${(offset + at).toString(16).padStart(10, "0")}  `;
        print(`${place}${hexText(bytes.subarray(at, at + LINE_BYTES))}`);
      }
    }
  }

  /** All is written: keeps the file. What there is to be said. Bytes on standard output leave standard error for it. */
  tell(facts: Readonly<Record<string, unknown>>, count: string): void {
    const { json, output } = this.#options;
    this.#file?.keep();
    if (json) {
      const result = jsonText({ ...facts, ...(output === undefined ? { hex: this.#hex } : { output }) });
      (output === "-" ? remark : print)(result);
    } else if (this.#file !== undefined) remark(`${count} in ${this.#file.path}`);
  }

  [Symbol.dispose](): void {
    this.#file?.[Symbol.dispose]();
  }
}
