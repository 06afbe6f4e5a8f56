/** Two network functions, and frames between them: for the tests that drive them by kernel VFIO. */
import { assertEquals, assertGreaterOrEqual } from "@std/assert";
import { type NetDevice, VirtioNet, type VirtioNetOptions } from "../../drivers/net/virtio_net.ts";
import { exchangeByInterrupt, exchangePolled } from "../../drivers/net/virtio/exchange.ts";
import { TestFrames } from "../../drivers/net/virtio/test_frames.ts";
import type { VirtioTransport } from "../../lib/virtio/mod.ts";

/** Starts two functions with the same options. Closed with the stack. */
export async function drive(
  transports: readonly VirtioTransport[],
  stack: AsyncDisposableStack,
  options: VirtioNetOptions = {},
): Promise<[VirtioNet, VirtioNet]> {
  const nets: VirtioNet[] = [];
  for (const transport of transports) {
    nets.push(stack.use(await VirtioNet.open(transport, { wait: "eventfd", ...options })));
  }
  return [nets[0]!, nets[1]!];
}

/** Sends in both directions, polled and by interrupt. Every byte is checked on the way. */
export async function bothWays(
  a: NetDevice,
  b: NetDevice,
  polled: number,
  byInterrupt: number,
  maxFrameBytes: number = a.maxFrameBytes,
): Promise<void> {
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const frames = new TestFrames(to.mac, from.mac, 64, maxFrameBytes);
    if (polled > 0) assertEquals((await exchangePolled(from, to, frames, polled)).frames, polled);
    if (byInterrupt === 0) continue;
    const before = to.statistics().interrupts;
    assertEquals((await exchangeByInterrupt(from, to, frames, byInterrupt)).frames, byInterrupt);
    // Who waits before the frame is sent is woken by an interrupt for each. A device that is not virtio's may be late with one, and have it stand for two.
    const least = to instanceof VirtioNet ? byInterrupt : byInterrupt / 2;
    assertGreaterOrEqual(to.statistics().interrupts - before, least);
  }
}
