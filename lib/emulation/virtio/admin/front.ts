/**
 * What the front of an owner shows to its administration engine.
 *
 * @module
 */
import { FEATURE } from "../../../virtio/constants/features.ts";
import type { DeviceFront } from "../../device_model.ts";
import type { AdminFront } from "./engine.ts";

/** The view of `front` whose queues count from `first`, the first administration queue. */
export function adminFront(
  front: DeviceFront,
  first: number,
  notifyArea: { readonly bar: number; readonly offset: number },
): AdminFront {
  const place = (queue: number | undefined) => (queue === undefined ? undefined : first + queue);
  const live = () => front.live && (front.negotiatedFeatures & FEATURE.ADMIN_VQ) !== 0n;
  return {
    name: front.name,
    get live(): boolean {
      return live();
    },
    notifyArea,
    queue: (index) => live() ? front.queue(first + index) : undefined,
    report: (rule, message, queue) => front.report(rule, message, place(queue)),
    violation: (rule, message, queue) => front.violation(rule, message, place(queue)),
  };
}
