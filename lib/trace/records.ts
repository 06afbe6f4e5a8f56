/**
 * A trace: what happened at an opened function, in order, and its file: JSON, a line a record. Record 1 is the first line, so that messages name
 * lines that an editor shows.
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { InputError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import type { VfioPath } from "../vfio/device.ts";

/** First line of a file. Readers refuse other versions. */
const HEADER = { ringsideTrace: 1 } as const;

/** What all records have. */
export interface TraceMoment {
  /** Microseconds since the trace began. */
  readonly us: number;
  /** Which function: they count from 0, in the order in which they were opened. */
  readonly device: number;
}

/** A function was opened. What is said here is what a replay serves. */
export interface OpenRecord extends TraceMoment {
  /** Which kind. */
  readonly kind: "open";
  /** Address. */
  readonly name: string;
  /** How it was reached; `mmiotrace`: by a driver of Linux. */
  readonly path: VfioPath | "mmiotrace";
  /** `DEVICE_FLAG` bits. */
  readonly flags: number;
  /** By index: `REGION_FLAG` bits and size. */
  readonly regions: readonly { readonly flags: number; readonly sizeBytes: number }[];
  /** By index: `IRQ_FLAG` bits and vectors. */
  readonly irqs: readonly { readonly flags: number; readonly count: number }[];
  /** Configuration space when it was opened, in hexadecimal; empty where there is none, or it is not known. */
  readonly config: string;
}

/** An access to a region. A doorbell is a write to a place that the driver asked for as a doorbell. */
export interface AccessRecord extends TraceMoment {
  /** Which kind. */
  readonly kind: "read" | "write" | "doorbell";
  /** `REGION` number. */
  readonly region: number;
  /** Bytes from its start. */
  readonly offset: number;
  /** Bytes. */
  readonly width: number;
  /** A number, `0x0f`, of 1, 2, 4 and 8 bytes; else the bytes in hexadecimal, the first one first. Empty of a read that failed. */
  readonly value: string;
  /** Why it failed. */
  readonly error?: string;
}

/** Interrupts were wired, turned off, masked, unmasked or raised by software. */
export interface IrqsRecord extends TraceMoment {
  /** Which kind. */
  readonly kind: "irqs";
  /** `IRQ` number. */
  readonly index: number;
  /** As `IrqRequest` has it. */
  readonly action: string;
  /** First vector; 0 of `disable`. */
  readonly start: number;
  /** Vectors; 0 of `disable`. */
  readonly count: number;
  /** Why it failed. */
  readonly error?: string;
}

/** The driver took interrupts from an eventfd: they came before. */
export interface InterruptRecord extends TraceMoment {
  /** Which kind. */
  readonly kind: "interrupt";
  /** `IRQ` number. */
  readonly index: number;
  /** Vector. */
  readonly vector: number;
  /** How many. */
  readonly count: number;
}

/** Memory was made reachable for the device, or taken away from it. */
export interface DmaRecord extends TraceMoment {
  /** Which kind. */
  readonly kind: "map" | "unmap";
  /** Address that the device uses, `0x1000`. */
  readonly iova: string;
  /** Bytes. */
  readonly sizeBytes: number;
  /** What it is for. */
  readonly label: string;
  /** Address space of the device beside its own; 0: its own. */
  readonly space: number;
}

/** The function was reset, or closed. */
export interface LifeRecord extends TraceMoment {
  /** Which kind. */
  readonly kind: "reset" | "close";
}

/** A remark in a trace of Linux. */
export interface MarkRecord extends TraceMoment {
  /** Which kind. */
  readonly kind: "mark";
  /** What it says. */
  readonly text: string;
}

/** One record. */
export type TraceRecord =
  | OpenRecord
  | AccessRecord
  | IrqsRecord
  | InterruptRecord
  | DmaRecord
  | LifeRecord
  | MarkRecord;

/** A record, and its line. */
export type NumberedRecord = TraceRecord & { readonly line: number };

/** Takes records as they happen. */
export type TraceSink = (record: TraceRecord) => void;

/** The line that a file begins with. */
export function traceHeader(start: Date = new Date()): string {
  return typedCall(
    "traceHeader",
    [start],
    () => `${JSON.stringify({ ...HEADER, start: start.toISOString() })}\n`,
  );
}

/** A record as a line. */
export function traceLine(record: TraceRecord): string {
  return typedCall("traceLine", [record], () => `${JSON.stringify(record)}\n`);
}

/** A value as records have it. */
export function valueText(bytes: Uint8Array): string {
  const digits = [...bytes].map((byte) => byte.toString(16).padStart(2, "0"));
  return isWord(bytes.length) ? `0x${digits.reverse().join("")}` : digits.join("");
}

