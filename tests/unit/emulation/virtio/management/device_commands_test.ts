import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { NET_KIND } from "../../../../../lib/emulation/virtio/net/kind.ts";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import {
  ACK,
  aligned,
  BLOCK,
  CMD,
  type CommandName,
  ENTROPY,
  header,
  ManagementRig,
  NET,
  number,
  OWN_TYPE,
  PACKED,
  rigWith,
  RULES,
  u16,
  u32,
  u64,
  u8,
} from "./rig.ts";

const WCE = 1n << 11n, FLUSH = 1n << 9n, STATUS = 1n << 16n;
const WRITEBACK = 32, BLK_CONFIG_BYTES = 60;
const DISK = u64(8);

/** Commands for a managed device, with out-data that is in order. */
const FOR_DEVICES: readonly (readonly [CommandName, readonly number[]])[] = [
  ["deviceFeatures", []],
  ["setFeatures", u64(RULES)],
  ["driverFeatures", []],
  ["setStatus", u8(1)],
  ["getStatus", []],
  ["generation", []],
  ["getConfig", aligned.span(0, 0)],
  ["setConfig", aligned.span(0, 0)],
  ["msiSet", aligned.msi(0, 0n, 0)],
  ["msiEnable", aligned.byte(0, 1)],
  ["msiMask", aligned.byte(0, 0)],
  ["configMsiSet", aligned.configMsi(0n, 0)],
  ["configMsiEnable", u8(1)],
  ["configMsiMask", u8(0)],
  ["setAddress", aligned.areas(0, 0n, 0n, 0n)],
  ["setEnable", aligned.byte(0, 1)],
  ["getEnable", u16(0)],
  ["setSize", aligned.word(0, 8)],
  ["getSize", u16(0)],
  ["getNotify", u16(0)],
  ["setState", aligned.state(0, 0)],
  ["getState", u16(0)],
  ["setAsid", aligned.asid(0, 1)],
  ["reset", u16(0)],
];

Deno.test("N-4.5, A-4.6, A-4.11: every class but AVAIL_RES and CREATE fails for device 0", () => {
  using rig = new ManagementRig();
  for (const [name, out] of FOR_DEVICES) {
    assertEquals(rig.ack(name, 0, out), ACK.deviceId, name);
    assertEquals(rig.rules(), ["N-4.5"], name);
  }
});

Deno.test("4.1, A-4.5: what the draft does not have fails, and there is no way to read MSI settings back", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY);
  const there = new Set(Object.values(CMD).map(([ofClass, command]) => `${ofClass}.${command}`));
  let absent = 0;
  for (let ofClass = 0; ofClass < 17; ofClass++) {
    for (let command = 0; command < 8; command++) {
      if (there.has(`${ofClass}.${command}`)) continue;
      for (const device of [0n, id]) {
        const { ack, used } = rig.raw([...header(ofClass, command, device), ...new Array(40).fill(0)], 72);
        assertEquals([ack, used], [ACK.command, 8], `${ofClass}.${command}`);
        absent++;
      }
    }
  }
  assertEquals(absent, 2 * (17 * 8 - 27));
  assertEquals(rig.raw([...header(0xffff, 0xffff, 0), 0], 8).ack, ACK.command);
});

Deno.test("A-4.35: out-data one byte too short, or in-data with one byte of room too few: ERR, and nothing has changed", () => {
  using rig = new ManagementRig();
  const id = rig.create(BLOCK, RULES, DISK);
  const before = rig.models.reports.managed!();
  for (const [name, out] of FOR_DEVICES) {
    if (out.length === 0) continue;
    // What is longer than its fields in the aligned layout is padding, which counts.
    assertEquals(rig.ack(name, id, out.slice(0, -1)), ACK.outData, name);
    assertEquals(rig.ack(name, id, []), ACK.outData, name);
  }
  assertEquals(rig.ack("create", 0, aligned.attribute(ENTROPY, RULES).slice(0, -1)), ACK.outData);
  assertEquals(new Set(rig.rules()), new Set(["A-4.35"]));
  const room: readonly [CommandName, bigint, readonly number[], number][] = [
    ["availRes", 0n, [], 8],
    ["create", 0n, aligned.attribute(ENTROPY, RULES), 8],
    ["deviceFeatures", id, [], 8],
    ["driverFeatures", id, [], 8],
    ["getStatus", id, [], 1],
    ["generation", id, [], 1],
    ["getConfig", id, aligned.span(0, 8), 8],
    ["getEnable", id, u16(0), 1],
    ["getSize", id, u16(0), 2],
    ["getNotify", id, u16(0), 16],
    ["getState", id, u16(0), 2],
  ];
  for (const [name, device, out, bytes] of room) {
    assertEquals(rig.ack(name, device, out, bytes - 1), ACK.inData, name);
    assertEquals(rig.ack(name, device, out, 0), ACK.inData, name);
  }
  assertEquals(rig.models.reports.managed!(), before);
  assertEquals(rig.model.devices.size, 1);
  // exactly what is needed is enough, and scalars are as long as their type.
  for (const [name, device, out, bytes] of room) {
    if (name === "create") continue;
    assertEquals(rig.command(name, device, out, bytes).used, 8 + bytes, name);
  }
});

