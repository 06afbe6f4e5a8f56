/** Events, kicks and vectors of the virtio-ism device (reference 5.4, 5.6). */
import { assert, assertEquals } from "@std/assert";
import { openFdCount } from "../../../../../ffi/mod.ts";
import { EventBacklog } from "../../../../../lib/emulation/virtio/ism/events.ts";
import { CHUNK, ENOENT, ERR, type IsmRig, OK, rigs, words } from "./rig.ts";

const UPDATE = 1n, ATTACHED = 2n, DETACHED = 4n;
const at = (chunk: number) => BigInt(chunk * CHUNK);

Deno.test("N-5.9 5.4 ATTACH: the other peers hear of it, with their own offset, the originator and the references without theirs", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  for (const rig of [a, b, c]) rig.giveEvents();
  b.region(CHUNK);
  b.region(CHUNK);
  const { token, chunks } = a.region(CHUNK);
  const [inB] = b.attached(token);
  assertEquals(a.take(), [[ATTACHED, at(chunks[0]!), b.devid, 1n]]);
  c.attached(token);
  assertEquals(a.take(), [[ATTACHED, at(chunks[0]!), c.devid, 2n]]);
  assertEquals(b.take(), [[ATTACHED, at(inB!), c.devid, 2n]]);
  assertEquals(c.take(), [], "nobody hears of itself");
});

Deno.test("N-5.10 A-5.20 DETACH by command, reset and death: the others hear of it, the originator does not", () => {
  using list = rigs(4);
  const { a, b, c, d } = list;
  a.giveEvents(8);
  const { token, chunks } = a.region(CHUNK);
  for (const rig of [b, c, d]) {
    rig.giveEvents();
    rig.attached(token);
  }
  a.take();
  for (const rig of [b, c, d]) rig.take();
  assertEquals(b.detach(token), OK);
  c.fn.status = 0;
  d.front.reset("detached");
  assertEquals(a.take(), [
    [DETACHED, at(chunks[0]!), b.devid, 2n],
    [DETACHED, at(chunks[0]!), c.devid, 1n],
    [DETACHED, at(chunks[0]!), d.devid, 0n],
  ]);
  c.up();
  c.giveEvents();
  assertEquals([b.take(), c.take()], [[], []]);
});

Deno.test("5.6 A-5.16 a kick of 1, 2 or 4 bytes at the first chunk's address is an UPDATE for all others that refer to the region", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  const { token, chunks } = a.region(2 * CHUNK);
  const [inB] = b.attached(token);
  c.region(CHUNK);
  const [inC] = c.attached(token);
  assert(inC !== chunks[0]);
  for (const rig of [a, b, c]) {
    rig.giveEvents(8);
    rig.take();
  }
  for (const width of [1, 2, 4]) {
    a.kick(chunks[0]!, width);
    assertEquals(b.take(), [[UPDATE, at(inB!), a.devid]]);
    assertEquals(c.take(), [[UPDATE, at(inC!), a.devid]]);
  }
  b.kick(inB!);
  assertEquals(a.take(), [[UPDATE, at(chunks[0]!), b.devid]]);
  assertEquals(b.take(), [], "not to itself");
  assertEquals(a.fn.port.take(), []);
});

Deno.test("5.6 N-5.2 kicks at addresses of no region, at a later chunk's, across or of another width are reported and do nothing", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token, chunks } = a.region(2 * CHUNK);
  b.attached(token);
  b.giveEvents();
  a.kick(chunks[1]!);
  a.kick(20);
  a.kick(chunks[0]!, 8);
  a.kick(chunks[0]!, 3);
  a.front.writeBar(2, a.notifyAt + 1, new Uint8Array([1]));
  assertEquals(a.fn.port.take().map((text) => text.slice(0, 5)), [
    "N-5.2",
    "N-5.2",
    "5.6: ",
    "5.6: ",
    "5.6: ",
  ]);
  assertEquals(b.take(), []);
  assertEquals([...a.read(a.notifyAt, 4)], [0, 0, 0, 0]);
});

Deno.test("5.6 doorbells: eventfds for 32 places, where regions begin if they can; a late ring does no harm", () => {
  const before = openFdCount();
  using list = rigs(2, { chunks: 128, memory: 1 << 24 });
  const { a, b } = list;
  const doorbells = a.front.doorbells(2);
  assertEquals(a.front.doorbells(2), doorbells);
  assertEquals([doorbells.length, openFdCount() - before], [32, 32]);
  assertEquals(doorbells.map(({ offset, sizeBytes }) => [(offset - a.notifyAt) / 4, sizeBytes]).slice(0, 3), [
    [0, 0],
    [4, 0],
    [8, 0],
  ]);
  const regions = Array.from({ length: 32 }, () => a.region(3 * CHUNK));
  assert(regions.every(({ chunks }) => chunks[0]! % 4 === 0), "all of them have a doorbell");
  const { token, chunks } = regions[5]!;
  const [inB] = b.attached(token);
  b.giveEvents();
  const { offset } = doorbells.find((one) => (one.offset - a.notifyAt) / 4 === chunks[0])!;
  a.front.rang(2, offset);
  a.front.rang(2, offset);
  assertEquals(b.take(), [[UPDATE, at(inB!), a.devid]]);
  a.detach(token);
  a.front.rang(2, offset);
  b.take();
  assertEquals([b.take(), a.fn.port.take()], [[], []]);
  a.front.detached();
  assertEquals(openFdCount() - before - a.model.domain!.regions.size, 0, "they go with the client");
});

