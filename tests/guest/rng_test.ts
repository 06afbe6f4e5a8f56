/** QEMU's entropy device, by each kind of interrupt. */
import { assert, assertEquals, assertGreater, assertNotEquals } from "@std/assert";
import { Epoll } from "../../ffi/mod.ts";
import { VirtioRng } from "../../drivers/rng/virtio_rng.ts";
import { bindInterrupts } from "../../lib/virtio/interrupts.ts";
import { FEATURE, usedBurst, VirtioDevice } from "../../lib/virtio/mod.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { pathTest, rng } from "./guest_host.ts";

for (const kind of ["msix", "intx", "none"] as const) {
  pathTest(
    `virtio-rng: bytes with interrupts ${kind}, before and after a function reset`,
    async (host, path) => {
      const address = rng(kind === "intx" ? "intx" : "msix");
      host.bind(address);
      using device = host.open(address, { path });
      using transport = PciModernTransport.open(device);
      await using entropy = VirtioRng.open(transport, {
        interrupts: kind,
        ...(kind === "none" ? {} : { wait: "eventfd" as const }),
      });
      assertEquals(entropy.interruptKind, kind);
      const first = await entropy.read(10_000);
      assertRandom(first);
      // Three buffers of 4096 bytes, each waited for asleep.
      if (kind === "none") assertEquals(entropy.interrupts, 0);
      else assertGreater(entropy.interrupts, 2);
      device.reset();
      await entropy.reset();
      const second = await entropy.read(1000);
      assertRandom(second);
      assertNotEquals(second, first.subarray(0, 1000));
    },
  );
}

pathTest("1.5 a queue that was reset alone interrupts again when it is set up again", (host, path) => {
  const address = rng("msix");
  host.bind(address);
  using device = host.open(address, { path });
  using transport = PciModernTransport.open(device);
  using virtio = new VirtioDevice(transport);
  virtio.negotiate({ required: FEATURE.RING_RESET });
  const { vectors, queueVector } = bindInterrupts(transport, "msix", [0]);
  const { eventFd } = vectors[queueVector(0)!]!;
  using epoll = new Epoll();
  epoll.add(eventFd.fd, 1);
  let queue = virtio.createQueue(0, { vector: queueVector(0)! });
  using buffer = transport.dma.allocate(4096);
  virtio.driverOk();
  const used = usedBurst(1);
  for (let round = 0; round < 3; round++) {
    queue.addSingle(buffer.iovaLo, buffer.iovaHi, 1000, true);
    queue.flush();
    // A fresh ring asks for an interrupt.
    epoll.waitBlocking(10_000);
    assertEquals(eventFd.take(), 1, `no interrupt in round ${round}`);
    assertEquals(queue.takeUsed(used), 1);
    // How many bytes come is up to the device's quota.
    assertGreater(used.lengths[0]!, 0);
    virtio.resetQueue(0);
    assertEquals(transport.queueView(0).vector, null, "the device unmaps the vector");
    queue = virtio.createQueue(0);
    assertEquals(transport.queueView(0).vector, queueVector(0)!);
  }
});

/** Bytes that were never written would be zero, or all the same. */
function assertRandom(bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += 500) {
    const part = bytes.subarray(at, at + 500);
    assert(new Set(part).size > 100, `bytes ${at} to ${at + part.length} are hardly random`);
  }
}
