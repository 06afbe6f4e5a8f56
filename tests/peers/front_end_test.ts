/** Drivers of this library over vhost-user, with DPDK's network device and QEMU's block device as back ends. */
import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../drivers/blk/virtio_blk.ts";
import { FrameBurst, VirtioNet, type VirtioNetOptions } from "../../drivers/net/virtio_net.ts";
import { readFile, removeFile, replaceFile } from "../../ffi/mod.ts";
import { openHost } from "../../lib/host/mod.ts";
import type { VhostUserDevice } from "../../lib/sockets/vhost_user/mod.ts";
import { openTransport, type VirtioTransport } from "../../lib/virtio/mod.ts";
import { Random } from "../random.ts";
import { peerTest } from "./rig/needing.ts";
import { startStorageDaemon } from "./rig/qemu.ts";
import { Testpmd } from "./rig/testpmd.ts";

/** Rounds of being killed; `-- --full` has a hundred. */
const ROUNDS = Deno.args.includes("--full") ? 100 : 3;

/** A device behind a socket, opened by the host of that name. */
function reach(socket: string, type: string, settings = ""): {
  device: VhostUserDevice;
  transport: VirtioTransport;
} & Disposable {
  using host = openHost(`vhost-user:${socket},type=${type}${settings}`);
  const device = host.openVhostUser!(type);
  const transport = openTransport(device);
  const close = () => {
    transport.close();
    device.close();
  };
  return { device, transport, [Symbol.dispose]: close };
}

/** A frame whose bytes follow from its number. */
function frame(number: number, bytes: number): Uint8Array {
  const made = new Uint8Array(bytes);
  for (let at = 14; at < bytes; at++) made[at] = number * 31 + at * 7 + (number >> 8);
  made.set([2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 5, 0x88, 0xb5, number & 0xff, number >> 8 & 0xff, number >> 16]);
  return made;
}

function numberOf(bytes: Uint8Array): number {
  return bytes[14]! | bytes[15]! << 8 | bytes[16]! << 16;
}

const MIXES: readonly (readonly [string, VirtioNetOptions])[] = [
  ["split", { packed: false }],
  ["split, not mergeable, no event index", { packed: false, mergeable: false, eventIndex: false }],
  ["split, not in order, no indirect tables", { packed: false, inOrder: false, indirect: false }],
  ["packed", {}],
  ["packed, not in order, not mergeable", { inOrder: false, mergeable: false }],
  ["packed, polled", { interrupts: "none" }],
  ["split, polled", { packed: false, interrupts: "none" }],
];

peerTest(
  ["dpdk-testpmd"],
  "frames go out and come back byte for byte, in every mix of rings",
  async (folder) => {
    const socket = `${folder}/vhost.sock`;
    await using peer = await Testpmd.device({ socket, queues: 1 });
    await peer.forward("io");
    let sent = 0;
    for (const [what, options] of MIXES) {
      using reached = reach(socket, "net", ",mac=02:00:00:00:00:05");
      await using net = await VirtioNet.open(reached.transport, options);
      assertEquals(net.macText, "02:00:00:00:00:05");
      for (let number = 0; number < 600; number++) {
        const out = frame(number, 60 + number * 37 % 1455);
        while (!net.send(out)) await net.waitTransmit(1000);
        sent++;
        const back = await net.receive(5000);
        assertEquals(back, out, `${what}, frame ${number}`);
      }
    }
    const counters = await peer.counters();
    assertEquals([counters.rxPackets, counters.txPackets, counters.rxErrors], [sent, sent, 0]);
  },
);

/** Frames that are forwarded again and again, `count` of them with `laps` laps each, until a lap without them all is over. */
async function circle(net: VirtioNet, count: number, laps: number): Promise<Uint8Array[]> {
  const rx = net.rx[0]!, tx = net.tx[0]!;
  const burst = new FrameBurst(32);
  const arrived: Uint8Array[] = [];
  for (let number = 0; number < count; number++) net.send(frame(number, 60 + number * 37 % 1455));
  let left = count * laps;
  while (arrived.length < count) {
    assert(await net.waitReceive(5000), `${left} frames are still to go round`);
    while (rx.receiveBurst(burst) > 0) {
      // Each is looked at on its last lap.
      while (left > count && burst.frames > 0) {
        const sent = tx.forward(rx, burst);
        if (sent === 0) assert(await net.waitTransmit(5000));
        left -= sent;
      }
      for (let one = 0; one < burst.frames; one++) {
        const bytes = new Uint8Array(burst.frameBytes(one));
        rx.copyFrame(burst, one, bytes);
        arrived.push(bytes);
        left--;
      }
      rx.recycle(burst);
    }
  }
  return arrived;
}

