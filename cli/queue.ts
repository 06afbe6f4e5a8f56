/**
 * `ringside queue`
 *
 * @module
 */
import { NotFoundError, UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import type { Host } from "../lib/host/mod.ts";
import {
  describeStatus,
  deviceTypeName,
  featureNames,
  type FunctionQueues,
  type ImageChain,
  type QueueView,
  type RingEvent,
  type RingPlace,
  STATUS,
} from "../lib/virtio/mod.ts";
import {
  checkQueueStates,
  type QueueStates,
  readQueueStates,
  registerQueues,
  tryQueueStates,
} from "../lib/virtio/inspect_queues.ts";
import { hostRecords } from "./host_report.ts";
import { readJsonFile, writeJsonFile } from "./json_file.ts";
import { countText, print, printJson, printTable, remark } from "./output.ts";
import { openOptions, transportOptions } from "./opening.ts";
import type { Of } from "./parser.ts";
import { isManaged, reach } from "./reaching.ts";

/** Shows the queues of a function. */
export async function queue(host: Host, options: Of<"queue">): Promise<void> {
  const fromDevice = deviceView(host, options.function);
  const view = fromDevice ?? await registersOf(host, options);
  if (options.json) return printJson({ ...view, source: fromDevice === undefined ? "registers" : "device" });
  const running = `status ${describeStatus(view.status)}, profile ${view.profile}`;
  print(`${view.function}: ${deviceTypeName(view.deviceId)}, ${running}`);
  const features = featureNames(BigInt(view.features), view.deviceId, view.profile);
  if (features.length > 0) print(`features: ${features.join(", ")}`);
  printTable(
    [
      "QUEUE",
      "LAYOUT",
      "SIZE",
      "ENABLED",
      "VECTOR",
      "AVAILABLE",
      "USED",
      "DEVICE AT",
      "WAITING",
      "HELD",
      "INTERRUPT",
      "NOTIFY",
    ],
    view.queues.map(row),
    { drop: [4, 3], shrink: [] },
  );
  if (fromDevice === undefined) {
    remark(
      "registers only: rings lie in the memory of the process that drives the function (inspectQueue there)",
    );
  }
  if (options.chains) { for (const one of view.queues) printChains(one); }
}

/** Saves where the device stands in its queues. */
export function queueSave(host: Host, options: Of<"queue save">): void {
  const { address } = host.describe(requireFunction(options.function));
  const view = deviceView(host, address);
  const rings = view?.queues.some(({ ring }) => ring !== undefined) ?? false;
  let states: QueueStates;
  if (view !== undefined && rings) {
    states = statesOf(view);
    if ((view.status & STATUS.driverOk) !== 0) {
      remark(
        `${address} is running: these are the states of one moment, and in-flight chains are its driver's`,
      );
    }
  } else {
    using device = host.open(address, openOptions(options));
    states = readQueueStates(device, options.layout, transportOptions(device, options));
    remark(`${address} was not driven: these are the states that it kept over its last reset`);
  }
  writeJsonFile(options.file, states);
  if (options.json) printJson({ function: address, file: options.file, ...states });
  else print(`${countText(states.queues.length, "state")} of ${states.layout} queues in ${options.file}`);
}

/** Tries whether a function takes the states of a file. */
export function queueLoad(host: Host, options: Of<"queue load">): void {
  const { address } = host.describe(requireFunction(options.function));
  const states = readJsonFile(options.file, checkQueueStates);
  using device = host.open(address, openOptions(options));
  const taken = tryQueueStates(device, states, transportOptions(device, options));
  if (options.json) printJson({ function: address, file: options.file, taken, ...states });
  else {
    print(
      `${address} took ${countText(taken, "state")} of ${states.layout} queues and kept them over a reset`,
    );
    remark("it is reset now, with nothing set up: VirtioNet.resume is what goes on with a saved device");
  }
}

/** What an emulated host shows of a function, or of a managed device by its id, whoever drives it; undefined elsewhere, and of a device that is to be made. */
function deviceView(host: Host, name: string): FunctionQueues | undefined {
  const slash = name.indexOf("/");
  const of = slash < 0 ? name : name.slice(0, slash), id = name.slice(of.length + 1);
  const { address } = host.describe(of);
  if (slash < 0) return hostRecords<FunctionQueues>(host, `queues/${address}`)?.[0];
  if (!/^[0-9]+$/.test(id)) return undefined;
  const views = hostRecords<FunctionQueues>(host, "managed-queues");
  if (views === undefined) {
    throw new UnsupportedError(`only the process that drives ${address} knows of its managed devices`, {
      hint: `${of}/net is one that is made, shown, and ended`,
    });
  }
  const view = views.find((one) => one.function === `${address}/${id}`);
  if (view !== undefined) return view;
  throw new NotFoundError(`${address} has no managed device ${id}`, { hint: `tvq ${of} list lists them` });
}

/** @throws UsageError */
function requireFunction(name: string): string {
  if (!isManaged(name)) return name;
  throw new UsageError(
    `${name}: queue states that outlive a reset belong to a function of profile queue-state; a managed device ends with its process`,
    { hint: "VirtioNet.suspend and moveManaged carry its states on" },
  );
}

async function registersOf(host: Host, options: Of<"queue">): Promise<FunctionQueues> {
  await using stack = new AsyncDisposableStack();
  return registerQueues(await reach(host, options, stack));
}

/** @throws UnsupportedError when the function has another profile */
function statesOf(view: FunctionQueues): QueueStates {
  if (view.profile !== "queue-state") {
    throw new UnsupportedError(`${view.function} has profile ${view.profile}, which has no queue states`, {
      hint: "an emulated function gets the profile from its topology",
    });
  }
  const driven = view.queues.flatMap(({ queue, size, ring }) =>
    ring === undefined ? [] : [{ queue, size, state: ring.state }]
  );
  const layout = driven[0]!.state.layout;
  return { version: 1, profile: "queue-state", layout, queues: driven };
}

function row({ queue, size, enabled, vector, ring }: QueueView): string[] {
  const image = ring?.image;
  const at = ring === undefined
    ? "-"
    : ring.state.layout === "split"
    ? `${ring.state.availableIndex}`
    : placeText({ index: ring.state.availableSlot, wrap: ring.state.availableWrap });
  return [
    `${queue}`,
    ring?.layout ?? "-",
    `${size}`,
    enabled ? "yes" : "no",
    vector === null ? "-" : `${vector}`,
    image ? placeText(image.available) : "-",
    image ? placeText(image.used) : "-",
    at,
    image ? `${image.waiting}` : "-",
    ring === undefined ? "-" : `${ring.held}`,
    image ? eventText(image.driverEvent) : "-",
    image ? eventText(image.deviceEvent) : "-",
  ];
}

/** `12`, or `12 w1` for a slot with its wrap counter. */
function placeText({ index, wrap }: RingPlace): string {
  return wrap === undefined ? `${index}` : `${index} w${wrap}`;
}

function eventText(event: RingEvent): string {
  return typeof event === "string" ? event : `at ${placeText(event)}`;
}

function printChains({ queue, ring }: QueueView): void {
  const image = ring?.image;
  if (!image || image.waiting === 0) return;
  print(`queue ${queue}: ${countText(image.waiting, "chain")} that the device has not read`);
  for (const chain of image.chains) print(`  ${chainText(chain)}`);
  const more = image.waiting - image.chains.length;
  if (more > 0) print(`  and ${more} more`);
  if (image.problem !== undefined) print(`  ${image.problem}`);
}

function chainText({ id, slot, parts, indirect, problem }: ImageChain): string {
  const list = parts.map(({ iova, lengthBytes, deviceWrites }) =>
    `${iova}+${lengthBytes}${indirect ? " table" : deviceWrites ? " write" : " read"}`
  );
  return `id ${id} at slot ${slot}: ${[...list, ...(problem === undefined ? [] : [problem])].join(", ")}`;
}