/** The bytes of a value. */
export function valueBytes({ width, value }: Pick<AccessRecord, "width" | "value">): Uint8Array {
  const digits = (isWord(width) ? value.slice(2) : value).match(/../g) ?? [];
  const bytes = Uint8Array.from(digits, (pair) => parseInt(pair, 16));
  return isWord(width) ? bytes.reverse() : bytes;
}

/** Whether an access of so many bytes is one register. */
export function isWord(width: number): boolean {
  return width === 1 || width === 2 || width === 4 || width === 8;
}

const BYTES = /^([0-9a-f]{2})*$/;
const NUMBER = /^0x[0-9a-f]+$/;
const OF_ALL = { us: "number", device: "number" };
const ACCESS = { region: "number", offset: "number", width: "number", value: "string" };
const DMA = { iova: "string", sizeBytes: "number", label: "string", space: "number" };
/** What each kind has. */
const KINDS: Readonly<Record<TraceRecord["kind"], Readonly<Record<string, string>>>> = {
  open: {
    name: "string",
    path: "string",
    flags: "number",
    regions: "object",
    irqs: "object",
    config: "string",
  },
  read: ACCESS,
  write: ACCESS,
  doorbell: ACCESS,
  irqs: { index: "number", action: "string", start: "number", count: "number" },
  interrupt: { index: "number", vector: "number", count: "number" },
  map: DMA,
  unmap: DMA,
  reset: {},
  close: {},
  mark: { text: "string" },
};

/**
 * Reads a file's text. A last line that is cut, as a process that was killed may leave it, is left out.
 * @throws InputError that names the line
 */
export function parseTrace(text: string): NumberedRecord[] {
  requireType(text, "string", "parseTrace: text");
  const lines = text.split("\n");
  const records: NumberedRecord[] = [];
  const header = jsonOf(lines[0]!);
  if (header?.ringsideTrace !== HEADER.ringsideTrace) {
    const version = header?.ringsideTrace;
    throw new InputError(
      version === undefined
        ? 'it is no trace: it does not begin with {"ringsideTrace":1'
        : `it is a trace of version ${shown(version)}; this program reads version ${HEADER.ringsideTrace}`,
    );
  }
  // Behind the last line end there is nothing, or a line that is cut.
  for (let at = 1; at < lines.length - 1; at++) {
    records.push(checked(jsonOf(lines[at]!), at + 1, records));
  }
  return records;
}

function jsonOf(line: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : undefined;
  } catch {
    return undefined;
  }
}

function checked(
  value: Record<string, unknown> | undefined,
  line: number,
  before: readonly NumberedRecord[],
): NumberedRecord {
  const wrong = (why: string) => new InputError(`line ${line} of the trace ${why}`);
  if (value === undefined) throw wrong("is no object of JSON");
  const kind = String(value.kind);
  if (!Object.hasOwn(KINDS, kind)) throw wrong(`is of no known kind: ${shown(value.kind)}`);
  for (const [name, type] of Object.entries({ ...OF_ALL, ...KINDS[kind as TraceRecord["kind"]] })) {
    const found = value[name];
    if (typeof found !== type || found === null || (type === "number" && !(Number(found) >= 0))) {
      throw wrong(`(${kind}) has ${name}: ${shown(found)}`);
    }
  }
  const record = { ...value, line } as unknown as NumberedRecord;
  const opened = before.filter((one) => one.kind === "open").length;
  if (record.kind === "open" ? record.device !== opened : record.device >= Math.max(opened, 1)) {
    throw wrong(`is about function ${record.device}, and ${opened} were opened`);
  }
  if (record.kind === "open") checkOpen(record, wrong);
  if ("value" in record && record.error === undefined) {
    const { width, value: text } = record;
    const sound = isWord(width)
      ? NUMBER.test(text) && text.length === 2 + 2 * width
      : BYTES.test(text) && text.length === 2 * width;
    if (!sound) throw wrong(`has a value of ${shown(width)} bytes that is ${shown(text)}`);
  }
  if ("iova" in record && !NUMBER.test(record.iova)) throw wrong(`has iova: ${shown(record.iova)}`);
  return record;
}

function checkOpen({ regions, irqs, config }: OpenRecord, wrong: (why: string) => InputError): void {
  const sound = (list: unknown, name: string) =>
    Array.isArray(list) && list.every((one) => Number.isSafeInteger(one?.flags) && Number(one[name]) >= 0);
  if (!sound(regions, "sizeBytes")) throw wrong("has regions that are none");
  if (!sound(irqs, "count")) throw wrong("has interrupts that are none");
  if (!BYTES.test(config)) throw wrong("has a configuration space that is not hexadecimal");
}
