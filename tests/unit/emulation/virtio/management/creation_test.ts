import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { NET_KIND } from "../../../../../lib/emulation/virtio/net/kind.ts";
import { ExhaustedError } from "../../../../../lib/errors/mod.ts";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import {
  ACK,
  aligned,
  BLOCK,
  CMD,
  CONSOLE,
  ENTROPY,
  header,
  ManagementRig,
  NET,
  number,
  OWN_TYPE,
  PACKED,
  rigWith,
  RING_RESET,
  RULES,
  TRANSPT_VQ,
  TRANSPT_VQ_MDEV,
  u16,
  u64,
  u8,
} from "./rig.ts";

const MAC = 1n << 5n, STATUS = 1n << 16n, CTRL_VQ = 1n << 17n, MQ = 1n << 22n, MTU = 1n << 3n;
const RO = 1n << 5n, BLK_MQ = 1n << 12n, BLK_SIZE = 1n << 6n;

/** virtio_net_config: mac, status, max_virtqueue_pairs, mtu. */
const netConfig = (
  mac: readonly number[],
  pairs = 0,
  mtu = 0,
) => [...mac, ...u16(0), ...u16(pairs), ...u16(mtu)];
const MY_MAC = [0x52, 0x54, 0, 0xaa, 0xbb, 0xcc];
/** virtio_blk_config up to num_queues. */
const blkConfig = (sectors: bigint, queues = 0, blockSize = 0) => {
  const bytes = new Array<number>(36).fill(0);
  bytes.splice(0, 8, ...u64(sectors));
  bytes.splice(20, 2, ...u16(blockSize));
  bytes.splice(34, 2, ...u16(queues));
  return bytes;
};

Deno.test("N-4.1: FEATURES_OK is refused for TRANSPT_VQ_MDEV without TRANSPT_VQ; without either, no command is carried out", () => {
  using rig = new ManagementRig();
  assertEquals(rig.fn.offered & (TRANSPT_VQ | TRANSPT_VQ_MDEV), TRANSPT_VQ | TRANSPT_VQ_MDEV);
  assertEquals(rig.fn.negotiate(RULES | TRANSPT_VQ_MDEV), false);
  assertEquals(rig.rules(), ["1.2"]);
  for (const accepted of [RULES, RULES | TRANSPT_VQ]) {
    using other = new ManagementRig({ accepted });
    assertEquals(other.ack("availRes"), ACK.notNegotiated);
    assertEquals(other.ack("create", 0, aligned.attribute(ENTROPY, RULES)), ACK.notNegotiated);
    assertEquals(other.model.devices.size, 0);
  }
});

Deno.test("feature bits are the topology's to choose, and a command needs those", () => {
  using rig = new ManagementRig({
    transportBit: 50,
    managedBit: 51,
    accepted: RULES | 1n << 50n | 1n << 51n,
  });
  assertEquals(rig.fn.offered & (TRANSPT_VQ | TRANSPT_VQ_MDEV), 0n);
  assertEquals(rig.resources, [64, 1, 16, 64]);
});

Deno.test("N-4.2: AVAIL_RES and CREATE are for device 0 alone, and change nothing otherwise", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY);
  for (const device of [id, 77n]) {
    assertEquals(rig.ack("availRes", device), ACK.deviceId);
    assertEquals(rig.ack("create", device, aligned.attribute(ENTROPY, RULES)), ACK.deviceId);
  }
  assertEquals(rig.rules(), ["N-4.2", "N-4.2", "N-4.2", "N-4.2"]);
  assertEquals([rig.model.devices.size, rig.resources], [1, [63, 1, 16, 63]]);
});

Deno.test("N-4.3, A-4.14: features beyond the management device's, or beyond the type's, are refused; the transport's own bits do not count", () => {
  using rig = new ManagementRig({ minQueues: 3 });
  const ack = (type: number, features: bigint, config: readonly number[] = []) =>
    rig.ack("create", 0, aligned.attribute(type, features, config));
  assertEquals(ack(ENTROPY, RULES | 1n << 46n), ACK.features, "nobody offers bit 46");
  assertEquals(ack(ENTROPY, RULES | 1n << 43n), ACK.features, "nor SUSPEND");
  assertEquals(ack(ENTROPY, RULES | 1n), ACK.features, "an entropy device has no features");
  assertEquals(ack(NET, RULES | 1n), ACK.features, "this network device has no CSUM");
  assertEquals(ack(NET, RULES | MQ | CTRL_VQ, netConfig(MY_MAC, 1)), ACK.features, "one pair needs no MQ");
  assertEquals(ack(ENTROPY, 1n << 33n), ACK.features, "no VERSION_1");
  assertEquals(new Set(rig.rules()), new Set(["N-4.3"]));
  assertEquals(rig.resources, [64, 3, 16, 21]);
  const both = rig.create(ENTROPY, RULES | TRANSPT_VQ | TRANSPT_VQ_MDEV | PACKED);
  assertEquals(number(rig.ok("deviceFeatures", both)), RULES | PACKED);
});