Deno.test("A-4.35: a command without a whole header, or without room for an acknowledgement, is not carried out", () => {
  using rig = new ManagementRig();
  const create = [...header(2, 0, 0), ...aligned.attribute(ENTROPY, RULES)];
  assertEquals(rig.raw(create.slice(0, 15), 8), { ack: ACK.outData, used: 8, data: new Uint8Array(0) });
  assertEquals(rig.raw([], 16).ack, ACK.outData);
  const id = rig.create(ENTROPY);
  const setStatus = [...header(4, 0, id), 1], destroy = header(2, 1, id);
  for (let writable = 0; writable < 8; writable++) {
    for (const command of [create, setStatus, destroy]) {
      assertEquals(rig.raw(command, writable).used, writable);
    }
  }
  assertEquals([rig.model.devices.size, rig.status(id)], [1, 0]);
  assertEquals(new Set(rig.rules()), new Set(["A-4.35"]));
});

Deno.test("A-4.35: an answer lies where the descriptors end, and a command where they begin", () => {
  using rig = new ManagementRig();
  const { client, rings } = rig.fn;
  const ring = rings.get(0)!;
  const bytes = [...header(2, 0, 0), ...aligned.attribute(ENTROPY, RULES)];
  for (let cut = 1; cut < bytes.length; cut += 3) {
    const at = client.allocate(bytes.length), answer = client.allocate(16);
    client.bytes.set(bytes, at);
    ring.add([
      { iova: client.at(at), length: cut },
      { iova: client.at(at + cut), length: bytes.length - cut },
      { iova: client.at(answer), length: cut % 16 || 1, write: true },
      { iova: client.at(answer + (cut % 16 || 1)), length: 16 - (cut % 16 || 1), write: true },
    ]);
    ring.publish();
    rig.fn.notify(0);
    rig.fn.run();
    assertEquals(ring.takeUsed().map(({ length }) => length), [16]);
    rig.ok("destroy", number(client.bytes.slice(answer + 8, answer + 16)));
  }
});

Deno.test("A-4.27: commands are carried out in the order of the ring, many at once", () => {
  using rig = new ManagementRig();
  const { client, rings } = rig.fn;
  const ring = rings.get(0)!;
  const id = rig.create(ENTROPY);
  const bodies = [
    [...header(4, 0, id), 1],
    [...header(4, 0, id), 3],
    [...header(4, 1, id)],
    [...header(2, 1, id)],
    [...header(4, 1, id)],
  ];
  const answers = bodies.map((body) => {
    const at = client.allocate(body.length), answer = client.allocate(16);
    client.bytes.set(body, at);
    client.bytes.fill(0xff, answer, answer + 16);
    ring.add([
      { iova: client.at(at), length: body.length },
      { iova: client.at(answer), length: 16, write: true },
    ]);
    return answer;
  });
  ring.publish();
  rig.fn.notify(0);
  rig.fn.run();
  assertEquals(ring.takeUsed().map(({ length }) => length), [8, 8, 9, 8, 8]);
  assertEquals(answers.map((at) => client.bytes[at]), [0, 0, 0, 0, ACK.noDevice]);
  assertEquals(client.bytes[answers[2]! + 8], 3);
});

