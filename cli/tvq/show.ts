/**
 * `ringside tvq FUNCTION show DEVICE`, and `ringside show FUNCTION/DEVICE`
 *
 * @module
 */
import type { Host } from "../../lib/host/mod.ts";
import { virtioFacts } from "../../lib/virtio/inspect.ts";
import { print, printJson } from "../output.ts";
import type { Of } from "../parser.ts";
import { printVirtioFacts } from "../virtio_facts.ts";
import { printFields, readFields } from "./config.ts";
import { deviceReport, deviceText, lookAt, type LookingAtDevice } from "./looking.ts";
import { printQueues, readQueues } from "./queues.ts";

/** Shows all that a managed device says of itself. */
export async function tvqShow(host: Host, options: Showing): Promise<void> {
  const shown = await showDevice(host, options);
  if (options.json) printJson(shown);
}

type Showing = LookingAtDevice & { readonly json: boolean };

/** @returns what there is to be said, instead of printing it, where it is to be JSON */
async function showDevice(host: Host, options: Showing): Promise<unknown> {
  await using stack = new AsyncDisposableStack();
  const made = await lookAt(host, options, stack);
  const virtio = virtioFacts(made.transport);
  const fields = await readFields(made.device, made.transport);
  const queues = await readQueues(made);
  if (options.json) {
    return { function: made.owner, ...deviceReport(made.device), virtio, config: fields, queues };
  }
  print(deviceText(made.device));
  printVirtioFacts(virtio);
  if (fields.length > 0) printFields(fields);
  printQueues(queues);
  return undefined;
}

/** The same of a function and a device in one name. */
export async function showManaged(
  host: Host,
  options: Of<"show"> & { readonly function: string },
): Promise<unknown> {
  const slash = options.function.indexOf("/");
  return await showDevice(host, {
    ...options,
    function: options.function.slice(0, slash),
    device: options.function.slice(slash + 1),
    drive: false,
    interrupts: "auto",
  });
}
