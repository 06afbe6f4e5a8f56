/**
 * A command from the moment it was asked for until it is answered or given up.
 *
 * @module
 */
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import type { BufferPool } from "../queue/buffer_pool.ts";

/** One descriptor. */
const WHOLE: readonly number[] = [];

/** See the module's text. */
export abstract class Command {
  /** Commands of one line keep their order. */
  readonly line: string;
  /** Goes alone: nothing else may be outstanding. */
  readonly alone: boolean;
  /** Nothing is sent: it has its result when nothing is outstanding, and holds the others back until it is released. */
  readonly quiet: boolean;
  /** How long it may take. */
  readonly timeoutMs: number;
  /** Bytes that the device reads. */
  readonly readableBytes: number;
  /** Bytes that the device writes. */
  readonly writableBytes: number;
  /** Where in the readable bytes a descriptor ends, and then where the next one begins; and so on. */
  readonly readableCuts: readonly number[];
  /** The same of the writable bytes. */
  readonly writableCuts: readonly number[];
  /** Order in which they were asked for. */
  sequence = 0;
  /** As of `performance.now()`. */
  deadline = Infinity;
  /** How often the device had come back when its time began (`DeviceAbsence.returns`). */
  returns = 0;
  /** Times it was sent. */
  attempts = 0;
  /** Not to be sent again before this time. */
  notBefore = 0;
  /** Queue that it was sent on last. */
  queue: number | undefined;
  /** Where it lies, while the device has it: a slot of this pool, with the writable bytes from `writableAt` on. */
  pool: BufferPool | null = null;
  slot = 0;
  writableAt = 0;
  /** Number of its place; one with memory of its own holds one, too. */
  place = 0;
  /** The device has it. */
  sent = false;
  /** It waits in its line. */
  lined = false;
  /** Behind it in whatever it waits in. */
  next: this | null = null;
  /** It has its result; the device may still have it. */
  done = false;
  /** After failure. */
  error: unknown;
  /** Set when somebody awaits it. */
  resolve: ((outcome: unknown) => void) | undefined;
  reject: ((error: unknown) => void) | undefined;

  /** Not asked for yet. @param readableBytes 0: it only wants quiet */
  constructor(
    line: string,
    alone: boolean,
    timeoutMs: number,
    readableBytes: number,
    writableBytes: number,
    readableCuts: readonly number[] = WHOLE,
    writableCuts: readonly number[] = WHOLE,
  ) {
    this.line = line;
    this.alone = alone;
    this.quiet = readableBytes === 0;
    this.timeoutMs = timeoutMs;
    this.readableBytes = readableBytes;
    this.writableBytes = writableBytes;
    this.readableCuts = readableCuts;
    this.writableCuts = writableCuts;
  }

  /** Fills both parts in before it is sent, each time. */
  abstract encode(readable: Uint8Array, writable: Uint8Array): void;

  /** What whoever awaits it gets, after success. @throws what it comes to instead */
  outcome(): unknown {
    return undefined;
  }
}

/** @throws UsageError for what is no time in milliseconds; Infinity is one */
export function checkTimeout(timeoutMs: number): number {
  if (timeoutMs >= 0) return timeoutMs;
  throw new UsageError(`a timeout of ${shown(timeoutMs)} ms`);
}
