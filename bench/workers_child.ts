/**
 * A process of its own whose Workers are measured, since a Worker's module is read by the runtime, which asks for a permission.
 *
 * Its argument is a `WorkersRun` as JSON; it prints how much was done in a second.
 *
 * @module
 */
import { DeviceError } from "../lib/errors/mod.ts";
import { useVfs } from "./opened_functions.ts";
import type { WorkersResult, WorkersTask } from "./workers_worker.ts";

/** What to run. */
export interface WorkersRun {
  readonly workers: number;
  readonly milliseconds: number;
  /** Of an emulated host; without it rings with both their sides in each Worker. */
  readonly directory?: string;
}

async function work({ workers, milliseconds, directory }: WorkersRun): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const options = { queuePairs: workers, lentPairs: workers, interrupts: "none", wait: "poll" } as const;
  const nets = directory === undefined ? undefined : await useVfs(stack, directory, [options, options]);
  const steps = new Int32Array(new SharedArrayBuffer(4 * Int32Array.BYTES_PER_ELEMENT));
  const results = Array.from({ length: workers }, (_, number) => {
    const worker = new Worker(new URL("./workers_worker.ts", import.meta.url), { type: "module" });
    stack.defer(() => worker.terminate());
    const pairs = nets && [nets[0]!.lend(number), nets[1]!.lend(number)] as const;
    const task: WorkersTask = { number, workers, milliseconds, steps, ...(pairs && { pairs }) };
    worker.postMessage(task);
    return new Promise<WorkersResult>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new DeviceError(event.message));
      };
    });
  });
  const all = await Promise.all(results);
  return all.reduce((sum, { count, milliseconds: took }) => sum + 1000 * count / took, 0);
}

if (import.meta.main) console.log(await work(JSON.parse(Deno.args[0]!) as WorkersRun));
