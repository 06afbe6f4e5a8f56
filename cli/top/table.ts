/**
 * What `top` shows: of each function a line, and below it what it has done, in all and a second.
 *
 * @module
 */
import { bytesText } from "../output.ts";
import type { FunctionSample, Sample } from "./sample.ts";

/** A line; a count has its rate, where there was a look before. */
export interface TopLine {
  readonly kind: "function" | "count";
  readonly text: string;
}

const INDENT = 2;
const LABEL_COLUMNS = 14;
const NUMBER_COLUMNS = 14;

/** Lines of a look, and what was done since the one before it. @param columns lines are cut to */
export function topLines(now: Sample, before: Sample | undefined, columns = Infinity): TopLine[] {
  const seconds = before === undefined ? 0 : (now.time - before.time) / 1000;
  const earlier = new Map(before?.functions.map((one) => [one.function, one]));
  return now.functions.flatMap((one) => {
    const then = earlier.get(one.function);
    const counts = countsOf(one), counted = new Map(then === undefined ? [] : countsOf(then));
    return [
      { kind: "function" as const, text: cut(title(one), columns) },
      ...counts.map(([label, count]) => ({
        kind: "count" as const,
        text: cut(countLine(label, count, rate(count, counted.get(label), seconds)), columns),
      })),
    ];
  });
}

/** The head of the numbers. */
export function topHead(): string {
  return `${" ".repeat(INDENT)}${"".padEnd(LABEL_COLUMNS)}${"IN ALL".padStart(NUMBER_COLUMNS)}${
    "A SECOND".padStart(NUMBER_COLUMNS)
  }`;
}

function title({ function: address, name, driver, holder }: FunctionSample): string {
  const state = holder === null ? `on ${driver ?? "no driver"}, free` : `held by ${holder}`;
  return `${address}  ${name}  ${state}`;
}

type Count = readonly [label: string, count: { readonly value: number; readonly isBytes?: true }];

function countsOf({ queues, interrupts, network }: FunctionSample): Count[] {
  return [
    ...queues.map(({ queue, taken }): Count => [`queue ${queue}`, { value: taken }]),
    ...Object.entries(interrupts).map(([name, value]): Count => [name, { value }]),
    ...(network === null || Object.values(network).every((one) => one === 0) ? [] : [
      ["frames sent", { value: network.framesIn }],
      ["bytes sent", { value: network.bytesIn, isBytes: true }],
      ["frames got", { value: network.framesOut }],
      ["bytes got", { value: network.bytesOut, isBytes: true }],
      ...(network.dropped === 0 ? [] : [["frames lost", { value: network.dropped }] as const]),
    ] as Count[]),
  ];
}

/** A count that went down began anew: what it is now came since then. */
function rate(now: Count[1], then: Count[1] | undefined, seconds: number): number | undefined {
  if (seconds <= 0) return undefined;
  const before = then === undefined || then.value > now.value ? 0 : then.value;
  return (now.value - before) / seconds;
}

function countLine(label: string, count: Count[1], perSecond: number | undefined): string {
  const shown = (value: number) =>
    count.isBytes ? bytesText(Math.round(value)) : Math.round(value).toLocaleString("en");
  const second = perSecond === undefined ? "-" : shown(perSecond);
  return `${" ".repeat(INDENT)}${label.padEnd(LABEL_COLUMNS)}${shown(count.value).padStart(NUMBER_COLUMNS)}${
    second.padStart(NUMBER_COLUMNS)
  }`;
}

/** A line of no more than so many columns. */
export function cut(line: string, columns: number = Infinity): string {
  return line.length > columns ? `${line.slice(0, columns - 1)}…` : line;
}
