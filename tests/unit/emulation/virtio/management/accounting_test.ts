import { assertEquals } from "@std/assert";
import { ManagementResources, type Share } from "../../../../../lib/emulation/virtio/management/resources.ts";
import { Random } from "../../../../random.ts";
import {
  ACK,
  aligned,
  BLOCK,
  ENTROPY,
  ManagementRig,
  NET,
  number,
  RING_RESET,
  RULES,
  u16,
  u64,
  u8,
} from "./rig.ts";

Deno.test("A-4.13: shares never overlap, and what is given back is all there again", () => {
  const numbers = new Random(4013);
  const random = (below: number) => numbers.below(below);
  for (let round = 0; round < 50; round++) {
    const virtqueues = 1 + random(40), minQueues = 1 + random(virtqueues);
    const maxQueues = minQueues + random(virtqueues - minQueues + 1), devices = 1 + random(20);
    const resources = new ManagementResources({ virtqueues, minQueues, maxQueues, devices });
    const start = resources.available;
    const shares: Share[] = [];
    for (let step = 0; step < 200; step++) {
      if (random(2) === 0 && shares.length > 0) {
        resources.giveBack(shares.splice(random(shares.length), 1)[0]!);
      } else {
        const queues = 1 + random(maxQueues + 2);
        const { num_avail_vqs, num_avail_mdev } = resources.available;
        const fits = Math.max(queues, minQueues) <= Math.min(maxQueues, num_avail_vqs) && num_avail_mdev > 0;
        const share = resources.take(queues);
        assertEquals(share !== undefined, fits);
        if (share !== undefined) shares.push(share);
      }
      const places = shares.flatMap((share) => share.places);
      assertEquals(new Set(places).size, places.length);
      assertEquals(places.every((place) => place >= 0 && place < virtqueues), true);
      const taken = shares.reduce((sum, share) => sum + share.virtqueues, 0);
      const left = virtqueues - taken;
      assertEquals(resources.available, {
        num_avail_vqs: left,
        min_mdev_vqs: minQueues,
        max_mdev_vqs: maxQueues,
        num_avail_mdev: Math.min(devices - shares.length, Math.floor(left / minQueues)),
      });
    }
    for (const share of shares) resources.giveBack(share);
    assertEquals(resources.available, start);
  }
});

Deno.test("A-4.13, A-4.10, A-4.34: AVAIL_RES is right after every command of a driver that does what it likes", () => {
  const numbers = new Random(4034);
  const random = (below: number) => numbers.below(below);
  using rig = new ManagementRig({ virtqueues: 20, minQueues: 2, maxQueues: 9, devices: 6 });
  const alive = new Map<bigint, number>();
  let last = 0n;
  const pick = () => [...alive.keys()][random(Math.max(1, alive.size))] ?? 999_999n;
  const destroy = () => {
    const id = pick();
    assertEquals(rig.command("destroy", id).ack === ACK.ok, alive.delete(id));
  };
  const create = () => {
    const queues = 1 + random(10);
    const [type, features, config, has] = random(3) === 0
      ? [ENTROPY, 0n, [], 1] as const
      : random(2) === 0
      ? [BLOCK, 1n << 12n, [...u64(8), ...new Array(26).fill(0), ...u16(queues)], queues] as const
      : [NET, 0n, [], 2] as const;
    // A single queue needs no MQ, which is then refused as a feature too many.
    const { ack, data } = rig.command(
      "create",
      0,
      aligned.attribute(type, RULES | RING_RESET | features, config),
    );
    if (ack !== ACK.ok) return;
    const id = number(data);
    assertEquals(id > last, true);
    last = id;
    alive.set(id, Math.max(2, has));
  };
  for (let step = 0; step < 3000; step++) {
    const what = random(100);
    if (what < 40) create();
    else if (what < 60) destroy();
    else if (what < 80) rig.command("setStatus", pick(), u8(random(16)));
    else if (what < 90) rig.command("setEnable", pick(), aligned.byte(random(10), random(3)));
    else if (what < 99) rig.command("reset", pick(), u16(random(4)));
    else {
      rig.start();
      alive.clear();
    }
    const taken = [...alive.values()].reduce((sum, queues) => sum + queues, 0);
    assertEquals(rig.resources, [20 - taken, 2, 9, Math.min(6 - alive.size, Math.floor((20 - taken) / 2))]);
    assertEquals([...rig.model.devices.keys()], [...alive.keys()]);
    rig.rules();
  }
  rig.start();
  assertEquals(rig.resources, [20, 2, 9, 6]);
});

Deno.test("a thousand devices that nothing happens to leave the function idle, and AVAIL_RES returns to its start", () => {
  using rig = new ManagementRig({ virtqueues: 1000 });
  const devices = Array.from({ length: 1000 }, () => rig.create(ENTROPY));
  assertEquals(rig.resources, [0, 1, 16, 0]);
  assertEquals(rig.ack("create", 0, aligned.attribute(ENTROPY, RULES)), ACK.resources);
  // Those that nothing happens to fall asleep: then the function has nothing to do.
  for (let i = 0; i < 10_000 && rig.fn.behaviour.arm(); i++) rig.fn.behaviour.poll(64);
  assertEquals(rig.fn.behaviour.arm(), false);
  for (const id of devices) rig.ok("destroy", id);
  assertEquals(rig.resources, [1000, 1, 16, 1000]);
});