Deno.test("A-4.14: what the management device does not offer, its managed devices cannot", () => {
  using rich = new ManagementRig();
  assertEquals(rich.ack("create", 0, aligned.attribute(ENTROPY, RULES | PACKED | RING_RESET)), ACK.ok);
  using poor = new ManagementRig({ featuresOff: ["VIRTIO_F_RING_PACKED", "VIRTIO_F_RING_RESET"] });
  assertEquals(poor.fn.offered & (PACKED | RING_RESET), 0n);
  for (const feature of [PACKED, RING_RESET]) {
    assertEquals(poor.ack("create", 0, aligned.attribute(ENTROPY, RULES | feature)), ACK.features);
  }
});

Deno.test("A-4.14: bits 0 to 23 and 50 to 63 are compared with what the type's model has, 24 to 49 with the management device", () => {
  const bits = [23, 24, 49, 50, 55, 63];
  const taken = (features: bigint) => {
    using rig = rigWith(() => Object.assign(new RngModel(), { features }));
    return bits.filter((bit) => {
      const { ack, data } = rig.command("create", 0, aligned.attribute(OWN_TYPE, RULES | 1n << BigInt(bit)));
      if (ack !== ACK.ok) return false;
      assertEquals(number(rig.ok("deviceFeatures", number(data))), RULES | 1n << BigInt(bit));
      return true;
    });
  };
  assertEquals(taken(bits.reduce((all, bit) => all | 1n << BigInt(bit), 0n)), [23, 50, 55, 63]);
  assertEquals(taken(0n), []);
});

Deno.test("A-4.14: the transport's own bits are masked out first, also where they are chosen among a type's", () => {
  const [transportBit, managedBit] = [50, 51];
  const bits = 1n << 50n | 1n << 51n;
  using rig = new ManagementRig({ transportBit, managedBit, accepted: RULES | bits });
  assertEquals(number(rig.ok("deviceFeatures", rig.create(ENTROPY, RULES | bits))), RULES);
});

Deno.test("what only PCI knows a managed device never offers: SR_IOV, NOTIF_CONFIG_DATA, ADMIN_VQ", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY, RULES | 1n << 37n | 1n << 39n | 1n << 41n);
  assertEquals(number(rig.ok("deviceFeatures", id)), RULES);
});

Deno.test("N-4.4, A-4.10: an id of 64 bits that nobody had before, not even after DESTROY or a reset of the management device", () => {
  using rig = new ManagementRig();
  const seen = new Set<bigint>();
  for (let round = 0; round < 3; round++) {
    for (let i = 0; i < 5; i++) {
      const data = rig.ok("create", 0, aligned.attribute(ENTROPY, RULES));
      assertEquals(data.length, 8);
      const id = number(data);
      assert(id !== 0n && !seen.has(id));
      seen.add(id);
      if (i % 2 === 0) rig.ok("destroy", id);
    }
    rig.start();
  }
  assertEquals(seen.size, 15);
});

Deno.test("N-4.4, A-4.33: DESTROY fails for device 0 and for one that is not there; what it ended is gone for every class", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY);
  assertEquals(rig.ack("destroy", 0), ACK.deviceId);
  assertEquals(rig.rules(), ["N-4.4"]);
  assertEquals(rig.ack("destroy", 1234n), ACK.noDevice);
  rig.ok("destroy", id);
  rig.rules();
  for (const [name, [ofClass, command]] of Object.entries(CMD)) {
    if (name === "availRes" || name === "create") continue;
    assertEquals(
      rig.raw([...header(ofClass, command, id), ...new Array(40).fill(0)], 72).ack,
      ACK.noDevice,
      name,
    );
    assertEquals(rig.rules(), ["A-4.33"]);
  }
});

Deno.test("A-4.26: a device that runs is reset by DESTROY: its queue is not touched any more, and others go on", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  const other = rig.entropy();
  assertEquals(rig.draw(ring), 32);
  const device = rig.model.devices.get(id)!;
  rig.ok("destroy", id);
  const { status, driverFeatures, live, queues: [queue] } = device.core;
  assertEquals([status, driverFeatures, live, queue!.enabled], [0, 0n, false, false]);
  device.wake();
  assertEquals([rig.draw(ring), device.core.poll(16), rig.draw(other.ring)], [0, 0, 32]);
  assertEquals(rig.rules(), []);
});