Deno.test("5.4 several events to a buffer, in order, each whole; what has no buffer waits", () => {
  using list = rigs(2);
  const { a, b } = list;
  const regions = Array.from({ length: 5 }, () => a.region(CHUNK));
  for (const { token } of regions) b.attached(token);
  assertEquals(a.take(), []);
  a.giveEvents(1, 100);
  assertEquals(a.takeBuffers().map((events) => events.map(([, offset]) => offset)), [
    regions.slice(0, 3).map(({ chunks }) => at(chunks[0]!)),
  ]);
  a.kick(regions[0]!.chunks[0]!);
  b.kick(0);
  a.giveEvents(2, 32);
  assertEquals(a.takeBuffers().map((events) => events.length), [1, 1]);
  a.giveEvents(2, 40);
  assertEquals(a.takeBuffers(), [[[UPDATE, 0n, b.devid]]]);
});

Deno.test("5.4 a buffer too small for the event comes back empty and is reported; one that is device-readable stops the device", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token } = a.region(CHUNK);
  b.attached(token);
  a.giveEvents(1, 31);
  assertEquals(a.takeBuffers(), [[]]);
  assert(a.fn.port.take()[0]!.startsWith("5.4:"));
  a.giveEvents(1, 32);
  assertEquals(a.takeBuffers().length, 1);
  b.detach(token);
  const ring = a.fn.rings.get(1)!;
  ring.add([{ iova: a.fn.client.at(a.fn.client.allocate(64)), length: 64 }]);
  ring.publish();
  a.fn.run();
  assert((a.fn.status & 0x40) !== 0, "DEVICE_NEEDS_RESET");
});

Deno.test("5.4 UPDATEs that nobody takes become one a peer and region; attaches and detaches are all kept", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  const { token, chunks } = a.region(CHUNK);
  const [inB] = b.attached(token);
  const [inC] = c.attached(token);
  for (let i = 0; i < 100; i++) {
    b.kick(inB!);
    c.kick(inC!);
  }
  for (let i = 0; i < 100; i++) {
    b.detach(token);
    b.attached(token);
  }
  a.giveEvents(15, 4096);
  const events = a.take();
  const offset = at(chunks[0]!);
  assertEquals(events.filter(([type]) => type === UPDATE), [
    [UPDATE, offset, b.devid],
    [UPDATE, offset, c.devid],
  ]);
  assertEquals(events.filter(([type]) => type !== UPDATE).map(([type]) => type), [
    ATTACHED,
    ATTACHED,
    ...Array.from({ length: 200 }, (_, i) => i % 2 === 0 ? DETACHED : ATTACHED),
  ]);
  b.kick(inB!);
  assertEquals(a.take(), [[UPDATE, offset, b.devid]], "once taken, the next is told again");
});

Deno.test("5.4 a peer that comes and goes for ever fills nothing: past a thousand events its repetitions fall together", () => {
  using list = rigs(3);
  const { a, b, c } = list;
  const { token } = a.region(CHUNK);
  c.attached(token);
  for (let i = 0; i < 20_000; i++) {
    b.attached(token);
    b.detach(token);
  }
  const waiting = a.model.member!.events.size;
  assert(waiting < 1100, `${waiting} events wait`);
  b.attached(token);
  a.giveEvents(15, 4096);
  const events: (readonly bigint[])[] = [];
  for (let last = a.take(); last.length > 0; last = a.take()) {
    events.push(...last);
    a.giveEvents(15, 4096);
  }
  assertEquals(events.length, waiting + 1);
  // What is left alternates as it happened, and ends with the peer attached.
  const ofB = events.filter(([, , devid]) => devid === b.devid).map(([type]) => type);
  assert(ofB.every((type, i) => type === (i % 2 === 0 ? ATTACHED : DETACHED)));
  assertEquals(ofB.at(-1), ATTACHED);
});

Deno.test("5.4 the last DETACH of a crowded list is told, whatever is taken together", () => {
  const backlog = new EventBacklog();
  const event = (type: "attach" | "detach", devid: bigint) =>
    ({ type, offset: 0n, devid, peers: 1n }) as const;
  for (let i = 0; i < 1024; i++) backlog.add(event("attach", BigInt(1000 + i)));
  backlog.add(event("attach", 1n));
  backlog.add(event("detach", 1n));
  assertEquals(backlog.size, 1026, "one attach and its detach stay");
  backlog.add(event("attach", 1n));
  assertEquals(backlog.size, 1027);
  backlog.add(event("detach", 1n));
  assertEquals(backlog.size, 1026, "the second round adds nothing");
  backlog.add(event("detach", 1001n));
  assertEquals(backlog.size, 1027);
});

