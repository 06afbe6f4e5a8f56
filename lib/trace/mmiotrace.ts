/**
 * Traces of Linux's mmiotrace (Documentation/trace/mmiotrace.rst), as text of `trace_pipe`: what a driver of the kernel did to the BARs that it mapped.
 * It has no configuration space, no DMA, no interrupts.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { InputError } from "../errors/mod.ts";
import type { NumberedRecord, OpenRecord } from "./records.ts";

const BARS = 6;

/** A BAR of a function that is listed. */
interface Place {
  readonly device: number;
  readonly bar: number;
  readonly start: bigint;
  readonly end: bigint;
}

/** Whether a text is such a trace: its first line that says anything has the version. */
export function isMmiotrace(text: string): boolean {
  return /^(?:\s*#.*\n|\s*\n)*VERSION \d+/.test(text);
}

/**
 * Reads one. Functions are those with a driver that was seen in a BAR of theirs; what lies in no BAR is left out.
 * @throws InputError that names the line
 */
export function parseMmiotrace(text: string): NumberedRecord[] {
  requireType(text, "string", "parseMmiotrace: text");
  const listed: {
    readonly line: number;
    readonly open: Omit<OpenRecord, "device">;
    readonly starts: bigint[];
  }[] = [];
  const seen: { us: number; line: number; words: readonly string[]; text: string }[] = [];
  text.split("\n").forEach((content, at) => {
    const words = content.trim().split(/\s+/), line = at + 1;
    if (words[0] === "PCIDEV") listed.push({ line, ...functionOf(words, line) });
    const time = words[0] === "R" || words[0] === "W" ? words[2] : words[0] === "MARK" ? words[1] : undefined;
    if (time === undefined) return;
    const us = Math.round(Number(time) * 1e6);
    if (!(us >= 0)) {
      throw new InputError(`line ${line} of the mmiotrace has no time: ${content.slice(0, 80)}`);
    }
    seen.push({ us, line, words, text: content });
  });
  const begin = seen[0]?.us ?? 0;
  const places: Place[] = [];
  const opened: NumberedRecord[] = [];
  const records: NumberedRecord[] = [];
  const addresses = seen.map(({ words, line }) =>
    words[0] === "MARK" ? undefined : number(words[4], 16, line)
  );
  for (const { line, open, starts } of listed) {
    const bars = open.regions.slice(0, BARS).flatMap(({ sizeBytes }, bar) =>
      sizeBytes === 0 ? [] : [{ bar, start: starts[bar]!, end: starts[bar]! + BigInt(sizeBytes) }]
    );
    const touched = bars.some(({ start, end }) =>
      addresses.some((one) => one !== undefined && one >= start && one < end)
    );
    if (!touched) continue;
    const device = opened.length;
    opened.push({ ...open, device, line });
    places.push(...bars.map((bar) => ({ device, ...bar })));
  }
  seen.forEach(({ us, line, words, text: content }, at) => {
    const moment = { us: us - begin, line };
    const address = addresses[at];
    if (address === undefined) {
      const text = content.replace(/^\s*MARK\s+\S+\s*/, "");
      return void records.push({ ...moment, device: 0, kind: "mark", text });
    }
    const place = places.find(({ start, end }) => address >= start && address < end);
    if (place === undefined) return;
    const width = Number(number(words[1], 10, line));
    const value = number(words[5], 16, line).toString(16).padStart(2 * width, "0");
    records.push({
      ...moment,
      device: place.device,
      kind: words[0] === "R" ? "read" : "write",
      region: place.bar,
      offset: Number(address - place.start),
      width,
      value: `0x${value.slice(-2 * width)}`,
    });
  });
  return [...opened, ...records];
}

/** `PCIDEV 0018 1af41041 b fe000000 … (7 of them) 4000 … (7) virtio-pci` */
function functionOf(words: readonly string[], line: number) {
  if (words.length < 18) {
    throw new InputError(`line ${line} of the mmiotrace has no 14 resources of a function`);
  }
  const place = Number(number(words[1], 16, line));
  const part = (value: number, digits: number) => value.toString(16).padStart(digits, "0");
  const name = `0000:${part(place >> 8, 2)}:${part((place >> 3) & 31, 2)}.${place & 7}`;
  // The lowest bits of an address say what it is of.
  const starts = words.slice(4, 4 + BARS).map((one) => number(one, 16, line) & ~0xfn);
  const regions = words.slice(11, 11 + BARS).map((one) => {
    const sizeBytes = Number(number(one, 16, line));
    return { flags: sizeBytes === 0 ? 0 : 3, sizeBytes };
  });
  const open = {
    us: 0,
    kind: "open",
    name,
    path: "mmiotrace",
    flags: 2,
    regions,
    irqs: [],
    config: "",
  } as const;
  return { open, starts };
}

function number(text: string | undefined, base: 10 | 16, line: number): bigint {
  const digits = (text ?? "").replace(/^0x/, "");
  if ((base === 10 ? /^\d+$/ : /^[0-9a-f]+$/i).test(digits)) {
    return BigInt(base === 10 ? digits : `0x${digits}`);
  }
  throw new InputError(`line ${line} of the mmiotrace: ${JSON.stringify(text ?? "")} is no number`);
}