peerTest(
  ["dpdk-testpmd"],
  "frames that are forwarded go round byte for byte, in every mix of rings, also when the device is killed meanwhile; no slot is lost",
  async (folder) => {
    const socket = `${folder}/vhost.sock`;
    let peer = await Testpmd.device({ socket });
    try {
      await peer.forward("io");
      for (const [what, options] of MIXES) {
        using reached = reach(socket, "net", ",reconnect=60000");
        await using net = await VirtioNet.open(reached.transport, options);
        const tx = net.tx[0]!;
        for (const count of [1, 32, 100]) {
          const arrived = await circle(net, count, 40);
          const numbers = arrived.map(numberOf).sort((a, b) => a - b);
          assertEquals(numbers, Array.from({ length: count }, (_, number) => number), what);
          for (const one of arrived) {
            assertEquals(one, frame(numberOf(one), 60 + numberOf(one) * 37 % 1455), what);
          }
        }
        if (options.interrupts === "none") continue;
        // While frames go round their device goes; what it had is gone with it.
        const returns = reached.device.returns;
        const round = circle(net, 100, 1e9).catch((error: unknown) => error);
        await new Promise((resolve) => setTimeout(resolve, 20));
        await peer.kill();
        removeFile(socket);
        peer = await Testpmd.device({ socket });
        await peer.forward("io");
        while (reached.device.returns === returns) await new Promise((resolve) => setTimeout(resolve, 5));
        await new Promise((resolve) => setTimeout(resolve, 20));
        await net.reset();
        await round;
        assertEquals(tx.slotCount, net.tx[0]!.freeSlots);
        assertEquals((await circle(net, 100, 3)).length, 100);
      }
    } finally {
      await peer.stop();
    }
  },
);

peerTest(
  ["dpdk-testpmd"],
  "two queue pairs and the control queue, which is the front end's",
  async (folder) => {
    const socket = `${folder}/vhost.sock`;
    await using peer = await Testpmd.device({ socket, queues: 2 });
    await peer.forward("io");
    for (const packed of [false, true]) {
      using reached = reach(socket, "net");
      await using net = await VirtioNet.open(reached.transport, { packed, queuePairs: 2 });
      assertEquals(net.featureNames.includes("VIRTIO_NET_F_MQ"), true);
      const exchange = async (pairs: number) => {
        for (let number = 0; number < 200; number++) {
          const out = frame(number, 100);
          const tx = net.tx[number % pairs]!;
          const slot = tx.reserve();
          tx.frame(slot).set(out);
          tx.send(slot, out.length);
          tx.flush();
          assertEquals(await net.receive(5000), out);
        }
      };
      await exchange(2);
      await net.setQueuePairs(1);
      await exchange(1);
      await net.setQueuePairs(2);
      await net.setPromiscuous(true);
      await exchange(2);
    }
  },
);

peerTest(
  ["dpdk-testpmd"],
  "a network device killed under load and started again, round by round, split and packed",
  async (folder) => {
    for (const packed of [false, true]) {
      const socket = `${folder}/vhost.sock`;
      let peer = await Testpmd.device({ socket });
      try {
        await peer.forward("io");
        using reached = reach(socket, "net", ",reconnect=60000");
        await using net = await VirtioNet.open(reached.transport, { packed });
        let sent = 0, received = 0, going = true;
        // Bursts without a pause; the promise that waits for frames outlives every back end.
        const load = (async () => {
          while (going) {
            for (let burst = 0; burst < 64 && net.send(frame(sent, 300)); burst++) sent = sent + 1 & 0xffff;
            await net.waitTransmit(20);
          }
        })();
        const reader = (async () => {
          for await (const one of net.frames()) {
            assertEquals(
              one,
              frame(numberOf(one), 300),
              "a frame came back as another than any that was sent",
            );
            received++;
            if (!going) break;
          }
        })();
        for (let round = 0; round < ROUNDS; round++) {
          const before = received;
          while (received < before + 100) await new Promise((resolve) => setTimeout(resolve, 5));
          await peer.kill();
          removeFile(socket);
          peer = await Testpmd.device({ socket });
          await peer.forward("io");
          while (reached.device.returns <= round) await new Promise((resolve) => setTimeout(resolve, 5));
        }
        const before = received;
        while (received < before + 1000) await new Promise((resolve) => setTimeout(resolve, 5));
        going = false;
        await load;
        // Every slot comes back: nothing was lost on the way.
        const [tx] = net.tx;
        while (tx!.freeSlots < tx!.slotCount) {
          assert(await net.waitTransmit(5000));
          tx!.reclaim();
        }
        net.send(frame(0, 300));
        await reader;
        assertEquals(reached.device.returns, ROUNDS);
      } finally {
        await peer.stop();
      }
    }
  },
);

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const SECTOR = 512;

