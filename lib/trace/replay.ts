/**
 * A recorded function, served again: its registers answer as they did, to a driver that does what the recorded one did.
 *
 * What the device wrote to memory is not in a trace, so a driver gets as far as it needs nothing from there: through a bring-up, and on without limit
 * where it works by registers and interrupts alone.
 *
 * @module
 */
import { type EventFd, waitReady } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { RingsideError, UsageError } from "../errors/mod.ts";
import type { DmaTable } from "../sockets/dma_table.ts";
import {
  type ServedDevice,
  type ServedIrqRequest,
  type ServedRegion,
  VfioUserServer,
} from "../sockets/vfio_user/mod.ts";
import { type IrqInfo, REGION, type VfioDeviceInfo } from "../vfio/device.ts";
import {
  isHousekeeping,
  MappingPairs,
  MappingsAt,
  type NamedMapping,
  pointedTo,
  samePlace,
  type Step,
  stepsOf,
} from "./compare.ts";
import { isWord, type NumberedRecord, type OpenRecord, valueBytes, valueText } from "./records.ts";

/** An access that is not the recorded one. All later ones are refused with it, too. */
export class ReplayError extends RingsideError {
  /** Name of the error type. */
  override name = "ReplayError";
  /** Line of the record that was expected; undefined: the trace was at its end. */
  readonly line: number | undefined;

  /** Made by `Replay`. @param line of the record that was expected */
  constructor(message: string, line: number | undefined) {
    super(message, { hint: "the driver does something else than the recorded one did" });
    this.line = line;
  }
}

/** How a step is told: the caller knows names of registers. */
export type StepText = (step: Step) => string;

/** What became of a replay. */
export interface ReplayReport {
  /** Steps of the trace that the driver made. */
  readonly done: number;
  /** Steps that the trace has. */
  readonly steps: number;
  /** Line of the last record that was made; undefined: none was. */
  readonly lastLine: number | undefined;
  /** Where the driver went another way. */
  readonly difference: ReplayError | undefined;
}

/** See the module. A driver that comes anew begins at the first record again. */
export class Replay implements ServedDevice {
  static {
    typedErrors(this);
  }

  /** The recorded function's. */
  readonly name: string;
  /** The same. */
  readonly info: VfioDeviceInfo;
  readonly #open: OpenRecord;
  readonly #config: Uint8Array;
  readonly #records: readonly NumberedRecord[];
  readonly #steps: readonly Step[];
  readonly #text: StepText;
  readonly #eventFds = new Map<string, EventFd>();
  /** Mappings that have come, by IOVA. */
  readonly #ids = new Map<bigint, number>();
  #nextId = 0;
  #dma: DmaTable | null = null;
  #next = 0;
  #came: Step | undefined;
  #mappings: MappingsAt;
  #pairs = new MappingPairs();
  #difference: ReplayError | undefined;

  /** Stands at the first record. @param records of a whole trace @param device which function of it @throws UsageError when it has no such, or it was none of VFIO's */
  constructor(records: readonly NumberedRecord[], device: number, text: StepText) {
    requireType(records, "array", "new Replay: records");
    requireType(device, "number", "new Replay: device");
    requireType(text, "function", "new Replay: text");
    const open = records.find((one) => one.kind === "open" && one.device === device);
    if (open?.kind !== "open") throw new UsageError(`the trace has no function ${device}`);
    if (open.path === "mmiotrace") {
      throw new UsageError("a trace of mmiotrace cannot be replayed: it has no configuration space", {
        hint: "record one with --trace",
      });
    }
    this.#open = open;
    this.name = open.name;
    this.info = { flags: open.flags, numRegions: open.regions.length, numIrqs: open.irqs.length };
    this.#config = Uint8Array.from(open.config.match(/../g) ?? [], (pair) => parseInt(pair, 16));
    this.#records = records;
    this.#steps = stepsOf(records, device);
    this.#text = text;
    this.#mappings = new MappingsAt(records, device);
  }

