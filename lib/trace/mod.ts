/**
 * What a driver does to a function: recorded (`traced` stands before a device, and tells a sink of each register access, interrupt and DMA mapping),
 * read (`readTrace`; also what Linux's mmiotrace wrote), compared (`compareTraces`) and served again (`Replay`).
 *
 * ```ts
 * import { openHost } from "@ringside/ringside/host";
 * import { traced, type TraceRecord } from "@ringside/ringside/trace";
 *
 * using host = openHost("linux");
 * const records: TraceRecord[] = [];
 * using device = traced(host.open("01:00.0"), (record) => records.push(record));
 * ```
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { isMmiotrace, parseMmiotrace } from "./mmiotrace.ts";
import { type NumberedRecord, parseTrace } from "./records.ts";

export { compareTraces, type Step, type TraceComparison } from "./compare.ts";
export { type DecodedRecord, TraceDecoder } from "./decode.ts";
export {
  type AccessRecord,
  type DmaRecord,
  type InterruptRecord,
  type IrqsRecord,
  type LifeRecord,
  type MarkRecord,
  type NumberedRecord,
  type OpenRecord,
  parseTrace,
  traceHeader,
  traceLine,
  type TraceMoment,
  type TraceRecord,
  type TraceSink,
} from "./records.ts";
export { Replay, ReplayError, type ReplayReport, serveReplay, type StepText } from "./replay.ts";
export { traced } from "./traced.ts";
export type { RegisterSet } from "../virtio/function_registers.ts";

/** Reads the text of a trace, of this library or of mmiotrace. @throws InputError */
export function readTrace(text: string): NumberedRecord[] {
  requireType(text, "string", "readTrace: text");
  return isMmiotrace(text) ? parseMmiotrace(text) : parseTrace(text);
}
