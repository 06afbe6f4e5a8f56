import { assert, assertEquals } from "@std/assert";
import { BlkModel } from "../../../../../lib/emulation/virtio/blk/model.ts";
import type { DeviceModel } from "../../../../../lib/emulation/device_model.ts";
import { NetModel } from "../../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../../lib/emulation/virtio/net/switch.ts";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import { mac } from "../fake_nic.ts";
import type { DmaRegion } from "../../../../../lib/sockets/dma_table.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import { FakeLegacy } from "../fake_legacy.ts";
import { AdminRig, type Answer, OK, outcome } from "./rig.ts";

const COMMON_WRITE = 2, COMMON_READ = 3, DEVICE_WRITE = 4, DEVICE_READ = 5, MODE = 0x11;
const EVENTS = rounds(10_000, 500);
/** Above 4 GiB. */
const IOVA = 0x3_0000_0000n;
const SIZE = 0x20000;
const FIRST_PAGE = Number(IOVA / 4096n);
const BUFFERS = 0x18000;
const NEXT = 1, WRITE = 2;
const little = (value: number, width: number) =>
  Array.from({ length: width }, (_, i) => Math.floor(value / 256 ** i) & 0xff);

/** Length and flags of each part of a chain that the device can do something with. */
type Parts = (queue: number) => readonly (readonly [number, number])[];
const MODELS: readonly (readonly [string, () => DeviceModel, Parts])[] = [
  ["entropy", () => new RngModel({ queueSize: 64 }), () => [[64, WRITE]]],
  [
    "network",
    () => new NetModel(new NetSwitch("s0"), { mac: mac(1), queueSize: 64, queuePairs: 1 }),
    (queue) => queue === 1 ? [[100, 0]] : [[640, WRITE]],
  ],
  [
    "block",
    () => new BlkModel({ sizeBytes: 64 * 512, queueSize: 64 }),
    () => [[16, NEXT], [512, NEXT | WRITE], [1, WRITE]],
  ],
];

