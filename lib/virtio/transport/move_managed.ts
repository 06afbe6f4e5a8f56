/**
 * A driver goes on with another managed device, of another management device or the same one, without taking part (reference 4, class VQ_STATE).
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { DeviceError, UsageError } from "../../errors/mod.ts";
import { FEATURE } from "../spec/features.ts";
import type { QueueState } from "../spec/queue_state.ts";
import { describeStatus, STATUS } from "../spec/status.ts";
import { type ManagedSetup, ManagedTransport } from "./managed.ts";
import type { MovableTransport } from "./movable.ts";
import { quietly } from "./letting_go.ts";
import type { VirtioTransport } from "./transport.ts";

const DRIVER = STATUS.acknowledge | STATUS.driver;
const RUNNING = DRIVER | STATUS.featuresOk | STATUS.driverOk;

/**
 * Moves a running driver to a device that was created for it, with the features and the config space of the one that it is on: disables the queues of
 * that one, tells the other where each stands, and has it go on there. All in this thread, so nothing of the driver comes between. The device that was
 * left is reset, and its transport is the caller's again. When it fails anywhere the driver goes on where it was.
 *
 * Not carried over is what a driver wrote into the config space or set by commands of its own, beyond what the new device was created with: a network
 * device's filters and table of addresses, the cache mode of a disk.
 *
 * Memory is at the same addresses for both. Where drivers of other devices of the management device to move to have memory, attach its function from the
 * beginning: `transport.dma.attach(to.dma)` before the driver is opened.
 *
 * @param transport on a managed device @param to of a managed device that no driver uses
 * @throws UsageError (no managed device, one without a running driver, one that has a driver), DeviceError (it does not take what was negotiated), what
 * `MovableTransport.moveTo` and commands throw
 */
export function moveManaged(transport: MovableTransport, to: VirtioTransport): void {
  requireType(transport, "object", "moveManaged: transport", "current", "moveTo");
  requireType(to, "object", "moveManaged: to", "name", "kind");
  const from = transport.current;
  for (const one of [from, to]) {
    if (one instanceof ManagedTransport) continue;
    throw new UsageError(`${one.name} is reached by ${one.kind}: no managed device`);
  }
  move(transport, from as ManagedTransport, to as ManagedTransport);
}

function move(transport: MovableTransport, from: ManagedTransport, to: ManagedTransport): void {
  const status = from.readStatus();
  if (status !== RUNNING) {
    throw new UsageError(`${from.name}: no driver runs, status is ${describeStatus(status)}`);
  }
  if (to !== from && to.readStatus() !== 0) throw new UsageError(`${to.name} has a driver already`);
  const { setup } = from;
  const layout = (setup.features & FEATURE.RING_PACKED) === 0n ? "split" : "packed";
  try {
    for (const { queue } of setup.queues) from.disableQueue(queue);
    transport.noteStopped();
    const states = setup.queues.map(({ queue, addresses: { size } }) =>
      from.queueState.read(queue, layout, size)
    );
    transport.moveTo(to);
    start(to, setup, states);
  } catch (error) {
    // Where that is not to be had either, the first error says more.
    quietly(() => goBack(transport, from, to, setup));
    throw error;
  }
  transport.ringAll();
  // It stood for the driver's address in the switch until here.
  from.reset();
}

function start(to: ManagedTransport, setup: ManagedSetup, states: readonly QueueState[]): void {
  to.writeStatus(STATUS.acknowledge);
  to.writeStatus(DRIVER);
  to.writeDriverFeatures(setup.features);
  to.writeStatus(DRIVER | STATUS.featuresOk);
  const features = to.readStatus();
  if ((features & STATUS.featuresOk) === 0) {
    throw new DeviceError(`does not take the features of before: ${describeStatus(features)}`, {
      function: to.name,
      field: "device_status",
    });
  }
  setup.queues.forEach(({ queue, addresses: { size } }, at) => to.queueState.write(queue, states[at]!, size));
  enable(to, setup);
  to.writeStatus(RUNNING);
  const status = to.readStatus();
  if (status === RUNNING) return;
  throw new DeviceError(`does not go on: ${describeStatus(status)}`, {
    function: to.name,
    field: "device_status",
  });
}

function enable(on: ManagedTransport, { configVector, queues }: ManagedSetup): void {
  if (configVector !== null) on.setConfigVector(configVector);
  for (const { queue, addresses, vector } of queues) {
    if (vector !== null) on.setQueueVector(queue, vector);
    on.enableQueue(queue, addresses);
  }
}

/** Disabled queues have kept where they stand. */
function goBack(
  transport: MovableTransport,
  from: ManagedTransport,
  to: ManagedTransport,
  setup: ManagedSetup,
): void {
  if (transport.current !== from) {
    // Two devices must not serve the same queues.
    if (!to.closed) {
      to.reset();
      to.adoptDriverFeatures(setup.features);
    }
    transport.moveTo(from);
  }
  for (const { queue } of setup.queues) from.disableQueue(queue);
  enable(from, setup);
  transport.ringAll();
}
