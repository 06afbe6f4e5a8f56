/**
 * Notifications of a virtio PCI function: where eventfds stand for them, and what a register write may say (virtio 1.2 §4.1.5.2; reference 1.6, 2.2).
 *
 * @module
 */
import type { RegionArea } from "../../../../vfio/device.ts";
import { FEATURE } from "../../../../virtio/spec/features.ts";
import type { CoreQueue } from "../../core/queue.ts";
import { NOTIFY_AT, NOTIFY_MULTIPLIER } from "./layout.ts";

/** Places of the queues' doorbells: of the 2 bytes that drivers without NOTIFICATION_DATA write, since an eventfd would lose the data of the others. */
export function queueDoorbells(queueCount: number): readonly (readonly RegionArea[])[] {
  return Array.from({ length: queueCount }, (_, i) => [{
    offset: NOTIFY_AT + i * NOTIFY_MULTIPLIER,
    sizeBytes: 2,
  }]);
}

/** What is wrong with a notification of `queue` by register write; undefined when nothing is. @param offset from the queue's doorbell */
export function notificationProblem(
  { index, notifyData }: CoreQueue,
  offset: number,
  from: Uint8Array,
  negotiated: bigint,
): { readonly rule: string; readonly message: string } | undefined {
  const data = (negotiated & FEATURE.NOTIFICATION_DATA) !== 0n;
  const width = data ? 4 : 2;
  if (offset !== 0 || from.length !== width) {
    return { rule: "2.2", message: `notification of ${from.length} bytes: it must be ${width}` };
  }
  const named = from[0]! | from[1]! << 8;
  const own = (negotiated & FEATURE.NOTIF_CONFIG_DATA) !== 0n;
  if (named === (own ? notifyData : index)) return undefined;
  const what = own ? `identifier ${named}, its queue_notif_config_data is ${notifyData}` : `queue ${named}`;
  return {
    rule: data || own ? "1.6" : "2.2",
    message: `the doorbell of queue ${index} was rung for ${what}`,
  };
}
