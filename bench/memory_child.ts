/**
 * A driver process of its own, with the garbage collector as everybody has it: moves frames, and tells how its memory grew.
 *
 * `memory_child.ts DIRECTORY WARM-UP FRAMES DEVICE-PID` prints one line of JSON, a `MemoryReport`.
 *
 * @module
 */
import { processId } from "../ffi/mod.ts";
import { anonymousBytes, liveHeapBytes } from "./heap.ts";
import { FramePair } from "./frame_pair.ts";
import { useVfs } from "./opened_functions.ts";

/** Bytes of a process at one time. */
export interface MemoryState {
  /** Pages in memory that belong to this process alone. */
  readonly privateBytes: number;
  /** Live objects, after a collection. */
  readonly heapBytes: number;
}

/** What the process prints. */
export interface MemoryReport {
  readonly before: MemoryState;
  readonly after: MemoryState;
  /** The same of the emulated host: its heap is not known from here. */
  readonly deviceBefore: number;
  readonly deviceAfter: number;
}

const FRAME_BYTES = 1514;
const CHUNK = 20_000;

function memoryState(): MemoryState {
  return { heapBytes: liveHeapBytes(), privateBytes: anonymousBytes(processId()) };
}

async function move(pair: FramePair, template: Uint8Array, count: number): Promise<void> {
  for (let done = 0; done < count; done += CHUNK) {
    pair.oneWay(template, Math.min(CHUNK, count - done));
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

if (import.meta.main) {
  const [directory, warmUp, frames, devicePid] = Deno.args;
  await using stack = new AsyncDisposableStack();
  const polling = { interrupts: "none", wait: "poll" } as const;
  const [first, second] = await useVfs(stack, directory!, [polling, polling]);
  const pair = new FramePair(first!, second!);
  const template = pair.template(FRAME_BYTES);
  await move(pair, template, Number(warmUp));
  const before = memoryState();
  const deviceBefore = anonymousBytes(Number(devicePid));
  await move(pair, template, Number(frames));
  const report: MemoryReport = {
    before,
    deviceBefore,
    deviceAfter: anonymousBytes(Number(devicePid)),
    after: memoryState(),
  };
  console.log(JSON.stringify(report));
}