Deno.test("features: offered, accepted, and read back; after FEATURES_OK no more (A-4.36)", () => {
  using rig = new ManagementRig();
  const id = rig.create(BLOCK, RULES | PACKED | WCE | FLUSH, DISK);
  assertEquals(number(rig.ok("deviceFeatures", id)), RULES | PACKED | WCE | FLUSH);
  assertEquals(number(rig.ok("driverFeatures", id)), 0n);
  rig.ok("setFeatures", id, u64(RULES | FLUSH));
  assertEquals(number(rig.ok("driverFeatures", id)), RULES | FLUSH);
  for (const status of [1, 3, 11]) rig.ok("setStatus", id, u8(status));
  assertEquals(rig.ack("setFeatures", id, u64(RULES)), ACK.state);
  assertEquals([number(rig.ok("driverFeatures", id)), rig.rules()], [RULES | FLUSH, ["A-4.36"]]);
  rig.ok("setStatus", id, u8(0));
  assertEquals(number(rig.ok("driverFeatures", id)), 0n, "a reset forgets them");
});

Deno.test("A-4.36: FEATURES_OK for features that cannot be is acknowledged, and stays clear", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY);
  for (const features of [RULES | 1n << 28n, 1n << 32n]) {
    rig.ok("setStatus", id, u8(0));
    for (const status of [1, 3]) rig.ok("setStatus", id, u8(status));
    rig.ok("setFeatures", id, u64(features));
    rig.ok("setStatus", id, u8(11));
    assertEquals(rig.status(id), 3);
  }
});

Deno.test("1.1: a status that goes against the order of its bits is ERR, and changes nothing", () => {
  using rig = new ManagementRig();
  const id = rig.create(ENTROPY);
  for (
    const [from, wrong] of [[[], 2], [[], 8], [[], 4], [[1, 3], 1], [[1, 3], 0x23], [[1, 3], 0x43]] as const
  ) {
    rig.ok("setStatus", id, u8(0));
    for (const status of from) rig.ok("setStatus", id, u8(status));
    const before = rig.status(id);
    assertEquals(rig.ack("setStatus", id, u8(wrong)), ACK.value, `${wrong} after ${from}`);
    assertEquals(rig.status(id), before);
  }
  assertEquals(new Set(rig.rules()), new Set(["1.1"]));
  rig.ok("setStatus", id, u8(3 | 128));
  assertEquals(rig.status(id), 3 | 128, "a driver may give up at any time");
});

Deno.test("N-4.7: the success of STATUS_SET 0 is the success of the reset; STATUS_GET is 0, and so is all that the driver set", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  assertEquals([rig.status(id), rig.draw(ring)], [15, 32]);
  rig.ok("setStatus", id, u8(0));
  assertEquals([rig.status(id), rig.draw(ring)], [0, 0]);
  // N-4.14, N-4.16.
  assertEquals([...rig.ok("getEnable", id, u16(0))], [0]);
  assertEquals([...rig.ok("getSize", id, u16(0))], u16(64));
  assertEquals(number(rig.ok("driverFeatures", id)), 0n);
  rig.negotiate(id);
  const again = rig.enable(id, 0);
  rig.ok("setStatus", id, u8(15));
  assertEquals(rig.draw(again), 32);
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.9, A-4.31: the generation changes for a driver that read a value which has changed since, and once for each read", () => {
  using rig = new ManagementRig();
  const id = rig.create(NET, RULES | STATUS);
  const name = `0000:01:00.0/${id}`;
  const net = rig.models.of(NET_KIND);
  const generation = () => rig.ok("generation", id)[0]!;
  const link = () => rig.ok("getConfig", id, aligned.span(6, 2))[0]!;
  let last = generation();
  assertEquals(link(), 1);
  net.setLink(name, false);
  assertNotEquals(generation(), last);
  last = generation();
  for (let i = 0; i < 300; i++) net.setLink(name, i % 2 === 0);
  assertEquals(
    generation(),
    last,
    "nobody has read what changed: 300 changes cannot wrap the counter to where it was",
  );
  assertEquals(link(), 0);
  net.setLink(name, true);
  assertNotEquals(generation(), last);
  assertEquals(link(), 1);
});

