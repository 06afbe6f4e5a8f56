/**
 * A queue that another thread of this process has set up, in the thread that uses it.
 *
 * @module
 */
import { takeEventFd, takeMapping } from "../../../ffi/mod.ts";
import { DmaMemory } from "../../memory/mod.ts";
import { EventFdDoorbell, type LentRegister, MappedDoorbell } from "../../vfio/doorbell.ts";
import type { Borrowing } from "../../wait/lease.ts";
import { type DoorbellRegister, QueueDoorbell } from "../transport/queue_doorbell.ts";
import { PackedQueue } from "./packed.ts";
import { SplitQueue } from "./split.ts";
import type { LentQueue, Virtqueue } from "./virtqueue.ts";

/**
 * Takes it over. The device's end, and that the queue is taken back, are seen when it is notified, and by who finds it empty again and again.
 * @param stack gets what is to be let go of @throws UsageError for what is no such queue
 */
export function borrowQueue(lent: LentQueue, borrowing: Borrowing, stack: DisposableStack): Virtqueue {
  const { function: name, index, layout, places, eventIndex, inOrder, doorbell } = lent;
  const register = borrowRegister(doorbell.register, borrowing.name, stack);
  const memory = stack.use(DmaMemory.borrow(lent.memory));
  const parts = {
    function: name,
    index,
    memory,
    layout: places,
    doorbell: new QueueDoorbell(register, doorbell.identifier, doorbell.withData, borrowing),
    eventIndex,
    inOrder,
    gate: { live: true, checkServed: () => borrowing.check() },
  };
  // Without a start: the ring is at its beginning, and the device has begun to look at it.
  return stack.use(layout === "packed" ? new PackedQueue(parts) : new SplitQueue(parts));
}

function borrowRegister(lent: LentRegister, name: string, stack: DisposableStack): DoorbellRegister {
  if (lent.kind === "eventfd") {
    return new EventFdDoorbell(stack.use(takeEventFd(lent.fd)));
  }
  const { buffer } = stack.use(takeMapping(lent.area));
  const View = lent.width === 1 ? Uint8Array : lent.width === 2 ? Uint16Array : Uint32Array;
  return new MappedDoorbell(new View(buffer), lent.at, name);
}