Deno.test("A-4.34: a reset of the management device ends its devices and their ids; AVAIL_RES is as at the start", () => {
  using rig = new ManagementRig();
  const before = rig.resources;
  const { id, ring } = rig.entropy();
  rig.create(BLOCK, RULES, blkConfig(8n));
  rig.create(NET, RULES, []);
  assertNotEquals(rig.resources, before);
  rig.fn.status = 0;
  assertEquals(rig.model.devices.size, 0);
  assertEquals(rig.models.of(NET_KIND).reports.switch(), [], "it left the switch");
  rig.start();
  assertEquals(rig.resources, before);
  assertEquals(rig.ack("getStatus", id), ACK.noDevice);
  assertEquals(rig.draw(ring), 0);
});

Deno.test("A-4.13: AVAIL_RES says what is not given away now, and how many smallest devices that is enough for", () => {
  using rig = new ManagementRig({ virtqueues: 10, minQueues: 2, maxQueues: 6, devices: 4 });
  assertEquals(rig.resources, [10, 2, 6, 4]);
  const first = rig.create(ENTROPY);
  assertEquals(rig.resources, [8, 2, 6, 3], "a device of one queue takes the least");
  const second = rig.create(BLOCK, RULES | BLK_MQ, blkConfig(8n, 5));
  assertEquals(rig.resources, [3, 2, 6, 1]);
  assertEquals(
    rig.ack("create", 0, aligned.attribute(BLOCK, RULES | BLK_MQ, blkConfig(8n, 4))),
    ACK.resources,
  );
  assertEquals(
    rig.ack("create", 0, aligned.attribute(BLOCK, RULES | BLK_MQ, blkConfig(8n, 7))),
    ACK.resources,
  );
  assertEquals(rig.resources, [3, 2, 6, 1], "what was refused took nothing");
  const third = rig.create(ENTROPY);
  assertEquals(rig.resources, [1, 2, 6, 0]);
  assertEquals(rig.ack("create", 0, aligned.attribute(ENTROPY, RULES)), ACK.resources);
  for (const id of [second, first, third]) rig.ok("destroy", id);
  assertEquals(rig.resources, [10, 2, 6, 4]);
  assertEquals(rig.rules(), [], "to ask for what there is no more of breaks no rule");
});

Deno.test("A-4.13: the number of devices is limited, too; A-4.12: with min = max all devices take as much", () => {
  using rig = new ManagementRig({ virtqueues: 12, minQueues: 4, maxQueues: 4, devices: 2 });
  assertEquals(rig.resources, [12, 4, 4, 2]);
  rig.create(ENTROPY);
  rig.create(BLOCK, RULES | BLK_MQ, blkConfig(8n));
  assertEquals(rig.resources, [4, 4, 4, 0]);
  assertEquals(rig.ack("create", 0, aligned.attribute(ENTROPY, RULES)), ACK.resources);
});

Deno.test("A-4.16: queues come from the type's configuration, else there are min_mdev_vqs", () => {
  using rig = new ManagementRig({ minQueues: 5 });
  const queues = (id: bigint) => {
    for (let queue = 0;; queue++) if (rig.ack("getSize", id, u16(queue)) !== ACK.ok) return queue;
  };
  const net = RULES | MAC | STATUS | CTRL_VQ | MQ;
  assertEquals(queues(rig.create(NET, net, netConfig(MY_MAC, 3))), 7);
  assertEquals(queues(rig.create(NET, net, netConfig(MY_MAC))), 5);
  assertEquals(queues(rig.create(NET, net)), 5, "no configuration at all");
  assertEquals(
    queues(rig.create(NET, net & ~MQ, netConfig(MY_MAC, 3))),
    3,
    "without MQ the field means nothing",
  );
  assertEquals(queues(rig.create(BLOCK, RULES | BLK_MQ, blkConfig(8n, 2))), 2);
  assertEquals(queues(rig.create(BLOCK, RULES | BLK_MQ, blkConfig(8n))), 5);
  assertEquals(queues(rig.create(BLOCK, RULES, blkConfig(8n, 4))), 1);
  assertEquals(queues(rig.create(ENTROPY)), 1);
});