Deno.test("N-4.10: the config space ends where it ends, for every offset and size", () => {
  using rig = new ManagementRig();
  const id = rig.create(BLOCK, RULES | FLUSH | WCE, DISK);
  rig.negotiate(id, RULES | FLUSH | WCE);
  const all = rig.ok("getConfig", id, aligned.span(0, BLK_CONFIG_BYTES));
  for (const [offset, size] of [[0, 60], [59, 1], [60, 0], [0, 0], [3, 7], [24, 8]] as const) {
    assertEquals([...rig.ok("getConfig", id, aligned.span(offset, size))], [
      ...all.slice(offset, offset + size),
    ]);
  }
  const outside = [[0, 61], [60, 1], [61, 0], [0xffff_ffff, 1], [1, 0xffff_ffff], [
    0xffff_ffff,
    0xffff_ffff,
  ]] as const;
  for (const [offset, size] of outside) {
    assertEquals(rig.ack("getConfig", id, aligned.span(offset, size)), ACK.config);
    assertEquals(rig.ack("setConfig", id, aligned.span(offset, size, [0])), ACK.config);
  }
  assertEquals(new Set(rig.rules()), new Set(["N-4.10"]));
  assertEquals(rig.ack("getConfig", rig.create(ENTROPY), aligned.span(0, 1)), ACK.config, "there is none");
});

Deno.test("CONFIG_SET: after FEATURES_OK only, with all of its data; A-4.25: fields at once, other ranges byte by byte", () => {
  using rig = new ManagementRig();
  const id = rig.create(BLOCK, RULES | FLUSH | WCE, DISK);
  const writeback = () => rig.ok("getConfig", id, aligned.span(WRITEBACK, 1))[0]!;
  assertEquals(writeback(), 1);
  assertEquals(rig.ack("setConfig", id, aligned.span(WRITEBACK, 1, [0])), ACK.state);
  assertEquals(rig.rules(), ["1.1"]);
  rig.negotiate(id, RULES | FLUSH | WCE);
  assertEquals(rig.ack("setConfig", id, aligned.span(WRITEBACK, 2, [0])), ACK.outData, "one byte of two");
  rig.rules();
  rig.ok("setConfig", id, aligned.span(WRITEBACK, 1, [0]));
  assertEquals([writeback(), rig.rules()], [0, []]);
  // Three bytes from 31: three writes, of which the model takes the one that there is, and says what is wrong with the others.
  rig.ok("setConfig", id, aligned.span(WRITEBACK - 1, 3, [0, 1, 0]));
  assertEquals([writeback(), rig.rules().length], [1, 2]);
  // Two aligned bytes are one write of a field that is not there.
  rig.ok("setConfig", id, aligned.span(WRITEBACK, 2, [0, 0]));
  assertEquals([writeback(), rig.rules().length], [1, 1]);
});

Deno.test("A-4.25: aligned 1, 2, 4 and 8 bytes are written in one piece, all else byte by byte", () => {
  const pieces: number[][] = [], config = new Uint8Array(64);
  using rig = rigWith(() =>
    Object.assign(new RngModel(), {
      configSizeBytes: config.length,
      config: () => config,
      writeConfig: (offset: number, from: Uint8Array) => {
        pieces.push([offset, from.length]);
        config.set(from, offset);
      },
    })
  );
  const id = rig.create(OWN_TYPE);
  rig.negotiate(id);
  const written = (offset: number, size: number) => {
    pieces.length = 0;
    const data = Array.from({ length: size }, (_, at) => offset + at + size);
    rig.ok("setConfig", id, aligned.span(offset, size, data));
    assertEquals([...rig.ok("getConfig", id, aligned.span(offset, size))], data);
    return pieces;
  };
  for (const size of [1, 2, 4, 8]) assertEquals(written(3 * size, size), [[3 * size, size]]);
  for (const [offset, size] of [[1, 2], [2, 4], [6, 4], [4, 8], [0, 3], [0, 6], [0, 16], [7, 9]] as const) {
    assertEquals(written(offset, size), Array.from({ length: size }, (_, at) => [offset + at, 1]));
  }
  assertEquals(rig.rules(), []);
});

Deno.test("N-4.10, A-4.35: CONFIG_GET needs room for what it asks for", () => {
  using rig = new ManagementRig();
  const id = rig.create(BLOCK, RULES, DISK);
  assertEquals(rig.command("getConfig", id, aligned.span(0, 60), 59), {
    ack: ACK.inData,
    used: 8,
    data: new Uint8Array(0),
  });
  assertEquals(rig.command("getConfig", id, aligned.span(0, 60), 60).used, 68);
});

