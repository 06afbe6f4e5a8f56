/**
 * The queues of a function that nobody drives: its registers, and in profile `queue-state` whether it takes and keeps a state.
 *
 * @module
 */
import { DeviceError, UnsupportedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import { integer, isList, object } from "../errors/records.ts";
import type { VfioDevice } from "../vfio/device.ts";
import { FEATURE } from "./spec/features.ts";
import type { FunctionQueues } from "./view/queue_view.ts";
import { VirtioDevice } from "./device.ts";
import { hasQueueState } from "./features.ts";
import { checkQueueState, type QueueState } from "./spec/queue_state.ts";
import { openTransport, type TransportOptions } from "./transport/open.ts";
import type { VirtioTransport } from "./transport/transport.ts";
import { requireQueueState } from "./transport/pci_queue_state.ts";

/** The state of one queue. */
export interface QueueStateEntry {
  /** Number of the virtqueue. */
  readonly queue: number;
  /** Number of descriptors. */
  readonly size: number;
  /** Where the device stands. */
  readonly state: QueueState;
}

/** The states of a function's queues, as a file holds them. */
export interface QueueStates {
  /** Of this format. */
  readonly version: 1;
  /** Profile whose facility they are for. */
  readonly profile: "queue-state";
  /** Ring layout of all. */
  readonly layout: "split" | "packed";
  /** Each queue once. */
  readonly queues: readonly QueueStateEntry[];
}

/** Reads the registers of all queues. Only selectors are written; closing the transport resets the device, which nobody drives. */
export function inspectQueues(
  device: VfioDevice,
  options: TransportOptions & { readonly profile?: "spec" | "queue-state" } = {},
): FunctionQueues {
  using transport = openTransport(device, options);
  return registerQueues(transport);
}

/** As `inspectQueues`, of a device that is reached already. */
export function registerQueues(transport: VirtioTransport): FunctionQueues {
  return {
    function: transport.name,
    deviceId: transport.deviceId,
    profile: transport.profile,
    status: transport.readStatus(),
    features: "0x0",
    queues: Array.from({ length: transport.queueCount }, (_, queue) => transport.queueView(queue)),
  };
}

/**
 * Resets a function and reads what it says of its queues (N-6.2): where they stood when it was reset last, if it kept that.
 * @param layout of the rings that it had @throws UnsupportedError without QUEUE_STATE, DeviceError for a state that cannot be
 */
export function readQueueStates(
  device: VfioDevice,
  layout: "split" | "packed",
  options: TransportOptions = {},
): QueueStates {
  using transport = openTransport(device, { ...options, profile: "queue-state" });
  transport.reset();
  const queues: QueueStateEntry[] = [];
  for (let queue = 0; queue < transport.queueCount; queue++) {
    const size = transport.queueMaxSize(queue);
    if (size > 0) queues.push({ queue, size, state: requireQueueState(transport).read(queue, layout, size) });
  }
  return { version: 1, profile: "queue-state", layout, queues };
}

/**
 * Tries whether a function takes these states: negotiates QUEUE_STATE and the layout, writes them between FEATURES_OK and DRIVER_OK
 * (N-6.1), resets (N-6.2) and reads them back (N-6.3). No queue is enabled and no memory given; the function is left reset.
 * @returns how many states it took
 * @throws UnsupportedError (no QUEUE_STATE, layout, queue or size), DeviceError (what was written does not read back)
 */
export function tryQueueStates(
  device: VfioDevice,
  states: QueueStates,
  options: TransportOptions = {},
): number {
  const { layout, queues } = checkQueueStates(states);
  // It is given no address.
  using transport = openTransport(device, { ...options, profile: "queue-state", assumeAccessPlatform: true });
  using virtio = new VirtioDevice(transport);
  const packed = FEATURE.RING_PACKED;
  virtio.negotiate(layout === "packed" ? { required: packed } : { refused: packed });
  if (!hasQueueState(transport, virtio.features)) {
    throw new UnsupportedError(`${transport.name} does not offer VIRTIO_F_QUEUE_STATE`);
  }
  for (const { queue, size, state } of queues) {
    const most = queue < transport.queueCount ? transport.queueMaxSize(queue) : 0;
    if (size > most) {
      throw new UnsupportedError(
        `${transport.name}: a state of queue ${queue} of ${size} descriptors, ${most} are there`,
      );
    }
    requireQueueState(transport).write(queue, state, size);
  }
  transport.reset();
  for (const { queue, size, state } of queues) {
    const back = requireQueueState(transport).read(queue, layout, size);
    if (JSON.stringify(back) === JSON.stringify(state)) continue;
    throw new DeviceError(
      `${JSON.stringify(state)} was written, ${JSON.stringify(back)} reads back (N-6.3)`,
      {
        function: transport.name,
        queue,
        field: "queue_avail_state",
      },
    );
  }
  return queues.length;
}

/**
 * Checks what came from a file: a `QueueStates`, or a saved device (`VirtioNet.suspend`), of which the rings count.
 * @returns fresh plain objects @throws UsageError naming the field
 */
export function checkQueueStates(value: unknown): QueueStates {
  const saved = object(value, "queue states");
  if (saved.version !== 1) {
    throw new UsageError(`queue states: version ${shown(saved.version)} is not known`);
  }
  if (saved.profile !== "queue-state") {
    throw new UsageError(`queue states: profile ${shown(saved.profile)} has no queue states`);
  }
  const list = saved.device === undefined ? saved.queues : ringsOf(saved);
  if (!isList(list) || list.length === 0) throw new UsageError("queue states: queues is not a list");
  const queues = list.map((one: unknown, at): QueueStateEntry => {
    const where = `queue states: queues[${at}]`;
    const given = object(one, where);
    const size = integer(given.size, 1, 32768, `${where}.size`);
    const queue = integer(given.queue, 0, 0xffff, `${where}.queue`);
    return { queue, size, state: checkQueueState(given.state, size) };
  });
  const { layout } = queues[0]!.state;
  queues.forEach(({ queue, state }, at) => {
    if (state.layout !== layout) {
      throw new UsageError(`queue states: queue ${queue} is not ${layout}, as others are`);
    }
    if (queues.findIndex((other) => other.queue === queue) !== at) {
      throw new UsageError(`queue states: queue ${queue} is there twice`);
    }
  });
  return { version: 1, profile: "queue-state", layout, queues };
}

/** The rings of a saved device, wherever in it they are. */
function ringsOf(saved: Record<string, unknown>): unknown[] {
  const rings: unknown[] = [];
  const visit = (value: unknown) => {
    if (typeof value !== "object" || value === null) return;
    if ("ring" in value) rings.push(value.ring);
    else Object.values(value).forEach(visit);
  };
  visit(saved);
  return rings;
}
