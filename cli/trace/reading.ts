/**
 * What the `trace` commands share: files read, records decoded.
 *
 * @module
 */
import { readText } from "../../ffi/mod.ts";
import { parseRegisters } from "../../lib/registers/mod.ts";
import { type NumberedRecord, readTrace, type RegisterSet, TraceDecoder } from "../../lib/trace/mod.ts";
import { driverSets } from "../driver_tables.ts";
import { ofFile } from "../json_file.ts";
import type { Of } from "../parser.ts";

type Tables = Pick<Of<"trace show">, "table" | "bar">;

/** Reads a file. @throws InputError for one that is no trace, SyscallError */
export function readTraceFile(path: string): NumberedRecord[] {
  return ofFile(path, () => readTrace(readText(path)));
}

/** A decoder that knows what `--table` gives, and the tables of drivers. @throws UsageError, SyscallError */
export function decoderWith({ table, bar }: Tables): TraceDecoder {
  const given: RegisterSet[] = table === undefined ? [] : [{
    name: "table",
    region: bar,
    offset: 0,
    lengthBytes: Infinity,
    table: ofFile(table, () => parseRegisters(readText(table))),
  }];
  return new TraceDecoder(({ config }) => {
    // A trace of mmiotrace has no configuration space.
    const ids = Uint8Array.from(config.slice(0, 8).match(/../g) ?? [], (pair) => parseInt(pair, 16));
    const [vendorId = 0, deviceId = 0] = new Uint16Array(ids.buffer, 0, ids.length >> 1);
    return [...given, ...driverSets({ vendorId, deviceId })];
  });
}

/** A record and what is said of it. */
export interface ShownRecord {
  readonly record: NumberedRecord;
  readonly where: string;
  readonly what: string;
}

/** All records of a trace, decoded. @param other whose functions are known, in the same order, for a trace that does not say what its own are */
export function decoded(
  records: readonly NumberedRecord[],
  tables: Tables,
  other: readonly NumberedRecord[] = [],
): ShownRecord[] {
  const decoder = decoderWith(tables);
  return records.map((record) => {
    const known = record.kind === "open" && record.config === ""
      ? other.find((one) => one.kind === "open" && one.device === record.device)
      : undefined;
    if (known?.kind === "open") decoder.decode(known);
    const shown = known === undefined ? decoder.decode(record) : { where: nameOf(record), what: "" };
    return { record, ...shown };
  });
}

function nameOf(record: NumberedRecord): string {
  return record.kind === "open" ? record.name : "";
}
