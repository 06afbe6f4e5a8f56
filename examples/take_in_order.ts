/**
 * The receiving end of a check: every frame once, in order, byte for byte.
 *
 * @module
 */
import type { FrameBurst, VirtioNet } from "../drivers/net/virtio_net.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import type { FrameStream } from "../drivers/net/virtio/test_frames.ts";

/**
 * Takes a burst from the first receive queue, and gives its buffers back; every byte must be right, and every frame the next.
 * @param received how many came before
 * @returns how many came in all
 * @throws DeviceError for a frame that is lost, doubled, changed or out of order
 */
export function takeInOrder(
  net: VirtioNet,
  frames: FrameStream,
  burst: FrameBurst,
  received: number,
): number {
  const rx = net.rx[0]!;
  const got = rx.receiveBurst(burst);
  for (let at = 0; at < got; at++) {
    const part = burst.first[at]!;
    const bytes = rx.views[burst.slots[part]!]!;
    if (!frames.isOurs(bytes, burst.offsets[part]!, burst.lengths[part]!)) continue;
    const wrong = frames.mismatch(received, bytes, burst.offsets[part]!, burst.lengths[part]!);
    if (wrong >= 0) {
      throw new DeviceError(`frame ${received} is wrong at byte ${wrong}`, { function: net.transport.name });
    }
    received++;
  }
  rx.recycle(burst);
  return received;
}