Deno.test("5.4 events of a region that the driver has let go of are not told: its place may be another's", () => {
  using list = rigs(2);
  const { a, b } = list;
  const first = a.region(CHUNK);
  const [inB] = b.attached(first.token);
  b.kick(inB!);
  a.detach(first.token);
  const second = a.region(CHUNK);
  assertEquals(second.chunks, first.chunks);
  a.giveEvents();
  assertEquals(a.take(), []);
});

Deno.test("N-5.13 EVENT_VECTOR: updates by the vector, none by the event queue, not even those that wait", () => {
  using list = rigs(2);
  const { a, b } = list;
  a.fn.port.msixEnabled = true;
  const { token, chunks } = a.region(CHUNK);
  const other = a.region(CHUNK);
  const [inB] = b.attached(token);
  const [otherInB] = b.attached(other.token);
  a.giveEvents(8);
  a.take();
  a.fn.run();
  b.kick(inB!);
  assertEquals(a.bind(token, 3), OK);
  a.fn.port.vectors.length = 0;
  assertEquals(a.take(), []);
  b.kick(inB!);
  b.kick(inB!);
  assertEquals([a.fn.port.vectors, a.take()], [[3, 3], []]);
  b.kick(otherInB!);
  assertEquals(a.take(), [[UPDATE, at(other.chunks[0]!), b.devid]]);
  b.detach(token);
  assertEquals(a.take(), [[DETACHED, at(chunks[0]!), b.devid, 0n]], "the other events go on as before");
});

Deno.test("A-5.11 A-5.12 A-5.13 EVENT_VECTOR: ENOENT, 0xffff takes it back, a vector that is not there is ERR and changes nothing", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token, chunks } = a.region(CHUNK);
  const [inB] = b.attached(token);
  a.giveEvents(8);
  a.take();
  assertEquals(a.bind(token, 1), ERR, "MSI-X is not in use");
  a.fn.port.msixEnabled = true;
  assertEquals([a.bind(token + 1n, 1), a.bind(token + 1n, 0xfffe)], [ENOENT, ENOENT]);
  const { vectors } = a.front.msix;
  assertEquals(vectors, 3 + 32);
  assertEquals(a.bind(token, vectors - 1), OK);
  assertEquals([a.bind(token, vectors), a.bind(token, 0x10000)], [ERR, ERR]);
  assertEquals(a.command([5, 0], words(token, (1n << 64n) - 1n), 0).ack, ERR);
  a.fn.port.vectors.length = 0;
  b.kick(inB!);
  assertEquals([a.fn.port.vectors, a.take()], [[vectors - 1], []], "the binding of before");
  assertEquals(a.bind(token, 0xffff), OK);
  b.kick(inB!);
  assertEquals(a.take(), [[UPDATE, at(chunks[0]!), b.devid]]);
});

Deno.test("N-5.13 a binding belongs to one reference: it ends with DETACH and with a reset", () => {
  using list = rigs(2);
  const { a, b } = list;
  b.fn.port.msixEnabled = true;
  const { token, chunks } = a.region(CHUNK);
  b.attached(token);
  assertEquals(b.bind(token, 2), OK);
  b.detach(token);
  const [again] = b.attached(token);
  b.giveEvents();
  b.fn.port.vectors.length = 0;
  a.kick(chunks[0]!);
  assertEquals(b.take(), [[UPDATE, at(again!), a.devid]]);
});

Deno.test("a device that sleeps is woken for events, and asks for event buffers only while some wait", () => {
  using list = rigs(2);
  const { a, b } = list;
  const woken: IsmRig[] = [];
  Object.assign(a.fn.port, { wake: () => woken.push(a) });
  const { token, chunks } = a.region(CHUNK);
  assertEquals(a.front.arm(), false);
  woken.length = 0;
  b.attached(token);
  assertEquals(woken, [a]);
  assertEquals(a.front.arm(), false, "no buffer is there");
  a.giveEvents();
  assertEquals(a.front.arm(), true, "an event and a buffer for it");
  assertEquals(a.take().length, 1);
  assertEquals(a.front.arm(), false);
  assertEquals(chunks.length, 1);
});

Deno.test("a function whose driver is not running keeps its events; kicks of one that is not running go nowhere", () => {
  using list = rigs(2);
  const { a, b } = list;
  const { token, chunks } = a.region(CHUNK);
  const [inB] = b.attached(token);
  a.giveEvents();
  a.take();
  a.fn.port.busMaster = false;
  b.kick(inB!);
  assertEquals(a.fn.behaviour.poll(8), 0);
  a.kick(chunks[0]!);
  a.fn.port.busMaster = true;
  assertEquals(a.take(), [[UPDATE, at(chunks[0]!), b.devid]]);
  b.giveEvents();
  assertEquals(b.take(), []);
});
