/** DPDK's driver and QEMU's on the embedded devices, through their sockets. */
import { assertEquals, assertGreater } from "@std/assert";
import { type EmulatedProcess, startEmulatedHost } from "../../cli/emulated_process.ts";
import { readFile, replaceFile, sendSignal } from "../../ffi/mod.ts";
import { assertNothingLeft, settledHoldings } from "../holdings.ts";
import { peerTest } from "./rig/needing.ts";
import { copyImage, imageBench, startImageBench } from "./rig/qemu.ts";
import { Testpmd, type VirtioUserOptions } from "./rig/testpmd.ts";

const MACS = ["00:01:02:03:04:05", "00:01:02:03:04:06"] as const;
const SIGKILL = 9;
/** Rounds of being killed; `-- --full` has a hundred. */
const ROUNDS = Deno.args.includes("--full") ? 100 : 3;
/** Frames that go around. */
const BURST = 32;

/** A host with these vhost-user devices, and nothing else. */
async function serve(
  folder: string,
  devices: readonly Readonly<Record<string, unknown>>[],
): Promise<EmulatedProcess> {
  const topology = `${folder}/topology.json`;
  replaceFile(topology, new TextEncoder().encode(JSON.stringify({ vhostUser: devices })));
  // DPDK's memory could shrink; it is copied, as that of anybody else.
  return await startEmulatedHost({ topology });
}

const PATHS: readonly (readonly [string, Partial<VirtioUserOptions>])[] = [
  ["split, mergeable", { inOrder: false }],
  ["split, vectorised", { mergeable: false, inOrder: false, vectorized: true }],
  ["split, in order, mergeable", {}],
  ["packed, mergeable", { packed: true, inOrder: false }],
  ["packed, in order, mergeable", { packed: true }],
  ["packed, vectorised", { packed: true, mergeable: false, vectorized: true }],
  ["split, two queue pairs", { inOrder: false, queues: 2 }],
  ["packed, two queue pairs", { packed: true, inOrder: false, queues: 2 }],
];

for (const [name, how] of PATHS) {
  peerTest(
    ["dpdk-testpmd"],
    `its driver, ${name}: frames from one embedded device to the other, and back`,
    async (folder) => {
      const sockets = ["a", "b"].map((one) => `${folder}/${one}.sock`);
      const served = await serve(
        folder,
        sockets.map((socket) => ({ socket, kind: "virtio-net", queuePairs: 2 })),
      );
      try {
        const port = (i: number) =>
          Testpmd.driver({
            socket: sockets[i]!,
            mac: MACS[i]!,
            cpu: i,
            args: [`--eth-peer=0,${MACS[1 - i]}`],
            ...how,
          });
        await using one = await port(0);
        await using other = await port(1);
        // Each sends to the other's address what it received from there.
        await other.forward("mac");
        await one.forward("mac", { frameBytes: 128, burst32: 1 });
        const seen = await one.countersUntil(({ rxPackets }) => rxPackets >= 20 * BURST);
        await one.halt();
        await other.halt();
        const [a, b] = [await one.counters(), await other.counters()];
        assertGreater(seen.rxPackets, 0);
        // What was under way when either stopped is at most what was put on the way.
        for (const [sent, received] of [[a.txPackets, b.rxPackets], [b.txPackets, a.rxPackets]] as const) {
          assertEquals(
            received <= sent && sent - received <= (how.queues ?? 1) * BURST,
            true,
            `${sent} sent, ${received} received`,
          );
        }
        assertEquals([a.rxErrors, a.txErrors, b.rxErrors, b.txErrors], [0, 0, 0, 0]);
        assertEquals(a.rxBytes, a.rxPackets * 128);
        assertEquals(served.violations(), []);
      } finally {
        await served.stop();
      }
    },
  );
}

