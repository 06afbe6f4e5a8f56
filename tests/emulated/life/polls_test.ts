/** Who polls and never sleeps hears that the device's process is gone, too: after a bounded number of polls, each of which finds nothing. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { RequestBurst, VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { IsmChannel } from "../../../drivers/ism/ism_channel.ts";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { vfToVf } from "../../../cli/vf_to_vf.ts";
import { removeFile, sendSignal } from "../../../ffi/mod.ts";
import { PeerGoneError } from "../../../lib/errors/mod.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import type { VirtioTransport } from "../../../lib/virtio/mod.ts";
import { type Reached, TopologyHost } from "../drivers/topology_host.ts";

const ADDRESS = "0000:01:00.0", OTHER = "0000:01:00.1";
const IMAGE = `/tmp/ringside-polls-${Deno.pid}.img`;
/** Far more than one look in 4096 and what had come before the end. */
const MOST_POLLS = 10_000;
/** For tests whose poller is there before its host is killed. */
const PATIENCE_MS = 60_000;

interface Poller {
  /** Looks once. Whatever it finds is taken. */
  poll(): unknown;
  [Symbol.asyncDispose](): Promise<void>;
}

const POLLERS: Readonly<
  Record<string, { kind: string; make: (transport: VirtioTransport, packed: boolean) => Promise<Poller> }>
> = {
  "net, receive": {
    kind: "virtio-net",
    make: async (transport, packed) => {
      const net = await VirtioNet.open(transport, { packed });
      const burst = new FrameBurst(32);
      const poll = () => {
        if (net.receiveBurst(burst) > 0) net.recycle(burst);
      };
      return { poll, [Symbol.asyncDispose]: () => net[Symbol.asyncDispose]() };
    },
  },
  "net, transmit": {
    kind: "virtio-net",
    make: async (transport, packed) => {
      const net = await VirtioNet.open(transport, { packed });
      return {
        poll: () => net.send(new Uint8Array(64)),
        [Symbol.asyncDispose]: () => net[Symbol.asyncDispose](),
      };
    },
  },
  "blk": {
    kind: "virtio-blk",
    make: async (transport, packed) => {
      const blk = await VirtioBlk.open(transport, { packed });
      const queue = blk.queues[0]!;
      const burst = new RequestBurst(8);
      const poll = () => {
        const slot = queue.reserve();
        if (slot >= 0) queue.submit(slot, 0, 0, 512);
        queue.notify();
        queue.complete(burst);
        for (let i = 0; i < burst.count; i++) queue.release(burst.slots[i]!);
      };
      return { poll, [Symbol.asyncDispose]: () => blk[Symbol.asyncDispose]() };
    },
  },
  "console, read": {
    kind: "virtio-console",
    make: async (transport, packed) => {
      const console = await VirtioConsole.open(transport, { packed });
      const port = await console.waitPort(0, PATIENCE_MS);
      port.open();
      const into = new Uint8Array(64);
      return { poll: () => port.tryRead(into), [Symbol.asyncDispose]: () => console[Symbol.asyncDispose]() };
    },
  },
  "console, write": {
    kind: "virtio-console",
    make: async (transport, packed) => {
      const console = await VirtioConsole.open(transport, { packed });
      const port = await console.waitPort(0, PATIENCE_MS);
      port.open();
      await port.waitPeer(PATIENCE_MS);
      const bytes = new Uint8Array(64);
      return {
        poll: () => port.tryWrite(bytes),
        [Symbol.asyncDispose]: () => console[Symbol.asyncDispose](),
      };
    },
  },
  "ISM, events": {
    kind: "virtio-ism",
    make: async (transport, packed) => {
      const ism = await VirtioIsm.open(transport, { packed });
      return { poll: () => ism.pollEvents(), [Symbol.asyncDispose]: () => ism[Symbol.asyncDispose]() };
    },
  },
};