Deno.test("A-4.7, A-4.8, A-4.9: a function with packed payloads and a tight header answers to those", () => {
  using rig = new ManagementRig({ layout: "packed", header: "tight" });
  const tight = (
    ofClass: number,
    command: number,
    device: bigint | number,
    out: readonly number[] = [],
  ) => [...u64(device), ...u16(ofClass), ...u16(command), ...out];
  const created = rig.raw(tight(2, 0, 0, [...u32(BLOCK), ...u64(RULES | FLUSH), ...DISK]), 9);
  assertEquals([created.ack, created.used], [0, 9]);
  // The rig looks for in-data behind 8 bytes of acknowledgement: here it follows the first.
  const id = 1n;
  const status = rig.raw(tight(4, 0, id, u8(1)), 1);
  assertEquals([status.ack, status.used], [0, 1]);
  assertEquals([...rig.model.devices.get(id)!.core.model.config!().slice(0, 8)], DISK);
  for (const value of [3, 11]) {
    if (value === 11) rig.raw(tight(3, 1, id, u64(RULES)), 1);
    rig.raw(tight(4, 0, id, u8(value)), 1);
  }
  const { core } = rig.model.devices.get(id)!;
  assertEquals(core.status, 11);
  // vq_addr: descriptor at 2, device at 10, driver at 18.
  assertEquals(
    rig.raw(tight(8, 0, id, [...u16(0), ...u64(0x1000), ...u64(0x3000), ...u64(0x2000)]), 1).ack,
    0,
  );
  const [queue] = core.queues;
  assertEquals([queue!.descriptorArea, queue!.driverArea, queue!.deviceArea], [0x1000n, 0x2000n, 0x3000n]);
  assertEquals(rig.raw(tight(7, 0, id, [...u16(0), ...u64(0xfee0_0000n), ...u32(5)]), 1).ack, 0);
  assertEquals(rig.model.devices.get(id)!.queueMsi[0]!.message, { address: 0xfee0_0000n, data: 5 });
  assertEquals(rig.raw(tight(13, 1, id, [...u16(0), ...u32(9)]), 1).ack, 0);
  assertEquals(rig.model.devices.get(id)!.asid(0), 9);
  assertEquals(
    rig.raw(tight(8, 0, id, [...u16(0), ...u64(0), ...u64(0), ...new Array(7).fill(0)]), 1).ack,
    ACK.outData,
  );
  assertEquals(rig.raw(tight(4, 1, id).slice(0, 11), 1).ack, ACK.outData, "the header has 12 bytes");
});

Deno.test("status and features of one device are nobody else's", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  const other = rig.create(ENTROPY);
  assertEquals([rig.status(other), number(rig.ok("driverFeatures", other))], [0, 0n]);
  rig.ok("setStatus", other, u8(1));
  rig.ok("setStatus", other, u8(0));
  assertEquals([rig.status(id), rig.draw(ring)], [15, 32]);
});

Deno.test("a driver that breaks a device's rules stops that device alone", () => {
  using rig = new ManagementRig();
  const { id, ring } = rig.entropy();
  const other = rig.entropy();
  const at = rig.fn.client.allocate(16);
  ring.add([{ iova: rig.fn.client.at(at), length: 16 }]);
  ring.publish();
  rig.model.devices.get(id)!.wake();
  rig.fn.run();
  assertEquals([rig.status(id) & 64, rig.status(other.id), rig.fn.status], [64, 15, 15]);
  const [violation] = rig.fn.port.reports;
  assertEquals([violation!.function, violation!.queue], [`0000:01:00.0/${id}`, 0]);
  assert(rig.draw(other.ring) === 32);
});

Deno.test("a management function has virtio device id 63, one queue, and no config space", () => {
  using rig = new ManagementRig();
  assertEquals(rig.fn.behaviour.identity.deviceId, 0x1040 + 63);
  assertEquals(rig.fn.read(18, 2), 1, "num_queues");
  assertEquals(rig.fn.behaviour.vendorCapabilities.length, 4, "no device-specific configuration");
});
