/**
 * `ringside ism FUNCTION attach TOKEN`
 *
 * @module
 */
import type { IsmRegion } from "../../drivers/ism/virtio_ism.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { interruption } from "../interruption.ts";
import { hexText, jsonText, print, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { holdText } from "./alloc.ts";
import { rightsOf } from "./grant.ts";
import { hold } from "./holding.ts";
import { openIsm } from "./opening.ts";
import { permissionNames } from "./permissions.ts";
import { regionReport, regionText } from "./region_report.ts";
import { tokenText } from "./token.ts";

const LINE_BYTES = 16;
const PIECE_BYTES = 64 << 10;
const MOST_JSON_BYTES = 16 << 20;

/** Attaches a region and shows it. @returns the exit status */
export async function ismAttach(host: Host, options: Of<"ism attach">): Promise<number> {
  const { token, read, write, json } = options;
  if (json && (options.dump ?? 0) > MOST_JSON_BYTES) {
    throw new UsageError(`${options.dump} bytes as JSON: at most ${MOST_JSON_BYTES}`);
  }
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  const { permissions } = await ism.query(token);
  const region = await ism.attach(token, read || write ? { read, write } : rightsOf(permissions));
  const holds = options.hold || options.shell;
  const dumped = Math.min(options.dump ?? 0, region.sizeBytes);
  if (json) {
    const report = {
      function: ism.transport.name,
      ...regionReport(region, ism.info),
      permissions: permissionNames(permissions),
      ...(options.dump === undefined ? {} : { hex: hexText(bytesOf(region, 0, dumped)) }),
    };
    print(jsonText(report, holds ? 0 : 2));
  } else {
    print(`${tokenText(region.token)}: ${regionText(region, ism.info)}`);
    dump(region, dumped, stop.signal);
  }
  if (!holds) return 0;
  if (!json) remark(holdText(options.shell));
  return await hold(ism, stop, { json, ...(options.shell ? { shell: region } : {}) });
}

function bytesOf(region: IsmRegion, offset: number, count: number): Uint8Array {
  const bytes = new Uint8Array(count);
  region.read(offset, bytes);
  return bytes;
}

function dump(region: IsmRegion, count: number, signal: AbortSignal): void {
  for (let done = 0; done < count; done += PIECE_BYTES) {
    signal.throwIfAborted();
    const bytes = bytesOf(region, done, Math.min(PIECE_BYTES, count - done));
    for (let at = 0; at < bytes.length; at += LINE_BYTES) {
      printLine(done + at, bytes.subarray(at, at + LINE_BYTES));
    }
  }
}

/** `00000010  68 65 6c 6c 6f …  |hello…|`, as `hexdump -C` prints it. */
function printLine(offset: number, bytes: Uint8Array): void {
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const text = String.fromCharCode(...bytes).replace(/[^ -~]/g, ".");
  print(`${offset.toString(16).padStart(8, "0")}  ${digits.padEnd(LINE_BYTES * 3 - 1)}  |${text}|`);
}
