import { requireQueueState } from "../../../../lib/virtio/transport/pci_queue_state.ts";
import { readQueueStates, tryQueueStates } from "../../../../lib/virtio/inspect_queues.ts";
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ClosedError, DeviceError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import type { QueueState } from "../../../../lib/virtio/spec/queue_state.ts";
import { PciModernTransport } from "../../../../lib/virtio/transport/pci_modern.ts";
import { changed, FakeFunction } from "../fake_function.ts";

const bit = (n: number) => 1n << BigInt(n);

const SPLIT_9 = { layout: "split", availableIndex: 9 } as const;
const PACKED_5 = {
  layout: "packed",
  availableSlot: 5,
  availableWrap: 0,
  usedSlot: 3,
  usedWrap: 1,
} as const;

function stateFunction(): { device: FakeFunction; transport: PciModernTransport } {
  const device = new FakeFunction(changed(1, { length: 68 }));
  device.features = bit(32) | bit(34) | bit(40);
  return { device, transport: PciModernTransport.open(device, { profile: "queue-state" }) };
}

Deno.test("6.2 N-6.1 A-6.5 queue state is written at 64 and 66 in 16 bits, between FEATURES_OK and DRIVER_OK, before queue_enable", () => {
  const { device, transport } = stateFunction();
  const write = (queue: number, state: QueueState, size = 16) => () =>
    requireQueueState(transport).write(queue, state, size);
  assertThrows(write(0, SPLIT_9), UnsupportedError, "not negotiated");
  transport.writeDriverFeatures(bit(32) | bit(40));
  for (const status of [0, 1, 3]) {
    transport.writeStatus(status);
    assertThrows(write(0, SPLIT_9), UsageError, "N-6.1");
  }
  transport.writeStatus(11);
  device.log.length = 0;
  requireQueueState(transport).write(1, PACKED_5, 6);
  assertEquals(device.log.filter((one) => one.startsWith("w")), ["w2@16=1", "w2@40=5", "w2@42=8003"]);
  device.log.length = 0;
  requireQueueState(transport).write(0, SPLIT_9, 16);
  assertEquals(
    device.log.filter((one) => one.startsWith("w")),
    ["w2@16=0", "w2@40=9"],
    "split has no used state",
  );
  device.log.length = 0;
  assertThrows(write(1, PACKED_5, 5), UsageError, "Slot 5");
  assertEquals(device.log.filter((one) => one.startsWith("w")), [], "A-6.6: nothing reaches the device");
  transport.enableQueue(2, { size: 8, descriptorArea: 0n, driverArea: 0n, deviceArea: 0n });
  assertThrows(write(2, SPLIT_9), UsageError, "A-6.5");
  transport.writeStatus(15);
  assertThrows(write(0, SPLIT_9), UsageError, "N-6.1");
  transport.close();
  assertThrows(write(0, SPLIT_9), ClosedError);
});

Deno.test("N-6.2 queue state is read only after a reset, and a state that cannot be is the device's fault", () => {
  const { device, transport } = stateFunction();
  for (const status of [1, 11, 15, 64]) {
    device.status = status;
    assertThrows(() => requireQueueState(transport).read(0, "split", 8), UsageError, "N-6.2");
  }
  transport.reset();
  Object.assign(device.queues[1]!, { availState: 0xfffe, usedState: 0x1234 });
  assertEquals(requireQueueState(transport).read(1, "split", 8), { layout: "split", availableIndex: 0xfffe });
  Object.assign(device.queues[1]!, { availState: 5, usedState: 0x8003 });
  assertEquals(requireQueueState(transport).read(1, "packed", 6), PACKED_5);
  const available = assertThrows(
    () => requireQueueState(transport).read(1, "packed", 5),
    DeviceError,
    "A-6.6",
  );
  assertEquals(available.location, { function: device.name, queue: 1, field: "queue_avail_state" });
  const used = assertThrows(() => {
    device.queues[1]!.usedState = 7;
    requireQueueState(transport).read(1, "packed", 6);
  }, DeviceError);
  assertEquals(used.location.field, "queue_used_state");
  device.features = bit(32);
  assertThrows(() => requireQueueState(transport).read(0, "split", 8), UnsupportedError, "not offered");
  transport.close();
});