Deno.test("A-4.16: what CREATE gave, the config space shows; what cannot be is refused", () => {
  using rig = new ManagementRig();
  const config = (
    id: bigint,
    offset: number,
    size: number,
  ) => [...rig.ok("getConfig", id, aligned.span(offset, size))];
  const nic = rig.create(NET, RULES | MAC | MTU, netConfig(MY_MAC, 0, 9000));
  assertEquals(config(nic, 0, 6), MY_MAC);
  assertEquals(config(nic, 10, 2), u16(9000));
  const own = rig.create(NET, RULES);
  assertEquals(config(own, 0, 6), [0x56, 0, 1, 0, 0, Number(own)], "an address of its own");
  const disk = rig.create(BLOCK, RULES | BLK_SIZE | RO, blkConfig(4096n, 0, 4096));
  assertEquals(config(disk, 0, 8), u64(4096));
  assertEquals(config(disk, 20, 4), [0, 16, 0, 0]);
  assertEquals(number(rig.ok("deviceFeatures", disk)), RULES | BLK_SIZE | RO);
  const refused = (type: number, features: bigint, bytes: readonly number[]) =>
    rig.ack("create", 0, aligned.attribute(type, RULES | features, bytes));
  assertEquals(refused(BLOCK, 0n, []), ACK.config, "a disk without sectors");
  assertEquals(refused(BLOCK, 0n, blkConfig(1n << 40n)), ACK.config, "more than there is");
  assertEquals(refused(BLOCK, BLK_SIZE, blkConfig(8n, 0, 100)), ACK.config, "100 is no block size");
  assertEquals(refused(NET, MAC, netConfig([1, 2, 3, 4, 5, 6])), ACK.config, "a multicast address");
  assertEquals(refused(NET, MTU, netConfig(MY_MAC, 0, 20)), ACK.config);
  assertEquals(refused(NET, MQ | CTRL_VQ, netConfig(MY_MAC, 1000)), ACK.config);
  assertEquals(new Set(rig.rules()), new Set(["A-4.16"]));
  assertEquals(refused(CONSOLE, 0n, []), ACK.type);
  assertEquals(refused(77, 0n, []), ACK.type);
  assertEquals(refused(63, 0n, []), ACK.type, "no management device behind a management device");
  assertEquals(rig.model.devices.size, 3);
});

Deno.test("A-4.15: what is longer than it need be is cut: a configuration, out-data, room for in-data", () => {
  using rig = new ManagementRig();
  const long = aligned.attribute(BLOCK, RULES, [...blkConfig(16n), ...new Array(2000).fill(0xff)]);
  const { ack, used, data } = rig.command("create", 0, long, 500);
  assertEquals([ack, used, data.length], [ACK.ok, 16, 8]);
  const id = number(data);
  assertEquals([...rig.ok("getConfig", id, [...aligned.span(0, 8), 9, 9, 9])], u64(16));
  assertEquals(rig.command("setStatus", id, [...u8(1), 2, 3, 4]).used, 8);
  assertEquals(rig.status(id), 1);
  // Features are 64 bits, whatever follows them.
  const mask = 0x8123_4567_89ab_cdefn;
  rig.ok("setFeatures", id, [...u64(mask), 0xff, 0xff]);
  const features = rig.ok("driverFeatures", id);
  assertEquals([features.length, number(features)], [8, mask]);
});

Deno.test("network devices are ports of the management function's switch, by their ids", () => {
  using rig = new ManagementRig({ switch: "blue" });
  const first = rig.create(NET, RULES | MAC, netConfig(MY_MAC));
  rig.create(NET);
  const ports = () => rig.models.of(NET_KIND).reports.switch().map((one) => [one.switch, one.function]);
  assertEquals(ports(), [["blue", "0000:01:00.0/1"], ["blue", "0000:01:00.0/2"]]);
  rig.ok("destroy", first);
  assertEquals(ports(), [["blue", "0000:01:00.0/2"]]);
  rig.fn.behaviour.detached();
  assertEquals(ports(), [], "the driver is gone");
});

Deno.test("/ringside/managed lists the devices with what they are and how far they are driven", () => {
  using rig = new ManagementRig();
  const { id } = rig.entropy();
  rig.create(BLOCK, RULES | BLK_MQ, blkConfig(8n, 3));
  const report = rig.models.reports.managed!();
  assertEquals(report, [
    {
      function: "0000:01:00.0",
      id: `${id}`,
      deviceId: 4,
      status: 15,
      features: "0x300000000",
      queues: 1,
      enabled: 1,
    },
    { function: "0000:01:00.0", id: "2", deviceId: 2, status: 0, features: "0x0", queues: 3, enabled: 0 },
  ]);
});

Deno.test("a device that fails when it takes its place takes nothing with it, and CREATE says so", () => {
  let closed = 0;
  class Failing extends RngModel {
    override connect(): void {
      throw new ExhaustedError("no more room on this host");
    }
    close(): void {
      closed++;
    }
  }
  using rig = rigWith(() => new Failing());
  const before = rig.resources;
  for (let i = 0; i < 5; i++) {
    assertEquals(rig.ack("create", 0, aligned.attribute(OWN_TYPE, RULES)), ACK.resources);
  }
  assertEquals([closed, rig.resources, rig.model.devices.size], [5, before, 0]);
  assert(rig.fn.port.take()[0]!.includes("no more room on this host"));
  assertEquals(rig.create(ENTROPY), 1n, "an id that nobody got is not lost");
});