peerTest(
  ["dpdk-testpmd"],
  "its driver is killed under load, round by round, and another gets the device",
  async (folder) => {
    const socket = `${folder}/a.sock`;
    const served = await serve(folder, [{ socket, kind: "virtio-net" }]);
    try {
      const idle = await settledHoldings(served.pid);
      for (let round = 0; round < ROUNDS; round++) {
        await using driver = await Testpmd.driver({ socket, packed: round % 2 === 1 });
        await driver.forward("txonly");
        await driver.countersUntil(({ txPackets }) => txPackets > 1000);
        await driver.kill();
      }
      assertEquals(served.violations(), []);
      assertNothingLeft(await settledHoldings(served.pid), idle, "the host keeps what a driver left");
    } finally {
      await served.stop();
    }
  },
);

for (const packed of [false, true]) {
  peerTest(
    ["dpdk-testpmd"],
    `the embedded device is killed under its driver, which listens, and comes back, ${
      packed ? "packed" : "split"
    }: it goes on sending`,
    async (folder) => {
      const socket = `${folder}/a.sock`;
      const devices = [{ socket, kind: "virtio-net", connect: true }];
      let served = await serve(folder, devices);
      try {
        await using driver = await Testpmd.driver({ socket, packed, server: true });
        await driver.forward("txonly");
        for (let round = 0; round < ROUNDS; round++) {
          const { txPackets } = await driver.counters();
          await driver.countersUntil((now) => now.txPackets > txPackets + 1000);
          assertEquals(served.violations(), []);
          sendSignal(served.pid, SIGKILL);
          await served.stop();
          served = await serve(folder, devices);
        }
        const { txPackets } = await driver.counters();
        const after = await driver.countersUntil((now) => now.txPackets > txPackets + 1000);
        assertEquals(after.txErrors, 0);
        assertEquals(served.violations(), []);
      } finally {
        await served.stop();
      }
    },
  );
}

peerTest(
  ["qemu-img", "libblkio of qemu-img"],
  "its driver is killed while it writes, round by round: what was there or what was written is on the disk, and nothing else",
  async (folder) => {
    const [socket, disk, copy] = [`${folder}/blk.sock`, `${folder}/disk.img`, `${folder}/copy.img`];
    const sizeBytes = 4 << 20;
    for (const file of [disk, copy]) replaceFile(file, new Uint8Array(sizeBytes));
    // It copies 2 MiB at once, whatever size_max says.
    const served = await serve(folder, [{ socket, kind: "virtio-blk", file: disk, sizeMax: sizeBytes }]);
    try {
      const idle = await settledHoldings(served.pid);
      for (let round = 1; round <= ROUNDS; round++) {
        const pattern = 1 + round % 255;
        const bench = startImageBench({ socket, requests: 10_000_000, depth: 64, write: pattern });
        const written = () => readFile(disk).subarray(0, 4096).every((byte) => byte === pattern);
        await bench.until(written, "write its first block");
        await bench.kill();
        await settledHoldings(served.pid);
        // A block is written as a whole, of this round or of one before.
        const image = readFile(disk);
        for (let at = 0; at < sizeBytes; at += 4096) {
          const block = image.subarray(at, at + 4096);
          assertEquals(block.every((byte) => byte === block[0]), true, `round ${round}, block at ${at}`);
        }
      }
      assertEquals(served.violations(), []);
      await copyImage({ socket }, { file: copy });
      assertEquals(readFile(copy), readFile(disk));
      assertNothingLeft(await settledHoldings(served.pid), idle, "the host keeps what a driver left");
    } finally {
      await served.stop();
    }
  },
);

peerTest(
  ["qemu-img", "libblkio of qemu-img"],
  "its driver writes and reads an embedded disk",
  async (folder) => {
    const [socket, disk, copy] = [`${folder}/blk.sock`, `${folder}/disk.img`, `${folder}/copy.img`];
    for (const file of [disk, copy]) replaceFile(file, new Uint8Array(1 << 20));
    const served = await serve(folder, [{ socket, kind: "virtio-blk", file: disk }]);
    try {
      assertGreater(await imageBench({ socket, requests: 16, depth: 4, write: 0x5a }), 0);
      assertEquals(readFile(disk).subarray(0, 16 * 4096).every((byte) => byte === 0x5a), true);
      await copyImage({ socket }, { file: copy });
      assertEquals(readFile(copy), readFile(disk));
      assertEquals(served.violations(), []);
    } finally {
      await served.stop();
    }
  },
);