Deno.test("A-6.1 under the standard's profile there is no queue state, whatever is offered", () => {
  using device = new FakeFunction(changed(1, { length: 68 }));
  device.features = bit(32) | bit(40);
  using transport = PciModernTransport.open(device);
  transport.writeDriverFeatures(bit(32) | bit(40));
  transport.writeStatus(11);
  assertThrows(() => requireQueueState(transport).write(0, SPLIT_9, 16), UnsupportedError, "A-6.1");
  transport.reset();
  assertThrows(() => requireQueueState(transport).read(0, "split", 16), UnsupportedError, 'profile "spec"');
});

Deno.test("N-6.1 on the way to DRIVER_OK every queue's state is written, used by the driver or not", () => {
  const { device, transport } = stateFunction();
  const virtio = new VirtioDevice(transport);
  virtio.negotiate();
  assertEquals(virtio.features, bit(32) | bit(34) | bit(40));
  for (const queue of device.queues) Object.assign(queue, { availState: 0x1111, usedState: 0x2222 });
  virtio.createQueue(1, {
    size: 7,
    start: { layout: "packed", availableSlot: 6, availableWrap: 0, usedSlot: 6, usedWrap: 0 },
  });
  virtio.driverOk();
  assertEquals(device.queues.map(({ availState, usedState }) => [availState, usedState]), [
    [0x8000, 0x8000],
    [6, 6],
    [0x8000, 0x8000],
  ]);
  const enabled = device.log.indexOf("w2@1c=1");
  const written = device.log.indexOf("w2@42=6");
  const live = device.log.lastIndexOf("w1@14=f");
  assert(written >= 0 && written < enabled && device.log.lastIndexOf("w2@42=8000") < live);
  virtio.close();
  transport.close();
});

Deno.test("N-6.1 administration queues are queues, too: used or not, their state is written", () => {
  for (const accepted of [true, false]) {
    const { device, transport } = stateFunction();
    device.features |= bit(41);
    device.adminQueues = { first: 3, count: 2 };
    device.queues.push(...device.queues.slice(1).map((queue) => ({ ...queue, reset: 0 })));
    const virtio = new VirtioDevice(transport);
    virtio.negotiate({ wanted: accepted ? bit(41) : 0n });
    for (const queue of device.queues) Object.assign(queue, { availState: 0x1111, usedState: 0x2222 });
    virtio.createQueue(accepted ? 3 : 1);
    virtio.driverOk();
    const written = [0x8000, 0x8000];
    assertEquals(device.queues.map(({ availState, usedState }) => [availState, usedState]), [
      written,
      written,
      written,
      ...Array(2).fill(accepted ? written : [0x1111, 0x2222]),
    ]);
    virtio.close();
    transport.close();
  }
});

Deno.test("N-6.3 states are tried also on a device without ACCESS_PLATFORM behind an IOMMU: it is given no address", () => {
  const { device, transport } = stateFunction();
  transport.close();
  device.iommu.iommu = true;
  const state = { layout: "packed", availableSlot: 6, availableWrap: 0, usedSlot: 6, usedWrap: 0 } as const;
  const states = {
    version: 1,
    profile: "queue-state",
    layout: "packed",
    queues: [{ queue: 1, size: 7, state }],
  } as const;
  assertEquals(tryQueueStates(device, states), 1);
  assertEquals(readQueueStates(device, "packed").queues[1]!.state, state);
});

Deno.test("N-6.1 a split ring's first life in profile queue-state writes index 0 everywhere", () => {
  const { device, transport } = stateFunction();
  const virtio = new VirtioDevice(transport);
  virtio.negotiate({ refused: bit(34) });
  for (const queue of device.queues) Object.assign(queue, { availState: 0x1111, usedState: 0x2222 });
  virtio.createQueue(0);
  virtio.driverOk();
  assertEquals(device.queues.map(({ availState, usedState }) => [availState, usedState]), [
    [0, 0x2222],
    [0, 0x2222],
    [0, 0x2222],
  ]);
  virtio.close();
  transport.close();
});
