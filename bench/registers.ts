/**
 * What it costs that a register read is always made: `Bar` beside a plain load of the same memory.
 *
 * @module
 */
import { createMemfd, MappedMemory, O, OwnedFd, pageSizeBytes, writeAll } from "../ffi/mod.ts";
import { traced, traceLine, type TraceSink } from "../lib/trace/mod.ts";
import { Bar, REGION_FLAG, type VfioDevice } from "../lib/vfio/mod.ts";
import { type BenchRun, rate } from "./bench_run.ts";
import { beside, withNanoseconds } from "./in_turn.ts";
import type { Figure, Section } from "./report.ts";

/** Measures loads of ordinary memory: a device's answer over PCI Express takes about a microsecond more. */
export async function benchRegisters(run: BenchRun): Promise<Section[]> {
  using file = createMemfd("registers", pageSizeBytes);
  using memory = MappedMemory.map(file, pageSizeBytes);
  const area = { offset: 0, sizeBytes: pageSizeBytes };
  const flags = REGION_FLAG.read | REGION_FLAG.write;
  const unmapped = () => {
    throw new Error("all of it is mapped");
  };
  using bar = new Bar(
    {
      name: "memory",
      closed: false,
      regionInfo: (index: number) => ({ ...area, index, flags, mmapAreas: [area], msixMappable: false }),
      mapRegion: () => MappedMemory.map(file, pageSizeBytes),
      readRegion: unmapped,
      writeRegion: unmapped,
    } as Partial<VfioDevice> as VfioDevice,
    0,
  );
  const words = new Uint32Array(memory.buffer);
  const ways: Readonly<Record<string, () => number | bigint>> = {
    "read8": () => bar.read8(0),
    "read16": () => bar.read16(0),
    "read32": () => bar.read32(0),
    "read64": () => bar.read64(0),
  };
  const count = run.pick(1 << 21, 1 << 17);
  const figures: Figure[] = [];
  for (const [name, read] of Object.entries(ways)) {
    // Compiled anew for each, so that V8 sees one target, as in a driver.
    const made = new Function("read", "n", "let last; while (n-- > 0) last = read(); return last;");
    const plain = new Function(
      "words",
      "n",
      "let sum = 0; while (n-- > 0) sum += words[n & 15]; return sum;",
    );
    const works = {
      read: () => rate(count, () => made(read, count)),
      "plain load": () => rate(count, () => plain(words, count)),
    };
    const how = { count: run.pick(7, 3), warmUps: 0 };
    figures.push(withNanoseconds(await beside(run, name, "per second", works, how)));
  }
  return [{
    title: "Register reads, mapped",
    figures,
    notes: [
      "Bar looks the place up and loads it with Atomics.load; plain load: words[n], with nothing looked up or checked",
    ],
  }, await tracedReads(run, bar)];
}

/** A traced function has its registers by call; so the calls alone stand beside it, and what a function that is not traced does. */
async function tracedReads(run: BenchRun, mapped: Bar): Promise<Section> {
  const device = {
    name: "memory",
    path: "group",
    closed: false,
    info: { flags: 0, numRegions: 1, numIrqs: 0 },
    dma: {} as VfioDevice["dma"],
    regionInfo: (index: number) => {
      const flags = REGION_FLAG.read | REGION_FLAG.write;
      return { index, flags, sizeBytes: pageSizeBytes, mmapAreas: [], msixMappable: false };
    },
    readRegion: (_index: number, _offset: number, into: Uint8Array) => void into.fill(0),
    writeRegion: () => {},
  } as Partial<VfioDevice> as VfioDevice;
  let bytes = 0;
  using file = OwnedFd.open("/dev/null", O.WRONLY);
  const encoder = new TextEncoder();
  const barOf = (sink?: TraceSink) => new Bar(sink === undefined ? device : traced(device, sink), 0);
  using plain = barOf();
  using told = barOf((record) => void (bytes += traceLine(record).length));
  using written = barOf((record) => writeAll(file, encoder.encode(traceLine(record))));
  const count = run.pick(1 << 17, 1 << 13);
  const reads = (bar: Bar) => () => {
    const made = new Function("bar", "n", "let last; while (n-- > 0) last = bar.read32(0); return last;");
    return rate(count, () => made(bar, count));
  };
  const how = { count: run.pick(7, 3), warmUps: 1 };
  const works = {
    "to a file": reads(written),
    "by call, not traced": reads(plain),
    "mapped, not traced": reads(mapped),
  };
  const lines = { "to lines of text": reads(told), "by call, not traced": reads(plain) };
  return {
    title: "Register reads, traced",
    figures: [
      withNanoseconds(await beside(run, "traced, to a file", "per second", works, how)),
      withNanoseconds(await beside(run, "traced, to lines", "per second", lines, how)),
    ],
    notes: [
      "a trace is another object before the device: of one that is not traced nothing is added that could be measured",
    ],
  };
}