for (const [name, make, parts] of MODELS) {
  Deno.test(campaign(
    `N-3.7 N-3.14 a legacy ${name} driver's life by commands, and resets, stops, DMA and VFs that go at every point of it`,
    () => {
      const random = new Random(name.length * 7919);
      const pick = <T>(of: readonly T[]): T => of[random.below(of.length)]!;
      using rig = new AdminRig({ legacyNotify: "both" }).start().enableVfs(2).useParts();
      using vf = new FakeLegacy(make());
      const place = rig.controller.place(0);
      place.join(vf.front.groupMember);
      const { port, client } = vf.fn;
      const dma = port.dma!;
      /** Rings and buffers, while they are mapped. */
      let region: DmaRegion | null = client.map(IOVA, SIZE);
      let here = true, live = 0, moved = 0;

      const command = (opcode: number, data: number[], room = 0): Answer =>
        rig.command({ opcode, data, room }, random.below(2));
      const write = (offset: number, width: number, value: number) =>
        command(COMMON_WRITE, [offset, 0, 0, 0, 0, 0, 0, 0, ...little(value, width)]);
      /** A notification, by any way that there is. */
      const notify = (queue: number) => {
        const way = random.below(4);
        if (way === 0) write(16, 2, queue);
        else if (way === 1 && here) vf.fn.write(0x4000, 2, queue);
        else if (way === 2) rig.fn.write(0x4000, 2, queue);
        else if (here) vf.front.rang(4, 0x3000 + 4 * (queue % 4));
      };
      /** Makes one more chain available in a ring that is where the registers say, if they say something. */
      const offer = (queue: number) => {
        const report = vf.front.queueReport().queues[queue];
        const area = Number(BigInt(report?.descriptorArea ?? 0) - IOVA);
        if (report?.enabled !== true || region === null || area < 0 || area >= SIZE - 0x2000) return;
        const view = new DataView(region.memory.buffer);
        const index = view.getUint16(area + 1024 + 2, true);
        // A chain takes four descriptors, round and round.
        const head = 4 * (index % 16);
        parts(queue).forEach(([length, flags], at) => {
          const wild = random.below(64) === 0;
          const iova = wild ? IOVA + BigInt(random.below(SIZE + 4096)) : IOVA + BigInt(BUFFERS + 1024 * at);
          view.setBigUint64(area + 16 * (head + at), iova, true);
          view.setUint32(area + 16 * (head + at) + 8, length, true);
          view.setUint16(area + 16 * (head + at) + 12, wild ? random.below(8) : flags, true);
          view.setUint16(area + 16 * (head + at) + 14, head + at + 1, true);
        });
        view.setUint16(area + 1024 + 4 + 2 * (index % 64), head, true);
        view.setUint16(area + 1024 + 2, index + 1, true);
      };
      const bringUp = () => {
        if (region !== null) new Uint8Array(region.memory.buffer).fill(0);
        const features = pick([0, 1 << 28, 1 << 29]);
        const rings = [0, 1].flatMap((queue) => [[14, 2, queue], [8, 4, FIRST_PAGE + 2 * queue]]);
        for (
          const [offset, width, value] of [[18, 1, 0], [18, 1, 1], [18, 1, 3], [4, 4, features], ...rings]
        ) {
          assertEquals(outcome(write(offset!, width!, value!)), OK);
        }
      };
      /** What the device could have written. */
      const memory = () => region === null ? null : new Uint8Array(region.memory.buffer).slice();

      /** What went comes back, but for what only a reset of the device helps against. */
      const heal = () => {
        port.busMaster = true;
        region ??= client.map(IOVA, SIZE);
        if (port.dma === null) {
          port.dma = dma;
          vf.fn.behaviour.attached();
        }
        if (!here) {
          rig.fn.behaviour.vfsEnabled!(2);
          place.join(vf.front.groupMember);
          here = true;
        }
        assertEquals(outcome(command(MODE, [0])), OK);
      };

      for (let i = 0; i < EVENTS; i++) {
        if (random.below(12) === 0) heal();
        const event = random.below(96);
        if (event < 8) {
          if (here) {
            bringUp();
            write(18, 1, 7);
          }
        } else if (event < 10) {
          write(14, 2, random.below(4));
          const page = FIRST_PAGE + random.below(8);
          write(8, 4, pick([page, page, page, 0, random.next()]));
        } else if (event < 12) write(18, 1, pick([7, 7, 7, 0x87, 15, 0]));
        else if (event < 44) {
          const queue = random.below(2);
          offer(queue);
          if (event < 34) notify(queue);
        } else if (event < 46) notify(random.below(5));
        else if (event < 50) command(pick([COMMON_READ, DEVICE_READ]), [random.below(26)], pick([1, 2, 4]));
        else if (event < 52) {
          command(DEVICE_WRITE, [random.below(12), ...new Array(7).fill(0), random.next() & 0xfe]);
        } else if (event < 55) write(pick([20, 22]), 2, random.below(8));
        else if (event < 58) command(MODE, [random.next() & 1]);
        else if (event < 61) port.busMaster = random.below(2) === 0;
        else if (event < 64) port.msixEnabled = random.below(2) === 0;
        else if (event < 65) vf.fn.behaviour.reset(pick(["flr", "device"] as const));
        else if (event < 66) {
          if (port.dma !== null) {
            vf.fn.behaviour.reset("detached");
            port.dma = null;
            vf.fn.behaviour.detached();
          }
        } else if (event < 67) {
          if (region !== null) dma.remove(IOVA, BigInt(SIZE));
          region = null;
        } else if (event < 68) {
          if (here) {
            rig.restart();
            rig.useParts();
          }
        } else if (event < 69) {
          if (here) {
            rig.fn.behaviour.vfsEnabled!(0);
            place.leave();
          }
          here = false;
        } else if (event < 72) {
          vf.fn.write(pick([20, 22, 24, 28, 32, 0x3000]), pick([1, 2, 4]), random.next() & 0xff);
        } else {
          // A device that may not touch memory does not.
          const quiet = !vf.front.core.live;
          const before = quiet ? memory() : null;
          const sent = port.vectors.length;
          moved += vf.run();
          vf.fn.behaviour.arm();
          if (quiet) {
            assertEquals(memory(), before);
            assertEquals(port.vectors.length, sent);
          }
        }
        if (vf.front.core.live) {
          live++;
          assert(vf.front.core.legacy && port.busMaster && port.dma !== null && !vf.front.core.parts.stopped);
          assertEquals(vf.status & 0xc0, 0);
        }
        rig.rules();
        port.vectors.length = 0;
      }
      assert(live > EVENTS / 20, `live after ${live} of ${EVENTS} events`);
      assert(moved > EVENTS / 100, `${moved} chains were moved`);
      assert(port.reports.length < 64 * 256);

      // Whatever has become of it: a driver that begins anew finds a device.
      heal();
      port.msixEnabled = false;
      vf.fn.behaviour.reset("flr");
      bringUp();
      assertEquals(outcome(write(18, 1, 7)), OK);
      const status = command(COMMON_READ, [18], 1);
      assertEquals([...outcome(status), ...status.result, vf.front.core.live], [0, 0, 7, true]);
    },
  ));
}