/** Waits for what a timer sees that does not keep the event loop alive. */
async function until(come: () => boolean): Promise<void> {
  while (!come()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** @returns what ended the polls */
function untilThrown(poll: () => unknown, most: number): PeerGoneError {
  for (let polls = 1; polls <= most; polls++) {
    try {
      poll();
    } catch (error) {
      if (error instanceof PeerGoneError) return error;
      throw error;
    }
  }
  throw new Error(`${most} polls, and no error`);
}

for (const packed of [false, true]) {
  Deno.test(`polls of every kind (${packed ? "packed" : "split"}) end when the host was killed, and say which function and host`, async () => {
    const pollers = Object.entries(POLLERS).map(([name, { kind, make }], at) => ({
      name,
      make,
      settings: {
        address: `0000:0${at + 1}:00.0`,
        kind,
        ...(kind === "virtio-blk" ? { file: IMAGE, sizeBytes: 65536 } : {}),
      },
    }));
    await using served = await TopologyHost.start(pollers.map(({ settings }) => settings), { alone: true });
    await using open = new AsyncDisposableStack();
    open.defer(() => removeFile(IMAGE));
    const made: { name: string; address: string; poller: Poller }[] = [];
    for (const { name, make, settings: { address } } of pollers) {
      const { transport } = open.use(served.reach(address));
      made.push({ name, address, poller: open.use(await make(transport, packed)) });
    }
    for (const { poller } of made) for (let i = 0; i < 5000; i++) poller.poll();
    await served.kill();
    for (const { name, address, poller } of made) {
      const { message } = untilThrown(poller.poll, MOST_POLLS);
      assert(message.startsWith(`${address}: `) && message.includes(served.directory), `${name}: ${message}`);
      // And it is no passing matter.
      assertThrows(poller.poll, PeerGoneError, address);
    }
  });
}

Deno.test("a thread that polls and never lets the event loop run hears of it, too", async () => {
  await using served = await TopologyHost.start([{ address: ADDRESS, kind: "virtio-net" }], { alone: true });
  using reached = served.reach(ADDRESS);
  await using net = await VirtioNet.open(reached.transport);
  const burst = new FrameBurst(32);
  sendSignal(served.pid, 9);
  const until = performance.now() + PATIENCE_MS;
  untilThrown(() => {
    net.receiveBurst(burst);
    if (performance.now() > until) throw new Error("no error");
  }, Infinity);
});

Deno.test("rng and blk by promises that never sleep: they end when the host is killed", async () => {
  await using served = await TopologyHost.start([
    { address: ADDRESS, kind: "virtio-rng" },
    { address: OTHER, kind: "virtio-blk", file: IMAGE, sizeBytes: 65536 },
  ], { alone: true });
  using _image = { [Symbol.dispose]: () => removeFile(IMAGE) };
  using first = served.reach(ADDRESS);
  using second = served.reach(OTHER);
  await using rng = VirtioRng.open(first.transport, { interrupts: "none" });
  await using blk = await VirtioBlk.open(second.transport, { interrupts: "none" });
  const forEver = async (act: () => Promise<unknown>) => {
    for (;;) await act();
  };
  const endings = [
    assertRejects(() => forEver(() => rng.read(16)), PeerGoneError, ADDRESS),
    assertRejects(() => forEver(() => blk.read(0, 1)), PeerGoneError, OTHER),
  ];
  // That this timer comes shows that quick answers leave the event loop its turns.
  await new Promise((resolve) => setTimeout(resolve, 20));
  await served.kill();
  await Promise.all(endings);
});

for (const wait of ["poll", "adaptive"] as const) {
  Deno.test(`an ISM channel whose ends are always busy (${wait}) leaves timers their turns, and ends with its host`, async () => {
    await using served = await TopologyHost.start(
      [ADDRESS, OTHER].map((address) => ({ address, kind: "virtio-ism", domain: "here" })),
      { alone: true },
    );
    const open = async (reached: Reached) => await VirtioIsm.open(reached.transport);
    using first = served.reach(ADDRESS);
    using second = served.reach(OTHER);
    await using one = await open(first);
    await using two = await open(second);
    const a = await IsmChannel.create(one, { wait });
    const b = await IsmChannel.connect(two, a.token, { wait });
    const bytes = new Uint8Array(100), into = new Uint8Array(100);
    const end = performance.now() + PATIENCE_MS;
    let killed = false;
    setTimeout(() => {
      killed = true;
      sendSignal(served.pid, 9);
    }, 20);
    const busy = async () => {
      while (performance.now() < end) {
        // Neither ever waits.
        await a.writeAll(bytes);
        await b.readSome(into);
      }
    };
    // Each hears of it by itself, when the event loop has its turn.
    await assertRejects(busy, PeerGoneError, "0000:01:00.");
    assertEquals(killed, true);
    await until(() => one.lost !== null && two.lost !== null);
    assertThrows(() => a.write(bytes), PeerGoneError, ADDRESS);
    // What was written can be read; then the reader hears of it, too.
    while (b.readableBytes > 0) b.read(into);
    await assertRejects(() => b.readSome(into), PeerGoneError);
    await served.kill().catch(() => {});
  });
}

Deno.test("VF to VF, polled: a host that is killed is blamed, at once, and not the switch", async () => {
  const served = await startEmulatedHost();
  try {
    using host = EmulatedHost.connect(served.directory);
    let killed = false;
    const observer = {
      step: () => {},
      frames: () => ({
        update: () => {
          if (killed) return;
          killed = true;
          sendSignal(served.pid, 9);
        },
        [Symbol.dispose]: () => {},
      }),
    };
    const options = { pf: ADDRESS, vfs: 2, frames: 1e9, interruptFrames: 1, observer };
    await assertRejects(() => vfToVf(host, options), PeerGoneError);
    assertEquals(killed, true);
  } finally {
    await served.stop().catch(() => {});
  }
});
