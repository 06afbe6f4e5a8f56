/**
 * Two traces side by side: the first access where they part.
 *
 * Compared is what a driver does, and what the device answers: register accesses, interrupts that are wired, resets. Times and interrupts that come are
 * not; a read again and again of one register that says the same is one read; and addresses of DMA memory are the same when they are of memory that
 * stands for the other's, however far apart they lie.
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { IRQ, REGION } from "../vfio/device.ts";
import {
  type AccessRecord,
  type IrqsRecord,
  isWord,
  type LifeRecord,
  type NumberedRecord,
} from "./records.ts";

/** What is compared. */
export type Step = (AccessRecord | IrqsRecord | LifeRecord) & { readonly line: number };

/** A mapping, by a name of its own. */
export interface NamedMapping {
  /** No other mapping, before or after, has it. */
  readonly id: number;
  /** First address. */
  readonly iova: bigint;
  /** Bytes. */
  readonly sizeBytes: number;
}

/** Two traces side by side. */
export interface TraceComparison {
  /** Steps that agree, from the first on. */
  readonly same: number;
  /** Those of the one. */
  readonly agreed: readonly Step[];
  /** Where they part; a step that is undefined: that trace is at its end. Absent: nowhere. */
  readonly difference?: { readonly one: Step | undefined; readonly other: Step | undefined };
}

/** What a driver of one function did, without repetitions of a read. Whole looks at configuration space are none of its accesses. */
export function stepsOf(records: readonly NumberedRecord[], device: number): Step[] {
  const steps: Step[] = [];
  for (const record of records) {
    if (record.device !== device) continue;
    const isAccess = record.kind === "read" || record.kind === "write" || record.kind === "doorbell";
    if (isAccess ? !isWord(record.width) : record.kind !== "irqs" && record.kind !== "reset") continue;
    if (record.kind === "irqs" && isHousekeeping(record.index)) continue;
    const last = steps.at(-1);
    if (
      record.kind === "read" && last?.kind === "read" && samePlace(last, record) &&
      last.value === record.value
    ) continue;
    steps.push(record as Step);
  }
  return steps;
}

/** Whether an interrupt is of those that tell of removal and errors: who opened the function listens for them, no driver does. */
export function isHousekeeping(index: number): boolean {
  return index === IRQ.error || index === IRQ.request;
}

/** Whether two steps are of one kind and place. A doorbell is a write. */
export function samePlace(one: Step, other: Step): boolean {
  const kind = ({ kind }: Step) => kind === "doorbell" ? "write" : kind;
  if (kind(one) !== kind(other)) return false;
  if ("region" in one && "region" in other) {
    return one.region === other.region && one.offset === other.offset && one.width === other.width;
  }
  if (one.kind === "irqs" && other.kind === "irqs") {
    return one.index === other.index && one.action === other.action && one.start === other.start &&
      one.count === other.count;
  }
  return true;
}

/** A place in a mapping that a write points to: all of its address, or the upper half. */
interface Pointed {
  readonly id: number;
  readonly at: bigint | "upper";
}

/** Where a write points to. A 64-bit register that is written in halves is known by its lower one, which is written first. */
export function pointedTo(
  step: Step,
  before: Step | undefined,
  mappings: readonly NamedMapping[],
): Pointed | undefined {
  if (step.kind !== "write" || step.width < 4) return undefined;
  const value = BigInt(step.value);
  if (
    before?.kind === "write" && before.region === step.region && before.width === 4 &&
    before.offset + 4 === step.offset
  ) {
    const lower = pointedTo(before, undefined, mappings);
    const memory = mappings.find(({ id }) => id === lower?.id);
    if (memory !== undefined && memory.iova >> 32n === value) return { id: memory.id, at: "upper" };
  }
  for (const { id, iova, sizeBytes } of mappings) {
    const start = step.width === 8 ? iova : iova & 0xffff_ffffn;
    if (value >= start && value < start + BigInt(sizeBytes)) return { id, at: value - start };
  }
  return undefined;
}

/** Which memory of the one stands for which of the other, as their writes have shown. */
export class MappingPairs {
  readonly #byOne = new Map<number, number>();
  readonly #byOther = new Map<number, number>();

  /** Whether both point to the same place of memory that may be the same; it is from now on. */
  same(one: Pointed | undefined, other: Pointed | undefined): boolean {
    if (one === undefined || other === undefined || one.at !== other.at) return false;
    if ((this.#byOne.get(one.id) ?? other.id) !== other.id) return false;
    if ((this.#byOther.get(other.id) ?? one.id) !== one.id) return false;
    this.#byOne.set(one.id, other.id);
    this.#byOther.set(other.id, one.id);
    return true;
  }
}

/** The mappings of a function, as they are when a line is reached; lines must not go backwards. */
export class MappingsAt {
  readonly #records: readonly NumberedRecord[];
  readonly #device: number;
  #next = 0;
  #live: NamedMapping[] = [];

  /** Nothing is mapped yet. */
  constructor(records: readonly NumberedRecord[], device: number) {
    this.#records = records;
    this.#device = device;
  }

  /** What is mapped before that line. */
  before(line: number): readonly NamedMapping[] {
    for (; (this.#records[this.#next]?.line ?? Infinity) < line; this.#next++) {
      const record = this.#records[this.#next]!;
      if (record.device !== this.#device || (record.kind !== "map" && record.kind !== "unmap")) continue;
      const iova = BigInt(record.iova);
      this.#live = this.#live.filter((one) => one.iova !== iova);
      if (record.kind === "map") this.#live.push({ id: record.line, iova, sizeBytes: record.sizeBytes });
    }
    return this.#live;
  }
}

/**
 * Compares what was done to two functions. Beside a trace of mmiotrace only accesses to BARs are: it has no others.
 * @param functions which one of each trace
 */
export function compareTraces(
  one: readonly NumberedRecord[],
  other: readonly NumberedRecord[],
  functions: readonly [number, number] = [0, 0],
): TraceComparison {
  requireType(one, "array", "compareTraces: one");
  requireType(other, "array", "compareTraces: other");
  requireType(functions, "array", "compareTraces: functions");
  return typedCall("compareTraces", [one, other, functions], () => compared(one, other, functions));
}

function compared(
  one: readonly NumberedRecord[],
  other: readonly NumberedRecord[],
  functions: readonly [number, number],
): TraceComparison {
  const onlyBars = [one, other].some((records) =>
    records.some((record) => record.kind === "open" && record.path === "mmiotrace")
  );
  const isCompared = (step: Step) => !onlyBars || ("region" in step && step.region <= REGION.bar5);
  const ours = stepsOf(one, functions[0]).filter(isCompared),
    theirs = stepsOf(other, functions[1]).filter(isCompared);
  const maps = [new MappingsAt(one, functions[0]), new MappingsAt(other, functions[1])] as const;
  const pairs = new MappingPairs();
  for (let at = 0; at < Math.max(ours.length, theirs.length); at++) {
    const [a, b] = [ours[at], theirs[at]];
    const parted = { same: at, agreed: ours.slice(0, at), difference: { one: a, other: b } };
    if (a === undefined || b === undefined || !samePlace(a, b)) return parted;
    const mapped = [maps[0].before(a.line), maps[1].before(b.line)] as const;
    // A number that is the same need not be an address.
    if (!("value" in a) || !("value" in b) || a.value === b.value) continue;
    if (pairs.same(pointedTo(a, ours[at - 1], mapped[0]), pointedTo(b, theirs[at - 1], mapped[1]))) continue;
    return parted;
  }
  return { same: ours.length, agreed: ours };
}
