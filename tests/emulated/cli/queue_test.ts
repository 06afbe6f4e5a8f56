import { assert, assertEquals, assertMatch } from "@std/assert";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { O, OwnedFd, readText, removeFile, writeAll } from "../../../ffi/mod.ts";
import {
  FEATURE,
  type FunctionQueues,
  inspectQueue,
  usedBurst,
  VirtioDevice,
} from "../../../lib/virtio/mod.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { cli, type CliResult } from "./run_cli.ts";

const NET = "0000:01:00.0";
const OTHER = "0000:02:00.0";
const PLAIN = "0000:03:00.0";

function json<T>(result: CliResult): T {
  assertEquals(result.code, 0, result.err);
  return JSON.parse(result.out);
}

function write(path: string, value: unknown): void {
  using file = OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC, 0o600);
  writeAll(file, new TextEncoder().encode(JSON.stringify(value)) as Uint8Array<ArrayBuffer>);
}

Deno.test("queue on the embedded host, while this process drives the function", async (t) => {
  await using served = await TopologyHost.start([
    { address: NET, kind: "virtio-net", totalVfs: 0, profile: "queue-state", queuePairs: 1 },
    { address: OTHER, kind: "virtio-net", totalVfs: 0, profile: "queue-state", queuePairs: 1, queueSize: 64 },
    { address: PLAIN, kind: "virtio-rng" },
  ]);
  const { host } = served;
  const run = (...args: string[]) => cli("--host", host.name, ...args);
  const scratch = `/tmp/ringside-queue-${crypto.randomUUID()}`;
  for (const address of [NET, OTHER, PLAIN]) host.bind(address);

  for (const layout of ["split", "packed"] as const) {
    await t.step(
      `${layout}: places, events, chains and vectors, decoded from this process's memory`,
      async () => {
        using device = host.open(NET);
        using transport = PciModernTransport.open(device, { profile: "queue-state" });
        await using net = await VirtioNet.open(transport, {
          queueSize: 32,
          packed: layout === "packed",
          inOrder: false,
          wait: "eventfd",
        });
        for (let i = 0; i < 37; i++) {
          assert(net.send(new Uint8Array(60 + i)));
          await net.waitTransmit(1000);
          net.tx[0]!.reclaim();
        }
        const view = json<FunctionQueues & { source: string }>(await run("queue", NET, "--json"));
        assertEquals([view.source, view.function, view.deviceId, view.profile], [
          "device",
          NET,
          1,
          "queue-state",
        ]);
        const [receive, transmit] = view.queues;
        assertEquals([receive!.size, receive!.enabled, receive!.vector], [32, true, 1]);
        assertEquals(receive!.ring!.layout, layout);
        const { image, held } = receive!.ring!;
        assertEquals([image!.waiting, image!.chains.length, held], [32, 32, 0]);
        // What the device reads there is what this driver wrote: the receive buffers.
        assertEquals(
          image!.chains[0]!.parts.map(({ lengthBytes, deviceWrites }) => [lengthBytes, deviceWrites]),
          [[2048, true]],
        );
        const at = layout === "split" ? { index: 37 } : { index: 5, wrap: 0 as const };
        assertEquals(transmit!.ring!.image!.available, at);
        assertEquals(transmit!.ring!.image!.used, at);
        assertEquals(transmit!.ring!.image!.waiting, 0);
        assertEquals(
          transmit!.ring!.state,
          layout === "split"
            ? { layout, availableIndex: 37 }
            : { layout, availableSlot: 5, availableWrap: 0, usedSlot: 5, usedWrap: 0 },
        );
        const text = await run("queue", NET, "--chains");
        assertEquals(text.code, 0, text.err);
        assertMatch(text.out, /network device, status .*DRIVER_OK.*, profile queue-state/);
        assertMatch(text.out, new RegExp(`\n0 +${layout} +32 +yes +1 +`));
        assertMatch(
          text.out,
          /queue 0: 32 chains that the device has not read\n {2}id 0 at slot 0: 0x[0-9a-f]+\+2048 write\n/,
        );
      },
    );
  }

  await t.step(
    "save and load: the states of a driven function are tried on another, and refused by one that lacks them",
    async () => {
      const file = `${scratch}.json`;
      try {
        {
          using device = host.open(NET);
          using transport = PciModernTransport.open(device, { profile: "queue-state" });
          await using net = await VirtioNet.open(transport, { queueSize: 32, interrupts: "none" });
          assert(net.send(new Uint8Array(60)));
          await net.waitTransmit(1000);
          const saved = await run("queue", "save", NET, file);
          assertEquals(saved.code, 0, saved.err);
          assertMatch(saved.err, /is running/);
          assertMatch(saved.out, /3 states of packed queues/);
          const held = await run("queue", "load", NET, file);
          assertEquals(held.code, 1);
          assertMatch(held.err, /0000:01:00\.0/);
        }
        const states = JSON.parse(readText(file));
        assertEquals(states.queues[1], {
          queue: 1,
          size: 32,
          state: { layout: "packed", availableSlot: 1, availableWrap: 1, usedSlot: 1, usedWrap: 1 },
        });
        const loaded = await run("queue", "load", OTHER, file);
        assertEquals(loaded.code, 0, loaded.err);
        assertMatch(loaded.out, /0000:02:00\.0 took 3 states of packed queues and kept them over a reset/);
        const refused = await run("queue", "load", PLAIN, file);
        assertEquals(refused.code, 1);
        assertMatch(refused.err, /QUEUE_STATE/);
        write(file, { ...states, queues: [{ ...states.queues[0], size: 128 }] });
        assertMatch(
          (await run("queue", "load", OTHER, file)).err,
          /queue 0 of 128 descriptors, 64 are there/,
        );
        write(file, { ...states, queues: [{ ...states.queues[0], size: 0 }] });
        const wrong = await run("queue", "load", OTHER, file);
        assertEquals([wrong.code, /queues\[0\]\.size 0/.test(wrong.err)], [2, true]);
      } finally {
        removeFile(file);
      }
    },
  );

  await t.step(
    "a saved device is a file of states, too; a function that nobody drives has kept none",
    async () => {
      const file = `${scratch}.json`;
      try {
        {
          using device = host.open(NET);
          using transport = PciModernTransport.open(device, { profile: "queue-state" });
          const net = await VirtioNet.open(transport, { queueSize: 16, interrupts: "none", packed: false });
          write(file, await net.suspend());
          await net.settled;
        }
        assertMatch((await run("queue", "load", OTHER, file)).out, /took 3 states of split queues/);
        const idle = await run("queue", OTHER);
        assertMatch(idle.out, /\n0 +- +64 +no +- +- /);
        const saved = await run("queue", "save", OTHER, file, "--layout", "split", "--json");
        const { queues } = json<{ queues: { state: unknown }[] }>(saved);
        assertMatch(saved.err, /was not driven/);
        assertEquals(
          queues.map(({ state }) => state),
          [0, 1, 2].map(() => ({ layout: "split", availableIndex: 0 })),
        );
        assertEquals((await run("queue", "save", PLAIN, file)).code, 1);
      } finally {
        removeFile(file);
      }
    },
  );

  await t.step("inspectQueue: the same from the driving process, with its book beside the memory", () => {
    using device = host.open(PLAIN);
    using transport = PciModernTransport.open(device);
    using virtio = new VirtioDevice(transport);
    for (const layout of ["split", "packed"] as const) {
      virtio.negotiate(layout === "split" ? { refused: FEATURE.RING_PACKED } : {});
      const queue = virtio.createQueue(0, { size: 4 });
      using memory = transport.dma.allocate(4096);
      const [lo, hi] = [Number(memory.iova & 0xffff_ffffn), Number(memory.iova >> 32n)];
      queue.begin(0, 2);
      queue.segment(lo, hi, 16);
      queue.segment(lo + 64, hi, 32);
      queue.commit();
      queue.publish();
      const seen = inspectQueue(queue);
      const parts = [[16, memory.iova], [32, memory.iova + 64n]].map(([lengthBytes, iova]) => ({
        iova: `0x${iova!.toString(16)}`,
        lengthBytes: Number(lengthBytes),
      }));
      assertEquals(seen.chains, [{ id: 0, readable: [], writable: parts }]);
      assertEquals([seen.layout, seen.inFlight, seen.memory!.waiting], [layout, 1, 1]);
      assertEquals(
        seen.memory!.chains[0]!.parts,
        parts.map((part) => ({ ...part, deviceWrites: true })),
      );
      assertEquals(seen.memory!.available.index, layout === "split" ? 1 : 2);
      assertEquals(queue.takeUsed(usedBurst(4)), 0);
      virtio.reset();
    }
  });
  await new Promise((resolve) => setTimeout(resolve, 0));
  assertEquals(await served.stop(), []);
});