  /** How far it is. */
  get report(): ReplayReport {
    const lastLine = this.#steps[this.#next - 1]?.line;
    return { done: this.#next, steps: this.#steps.length, lastLine, difference: this.#difference };
  }

  region(index: number): ServedRegion {
    return { index, ...this.#open.regions[index]!, mmapAreas: [], msixMappable: false };
  }

  irq(index: number): IrqInfo {
    return { index, ...this.#open.irqs[index]! };
  }

  doorbells(): readonly [] {
    return [];
  }

  readRegion(index: number, offset: number, into: Uint8Array): void {
    const width = into.length;
    if (!isWord(width)) {
      // A look at all of configuration space; of a BAR there are no such accesses.
      into.fill(0);
      if (index === REGION.config) into.set(this.#config.subarray(offset, offset + width));
      return;
    }
    const came = {
      kind: "read",
      region: index,
      offset,
      width,
      value: "",
      us: 0,
      device: 0,
      line: 0,
    } as const;
    const last = this.#steps[this.#next - 1];
    const expected = this.#steps[this.#next];
    // One that is read again and again may be read more often than it was.
    const again = last?.kind === "read" && samePlace(last, came) &&
      (expected === undefined || !samePlace(expected, came));
    const step = again && this.#difference === undefined ? last : this.#follow(came);
    if ("error" in step && step.error !== undefined) {
      throw new UsageError(`it failed when it was recorded: ${step.error}`);
    }
    if ("value" in step) into.set(valueBytes(step));
  }

  writeRegion(index: number, offset: number, from: Uint8Array): void {
    if (!isWord(from.length)) return;
    const width = from.length;
    this.#follow({
      kind: "write",
      region: index,
      offset,
      width,
      value: valueText(from),
      us: 0,
      device: 0,
      line: 0,
    });
  }

  setIrqs(index: number, request: ServedIrqRequest): void {
    const { action } = request;
    const start = "start" in request ? request.start : 0;
    const eventFds = action === "trigger"
      ? request.eventFds
      : action === "unmask-on"
      ? [request.eventFd]
      : [];
    const count = "count" in request ? request.count : eventFds.length;
    using taken = new DisposableStack();
    for (const one of eventFds) taken.use(one);
    if (isHousekeeping(index)) return;
    this.#follow({ kind: "irqs", index, action, start, count, us: 0, device: 0, line: 0 });
    if (action === "unmask-on") return;
    taken.move();
    for (let at = 0; action === "disable" ? at < this.#open.irqs[index]!.count : at < eventFds.length; at++) {
      const vector = `${index} ${start + at}`;
      this.#eventFds.get(vector)?.close();
      this.#eventFds.delete(vector);
      const eventFd = eventFds[at];
      if (eventFd) this.#eventFds.set(vector, eventFd);
    }
    this.#interrupt();
  }

  reset(): void {
    this.#follow({ kind: "reset", us: 0, device: 0, line: 0 });
  }

  attached(dma: DmaTable): void {
    this.#dma = dma;
    this.#next = 0;
    this.#came = undefined;
    this.#difference = undefined;
    this.#pairs = new MappingPairs();
    this.#mappings = new MappingsAt(this.#records, this.#open.device);
  }

  dmaWillUnmap(iova: bigint): void {
    this.#ids.delete(iova);
  }

  detached(): void {
    this.#dma = null;
    this.#ids.clear();
    for (const one of this.#eventFds.values()) one.close();
    this.#eventFds.clear();
  }

  /** The next step, which this one must be. @throws ReplayError */
  #follow(came: Step): Step {
    if (this.#difference !== undefined) throw this.#difference;
    const expected = this.#steps[this.#next];
    if (expected === undefined || !this.#isAs(expected, came)) {
      const line = expected?.line;
      const wanted = expected === undefined
        ? "the trace is at its end"
        : `record ${line} is ${this.#text(expected)}`;
      throw this.#difference = new ReplayError(`${wanted}; the driver did ${this.#text(came)}`, line);
    }
    this.#next++;
    this.#came = came;
    if (came.kind !== "irqs") this.#interrupt();
    return expected;
  }

  #isAs(expected: Step, came: Step): boolean {
    if (!samePlace(expected, came)) return false;
    if (came.kind !== "write" || !("value" in expected) || expected.value === came.value) return true;
    const one = pointedTo(
      { ...expected, kind: "write" },
      this.#steps[this.#next - 1],
      this.#mappings.before(expected.line),
    );
    return this.#pairs.same(one, pointedTo(came, this.#came, this.#mapped()));
  }

  #mapped(): NamedMapping[] {
    return (this.#dma?.regions ?? []).map(({ iova, sizeBytes }) => {
      const id = this.#ids.get(iova) ?? this.#nextId++;
      this.#ids.set(iova, id);
      return { id, iova, sizeBytes };
    });
  }

  /** Sends what came between the last step and the next one. */
  #interrupt(): void {
    const from = this.#steps[this.#next - 1]?.line ?? 0, to = this.#steps[this.#next]?.line ?? Infinity;
    for (const record of this.#records) {
      if (record.kind !== "interrupt" || record.device !== this.#open.device) continue;
      if (record.line <= from || record.line >= to) continue;
      const eventFd = this.#eventFds.get(`${record.index} ${record.vector}`);
      for (let count = 0; count < record.count; count++) eventFd?.signal();
    }
  }
}

/**
 * Serves a replay on a vfio-user socket, to one driver, until that has gone or `signal` is aborted. Who only looks at what there is is no driver.
 * @throws SyscallError for a path that cannot be
 */
export async function serveReplay(
  replay: Replay,
  path: string,
  signal?: AbortSignal,
  onReady?: () => void,
): Promise<ReplayReport> {
  requireType(replay, "object", "serveReplay: replay", "name", "readRegion", "report");
  requireType(path, "string", "serveReplay: path");
  let gone = false;
  using server = VfioUserServer.listen(path, replay, {
    watcher: { disconnecting: () => void (gone = replay.report.done > 0) },
  });
  onReady?.();
  for (let turned = 0; !gone && !signal?.aborted;) {
    if (waitReady(server.connectionFd ?? server.listenerFd, "readable", 20)) server.handleReadable();
    server.expire();
    if (performance.now() - turned < 50) continue;
    await new Promise((resolve) => setTimeout(resolve, 0));
    turned = performance.now();
  }
  return replay.report;
}
