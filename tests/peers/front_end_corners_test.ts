/** The vhost-user front end where back ends differ: frames over several buffers, drivers that nobody calls, one after another. */
import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../drivers/blk/virtio_blk.ts";
import { VirtioNet, type VirtioNetOptions } from "../../drivers/net/virtio_net.ts";
import { openHost } from "../../lib/host/mod.ts";
import { openTransport } from "../../lib/virtio/mod.ts";
import { peerTest } from "./rig/needing.ts";
import { startStorageDaemon } from "./rig/qemu.ts";
import { Testpmd } from "./rig/testpmd.ts";

const PATIENCE_MS = 5000;

/** An opened driver of the device behind the socket. */
async function openNet(
  stack: AsyncDisposableStack,
  socket: string,
  options: VirtioNetOptions,
): Promise<VirtioNet> {
  const host = stack.use(openHost(`vhost-user:${socket},type=net`));
  const device = stack.use(host.openVhostUser!("net"));
  return stack.use(await VirtioNet.open(stack.use(openTransport(device)), options));
}

/** A frame that no other is like. */
function frame(number: number, lengthBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = Uint8Array.from({ length: lengthBytes }, (_, at) => at * 7 + number * 13 + (at >> 8));
  bytes.set([0x52, 0x54, 0, 1, 2, 3, 0x52, 0x54, 0, 4, 5, 6, 0x88, 0xb5, number, number >> 8]);
  return bytes;
}

const LENGTHS = [60, 64, 61, 127, 128, 1000, 1513, 1514];

for (const packed of [false, true]) {
  for (const inOrder of [false, true]) {
    const name = `${packed ? "packed" : "split"}${inOrder ? ", in order" : ""}`;
    peerTest(
      ["dpdk-testpmd"],
      `frames that are spread over receive buffers come home whole: ${name}`,
      async (folder) => {
        const socket = `${folder}/vhost.sock`;
        await using device = await Testpmd.device({ socket });
        await device.forward("io");
        await using stack = new AsyncDisposableStack();
        const net = await openNet(stack, socket, { packed, inOrder, queueSize: 128, bufferBytes: 512 });
        const names = net.featureNames;
        const agreed = ["VIRTIO_F_RING_PACKED", "VIRTIO_F_IN_ORDER", "VIRTIO_NET_F_MRG_RXBUF"]
          .map((feature) => names.includes(feature));
        assertEquals(agreed, [packed, inOrder, true]);
        // More than the rings hold, so that indices and wrap counters turn over.
        const count = 600, bytes = count / LENGTHS.length * LENGTHS.reduce((sum, one) => sum + one);
        for (let number = 0; number < count; number++) {
          const sent = frame(number, LENGTHS[number % LENGTHS.length]!);
          while (!net.send(sent)) assert(await net.waitTransmit(PATIENCE_MS), "the device returns nothing");
          if (number % 8 !== 7) continue;
          for (let back = number - 7; back <= number; back++) {
            assertEquals(await net.receive(PATIENCE_MS), frame(back, LENGTHS[back % LENGTHS.length]!));
          }
        }
        // A frame is home before it is counted.
        const counters = await device.countersUntil(({ txPackets }) => txPackets === count);
        const { rxPackets, rxBytes, txBytes, txErrors } = counters;
        assertEquals([rxPackets, rxBytes, txBytes, txErrors], [count, bytes, bytes, 0]);
      },
    );
  }
}

peerTest(
  ["dpdk-testpmd"],
  "a driver that sleeps is woken, and one that polls is never called",
  async (folder) => {
    const socket = `${folder}/vhost.sock`;
    await using device = await Testpmd.device({ socket });
    await device.forward("io");
    for (const options of [{ wait: "eventfd" }, { wait: "poll", interrupts: "none" }] as const) {
      await using stack = new AsyncDisposableStack();
      const net = await openNet(stack, socket, options);
      for (let number = 0; number < 100; number++) {
        assert(net.send(frame(number, 64)));
        assertEquals(await net.receive(PATIENCE_MS), frame(number, 64));
      }
    }
  },
);

peerTest(
  ["dpdk-testpmd"],
  "one driver after another, of either layout, on one device that counts them all",
  async (folder) => {
    const socket = `${folder}/vhost.sock`;
    await using device = await Testpmd.device({ socket });
    await device.forward("rxonly");
    for (let turn = 1; turn <= 6; turn++) {
      await using stack = new AsyncDisposableStack();
      const net = await openNet(stack, socket, { packed: turn % 2 === 0 });
      for (let number = 0; number < 50; number++) assert(net.send(frame(number, 100)));
      const { rxBytes } = await device.countersUntil(({ rxPackets }) => rxPackets === turn * 50);
      assertEquals(rxBytes, turn * 5000);
    }
  },
);

peerTest(
  ["qemu-storage-daemon"],
  "a block driver that polls has a descriptor that the device may call",
  async (folder) => {
    const socket = `${folder}/blk.sock`;
    // libvhost-user calls a ring whose driver seems to want it, and gives up when it cannot.
    await using daemon = await startStorageDaemon({ socket, disk: { nullBytes: 1 << 20 } });
    await using stack = new AsyncDisposableStack();
    const host = stack.use(openHost(`vhost-user:${socket},type=blk`));
    const transport = stack.use(openTransport(stack.use(host.openVhostUser!("blk"))));
    const blk = stack.use(await VirtioBlk.open(transport, { interrupts: "none", wait: "poll", depth: 64 }));
    for (let turn = 0; turn < 100; turn++) {
      await Promise.all(Array.from({ length: 64 }, (_, at) => blk.read(at, 1)));
    }
    assertEquals([blk.statistics().reads, daemon.complaints], [6400, ""]);
  },
);
