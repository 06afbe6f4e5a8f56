/**
 * What a benchmark has found.
 *
 * @module
 */

/** How answers are seen: by looking all the time, or by sleeping until an interrupt. */
export type Way = "polled" | "interrupt";

/** One load and what was measured of it. */
export interface Point {
  readonly way: Way;
  /** Depth or burst. */
  readonly each: number;
  readonly milliseconds: number;
  /** Requests or frames that were done. */
  readonly count: number;
  readonly perSecond: number;
  readonly bytesPerSecond: number;
  /** From when one was given to the device until it was seen to be done. */
  readonly microseconds: {
    readonly p50: number;
    readonly p90: number;
    readonly p99: number;
    readonly p999: number;
    readonly max: number;
  };
  /** What else was counted. */
  readonly counts: Readonly<Record<string, number>>;
}

/** Points, and what they have in common. */
export interface Report {
  /** `0000:03:00.0: random reads of 4096 bytes` */
  readonly title: string;
  /** How it was measured. */
  readonly note: string;
  /** What differs from point to point. */
  readonly each: "depth" | "burst";
  /** What is counted. */
  readonly what: "requests" | "frames";
  readonly points: readonly Point[];
  /** The JSON object, but for the points. */
  readonly facts: Readonly<Record<string, unknown>>;
  readonly interrupted: boolean;
}

/** A time with the digits that matter. */
export function timeText(microseconds: number): string {
  if (Number.isNaN(microseconds)) return "-";
  return microseconds.toFixed(microseconds >= 100 ? 0 : microseconds >= 10 ? 1 : 2);
}