peerTest(
  ["qemu-storage-daemon"],
  "a disk read and written at depth 1 and 64 is the file that is served, hash by hash",
  async (folder) => {
    const socket = `${folder}/blk.sock`, disk = `${folder}/disk.img`, sectors = 8192;
    const random = new Random(5);
    const image = Uint8Array.from({ length: sectors * SECTOR }, () => random.below(256));
    replaceFile(disk, image);
    await using _daemon = await startStorageDaemon({ socket, disk: { file: disk }, queues: 2 });
    for (const [depth, queues] of [[1, 1], [64, 1], [64, 2]] as const) {
      for (const interrupts of ["auto", "none"] as const) {
        using reached = reach(socket, "blk");
        await using blk = await VirtioBlk.open(reached.transport, { queues, interrupts });
        assertEquals(blk.capacitySectors, sectors);
        const read = new Uint8Array(image.length);
        await workers(depth, sectors / 8, async (piece) => {
          read.set(await blk.read(piece * 8, 8), piece * 8 * SECTOR);
        });
        assertEquals(await sha256(read), await sha256(image));
        await workers(depth, 200, async (number) => {
          // Another one for each: of two requests in flight either may be done first.
          const piece = number * 5;
          const bytes = Uint8Array.from({ length: 8 * SECTOR }, () => random.below(256));
          image.set(bytes, piece * 8 * SECTOR);
          await blk.write(piece * 8, bytes);
        });
        await blk.flush();
        assertEquals(
          await sha256(readFile(disk)),
          await sha256(image),
          `depth ${depth}, ${queues} queues, ${interrupts}`,
        );
      }
    }
  },
);

/** Runs so many at a time, each with a number of its own. */
async function workers(depth: number, count: number, act: (number: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: depth }, async () => {
    while (next < count) await act(next++);
  }));
}

peerTest(
  ["qemu-storage-daemon"],
  "a block device killed under load and started again: no request is lost, and the data are what was written",
  async (folder) => {
    const socket = `${folder}/blk.sock`, disk = `${folder}/disk.img`, sectors = 8192, DEPTH = 32;
    const image = new Uint8Array(sectors * SECTOR);
    replaceFile(disk, image);
    let daemon = await startStorageDaemon({ socket, disk: { file: disk }, queues: 2 });
    try {
      using reached = reach(socket, "blk", ",reconnect=60000");
      await using blk = await VirtioBlk.open(reached.transport, { queues: 2 });
      let going = true, done = 0;
      const random = new Random(11);
      // Each worker has a part of the disk of its own: what it reads there is what it wrote.
      const load = Promise.all(Array.from({ length: DEPTH }, async (_, worker) => {
        const part = sectors / DEPTH;
        while (going) {
          const sector = worker * part + random.below(part - 8), count = 1 + random.below(8);
          const range = image.subarray(sector * SECTOR, (sector + count) * SECTOR);
          if (random.below(3) === 0) {
            assertEquals(await blk.read(sector, count), range.slice());
          } else {
            crypto.getRandomValues(range);
            await blk.write(sector, range.slice());
          }
          done++;
        }
      }));
      for (let round = 0; round < ROUNDS; round++) {
        const before = done;
        while (done < before + 200) await new Promise((resolve) => setTimeout(resolve, 1));
        await daemon.kill();
        daemon = await startStorageDaemon({ socket, disk: { file: disk }, queues: 2 });
        while (reached.device.returns <= round) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      const before = done;
      while (done < before + 200) await new Promise((resolve) => setTimeout(resolve, 1));
      going = false;
      await load;
      await blk.flush();
      assertEquals(await sha256(await readAll(blk, sectors)), await sha256(image));
      assertEquals(await sha256(readFile(disk)), await sha256(image));
      assertEquals(reached.device.returns, ROUNDS);
    } finally {
      await daemon.stop();
    }
  },
);

async function readAll(blk: VirtioBlk, sectors: number): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(sectors * SECTOR);
  for (let at = 0; at < sectors; at += 64) bytes.set(await blk.read(at, 64), at * SECTOR);
  return bytes;
}
