/**
 * Commands for one queue of a managed device, and its MSI entry (TVQ classes 7 to 14).
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import { FEATURE } from "../../../virtio/spec/features.ts";
import { checkQueueState, type QueueState, queueStateFromWords } from "../../../virtio/spec/queue_state.ts";
import { STATUS } from "../../../virtio/spec/status.ts";
import {
  TVQ_COMMAND,
  TVQ_MSI_STATE,
  TVQ_PACKED_STATE,
  TVQ_VQ_STATUS,
} from "../../../virtio/spec/transport_vq.ts";
import { packedStateFromTvq, packedStateToTvq } from "../../../virtio/spec/transport_vq_payloads.ts";
import { DONE, type ManagedQueue, on, Refusal, type TvqHandler } from "./command.ts";
import { misaligned, neither } from "./device_commands.ts";
import { PLACE_BYTES } from "./notify_area.ts";

/** See the module. Those of VQ_STATE are the split ring's. */
export const QUEUE_COMMANDS: readonly TvqHandler<ManagedQueue>[] = [
  on(TVQ_COMMAND.MSI_VQ_SET, ({ device, queue }, { values: { address, data } }) => {
    if (address % 4n !== 0n) return misaligned(address);
    device.queueMsi[queue.index]!.message = { address, data };
    return DONE;
  }),
  on(TVQ_COMMAND.MSI_VQ_ENABLE, ({ device, queue }, { values: { enable } }) => {
    if (enable > 1) return neither("enable", enable);
    device.queueMsi[queue.index]!.enabled = enable === TVQ_MSI_STATE.VQ_ENABLE;
    return DONE;
  }),
  on(TVQ_COMMAND.MSI_VQ_MASK, ({ device, queue }, { values: { mask } }) => {
    if (mask > 1) return neither("mask", mask);
    device.queueMsi[queue.index]!.masked = mask === TVQ_MSI_STATE.VQ_MASK;
    return DONE;
  }),
  on(TVQ_COMMAND.VQ_ADDR_SET, (about, { values }) => {
    const fixed = fixedWhileEnabled(about);
    if (fixed !== undefined) return fixed;
    about.queue.place(0, values.descriptor_area);
    about.queue.place(1, values.driver_area);
    about.queue.place(2, values.device_area);
    return DONE;
  }),
  on(TVQ_COMMAND.VQ_ENABLE_SET, ({ device, queue }, { values: { status } }) => {
    if (status > 1) return neither("status", status);
    if (status === TVQ_VQ_STATUS.DISABLE) queue.disable();
    else if (!queue.enabled) {
      const wrong = queue.enableProblem();
      if (wrong !== undefined) return new Refusal("STATE", wrong.rule, wrong.problem);
      queue.makeRing(device.core.negotiatedFeatures);
    }
    return DONE;
  }),
  on(TVQ_COMMAND.VQ_ENABLE_GET, ({ queue }) => ({
    status: queue.enabled ? TVQ_VQ_STATUS.ENABLE : TVQ_VQ_STATUS.DISABLE,
  })),
  on(TVQ_COMMAND.VQ_SIZE_SET, (about, { values: { size } }) => {
    const fixed = fixedWhileEnabled(about);
    if (fixed !== undefined) return fixed;
    const problem = about.queue.sizeProblem(size);
    if (problem !== undefined) return new Refusal("VALUE", "2.2", `a queue size of ${size} is ${problem}`);
    about.queue.setSize(size);
    return DONE;
  }),
  on(TVQ_COMMAND.VQ_SIZE_GET, ({ queue }) => ({ size: queue.size })),
  on(TVQ_COMMAND.VQ_NOTIFY_GET, ({ device, queue }) => {
    const address = device.notifyAddressOf(queue.index);
    if (address === undefined) return new Refusal("ERR", undefined, "no address is known for notifications");
    return { address, size: BigInt(PLACE_BYTES) };
  }),
  on(
    TVQ_COMMAND.VQ_STATE_SET,
    (about, { values: { avail_index } }) => restore(about, { layout: "split", availableIndex: avail_index }),
  ),
  on(TVQ_COMMAND.VQ_STATE_GET, ({ queue }) => ({ avail_index: queue.state().available })),
  on(TVQ_COMMAND.VQ_ASID_SET, (about, { values: { asid } }) => {
    const fixed = fixedWhileEnabled(about);
    if (fixed !== undefined) return fixed;
    about.device.setAsid(about.queue.index, asid);
    return DONE;
  }),
  // N-4.19, A-4.23: done when the command is.
  on(TVQ_COMMAND.VQ_RESET_DO, ({ device, queue }) => {
    // of the managed device.
    if ((device.core.negotiatedFeatures & FEATURE.RING_RESET) === 0n) {
      return new Refusal("NOT_NEGOTIATED", "N-4.19", "RING_RESET is not negotiated");
    }
    queue.reset(1);
    device.clearQueue(queue.index);
    return DONE;
  }),
];

/** VQ_STATE of a packed ring. */
export const PACKED_STATE_COMMANDS: readonly TvqHandler<ManagedQueue>[] = [
  on(TVQ_PACKED_STATE.SET, (about, { values }) => restore(about, packedStateFromTvq(values))),
  on(TVQ_PACKED_STATE.GET, ({ queue }) => {
    const state = queueStateFromWords("packed", queue.maximum, queue.state());
    return packedStateToTvq(state as QueueState & { layout: "packed" });
  }),
];

/** */
function fixedWhileEnabled({ queue }: ManagedQueue): Refusal | undefined {
  return queue.enabled ? new Refusal("STATE", "A-4.30", "the queue is enabled") : undefined;
}

function restore(about: ManagedQueue, state: QueueState): Refusal | typeof DONE {
  const { device, queue } = about;
  const fixed = fixedWhileEnabled(about);
  if (fixed !== undefined) return fixed;
  if ((device.core.status & STATUS.featuresOk) === 0) {
    return new Refusal("STATE", "6.3", "the state was set before FEATURES_OK, when the layout is not known");
  }
  try {
    queue.restoreState(checkQueueState(state, queue.size));
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    return new Refusal("VALUE", "A-6.8", error.message);
  }
  return DONE;
}
