import { assert, assertEquals, assertRejects } from "@std/assert";
import { VirtioAdmin, type VirtioAdminOptions } from "../../../../drivers/admin/virtio_admin.ts";
import {
  ClosedError,
  DeviceError,
  ExhaustedError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { AdminCommandError, AdminTimeoutError } from "../../../../lib/virtio/admin/error.ts";
import {
  type DevicePart,
  encodePartHeaders,
  encodeParts,
  partHeader,
} from "../../../../lib/virtio/spec/device_parts.ts";
import {
  ALL_OPCODES,
  type FakeAnswer,
  FakeOwner,
  IN_ORDER,
  INDIRECT,
  type SeenCommand,
  words,
} from "./fake_owner.ts";

const PARTS: readonly DevicePart[] = [
  { type: 0x100, flags: 1, selector: 0n, value: words(0x1_3000_0000n) },
  { type: 0x101, flags: 0, selector: 0n, value: words(0x1_0000_0000n) },
  { type: 0x102, flags: 0, selector: 22n, value: Uint8Array.of(0, 0) },
  { type: 0x103, flags: 0, selector: 0n, value: Uint8Array.of(0) },
];
const OK: FakeAnswer = {};

/** VFs with parts, and objects by member and id; written from the standard's text alone. */
class FakeMembers {
  limits: [number, number] = [1, 1];
  caps = words(1n);
  driverLimits: number[] | null = null;
  parts = PARTS;
  readonly objects = new Map<string, number>();
  readonly stopped = new Set<bigint>();
  readonly loaded = new Map<bigint, Uint8Array>();
  /** Put before everything. */
  override: (command: SeenCommand) => FakeAnswer | undefined = () => undefined;

  readonly answer = (command: SeenCommand): FakeAnswer => {
    const { opcode, data, memberId, writable } = command;
    const id = data.length < 8 ? 0 : new DataView(data.buffer).getUint32(4, true);
    const key = `${memberId}:${id}`;
    const forced = this.override(command);
    if (forced !== undefined) return forced;
    switch (opcode) {
      case 0:
        return { result: ALL_OPCODES };
      case 7:
        return { result: this.caps };
      case 8:
        return { result: Uint8Array.of(...this.limits, 0, 0, 0, 0, 0, 0) };
      case 9:
        this.driverLimits = [...data.slice(8, 10)];
        return OK;
      case 0xa:
        if (this.driverLimits === null) return { status: 28, qualifier: 6 };
        if (this.objects.has(key)) return { status: 17, qualifier: 3 };
        this.objects.set(key, data[16]!);
        return OK;
      case 0xd:
        return this.objects.delete(key) ? OK : { status: 6, qualifier: 3 };
      case 0xe: {
        const all = encodeParts(this.parts);
        const list = encodePartHeaders(this.parts.map(partHeader));
        const value = data[8] === 0 ? all.length : this.parts.length;
        const result = Uint8Array.from([value, value >> 8, 0, 0, 0, 0, 0, 0, ...(data[8] === 2 ? list : [])]);
        return result.length + 8 > writable ? { status: 12, qualifier: 6 } : { result };
      }
      case 0xf: {
        const selected = data.slice(16);
        const types = Array.from(
          { length: Math.floor(selected.length / 16) },
          (_, at) => new DataView(selected.buffer).getUint16(16 * at, true),
        );
        const bytes = encodeParts(this.parts.filter(({ type }) => data[8] === 1 || types.includes(type)));
        // The device initialises a multiple of 8 bytes.
        const result = new Uint8Array(Math.ceil(bytes.length / 8) * 8);
        result.set(bytes);
        return result.length + 8 > writable ? { status: 12, qualifier: 6 } : { result };
      }
      case 0x10:
        if (!this.stopped.has(memberId)) return { status: 16, qualifier: 1 };
        this.loaded.set(memberId, data.slice(8));
        return OK;
      case 0x11:
        if (data[0] === 1) this.stopped.add(memberId);
        else this.stopped.delete(memberId);
        return OK;
      default:
        return OK;
    }
  };
}

async function opened(options: VirtioAdminOptions & { features?: bigint } = {}) {
  const members = new FakeMembers();
  const { features, ...rest } = options;
  const device = new FakeOwner(members.answer, features === undefined ? {} : { features });
  const pf = await VirtioAdmin.open(device.transport, rest);
  device.seen.length = 0;
  return {
    device,
    members,
    pf,
    [Symbol.asyncDispose]: async () => {
      pf.close();
      await pf.settled;
      device.transport.close();
    },
  };
}

Deno.test("3.6 saveParts: capability, object, size, parts, object destroyed; the capability only once", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  assertEquals(await pf.member(4).saveParts(), [...PARTS]);
  assertEquals(device.opcodes, [7, 8, 9, 0xa, 0xe, 0xf, 0xd]);
  assertEquals(members.driverLimits, [1, 1]);
  assertEquals(device.seen.map(({ groupType, memberId }) => [groupType, memberId]), [
    ...[0, 1, 2].map((): [number, bigint] => [0, 0n]),
    ...[3, 4, 5, 6].map((): [number, bigint] => [1, 5n]),
  ]);
  device.seen.length = 0;
  await pf.member(5).saveParts();
  assertEquals(device.opcodes, [0xa, 0xe, 0xf, 0xd]);
  assertEquals(members.objects.size, 0);
});

Deno.test("3.6 loadParts: stops first, sets in order, destroys the object, leaves the VF stopped", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  const vf = pf.member(1);
  assertEquals(vf.stopped, undefined);
  await vf.loadParts(PARTS);
  assertEquals(device.opcodes, [0x11, 7, 8, 9, 0xa, 0x10, 0xd]);
  assertEquals(vf.stopped, true);
  const bytes = encodeParts(PARTS);
  assertEquals(members.loaded.get(2n)!.slice(0, bytes.length), bytes);
  await vf.setMode(false);
  assertEquals([vf.stopped, members.stopped.size], [false, 0]);
});

Deno.test("objects are destroyed also on failure, and the first error counts", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  for (const opcode of [0xe, 0xf]) {
    members.override = (command) => command.opcode === opcode ? { status: 22, qualifier: 3 } : undefined;
    const error = await assertRejects(() => pf.member(0).saveParts(), AdminCommandError);
    assertEquals([error.opcode, device.opcodes.at(-1)], [opcode, 0xd]);
  }
  members.override = ({ opcode }) =>
    opcode === 0x10 || opcode === 0xd ? { status: 22, qualifier: 3 } : undefined;
  const error = await assertRejects(() => pf.member(0).loadParts(PARTS), AdminCommandError);
  assertEquals([error.opcode, device.opcodes.at(-1)], [0x10, 0xd]);
});

Deno.test("parts that are no parts are a DeviceError, never a crash", async () => {
  await using fixture = await opened();
  const { pf, members } = fixture;
  const whole = encodeParts(PARTS);
  for (const cut of [1, 8, 15, 17, 30, whole.length - 1]) {
    members.override = ({ opcode }) =>
      opcode === 0xf ? { result: whole.slice(0, cut).fill(0xee, cut - 1) } : undefined;
    const error = await assertRejects(() => pf.member(0).saveParts(), DeviceError, "DEV_PARTS_GET");
    assertEquals(error.location.field, "parts");
  }
  for (const value of [0x7fff_ffff, 0xffff_ffff]) {
    const result = new Uint8Array(8);
    new DataView(result.buffer).setUint32(0, value, true);
    members.override = ({ opcode }) => opcode === 0xe ? { result } : undefined;
    await assertRejects(() => pf.member(0).saveParts(), DeviceError, "more than");
  }
  assertEquals(members.objects.size, 0);
});

Deno.test("A-3.15 a result that ends inside a part is asked for again with more room, and so is one that fills it", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  // The state grows behind the back of a device that says how large it is now, and cuts off what does not fit.
  const grown: DevicePart[] = [...PARTS, {
    type: 0x200,
    flags: 0,
    selector: 0n,
    value: new Uint8Array(300).fill(7),
  }];
  let measured = 0;
  members.override = ({ opcode, data, writable }) => {
    if (opcode === 0xe && data[8] === 0) {
      const size = encodeParts(++measured === 1 ? PARTS : grown).length;
      return { result: words(BigInt(size)) };
    }
    return opcode === 0xf ? { result: encodeParts(grown).slice(0, writable - 8) } : undefined;
  };
  assertEquals(await pf.member(0).saveParts(), grown);
  assertEquals(device.opcodes.slice(3), [0xa, 0xe, 0xf, 0xe, 0xf, 0xd]);
  // One that measures as little each time gets twice the room instead.
  members.override = ({ opcode, data, writable }) =>
    opcode === 0xe && data[8] === 0
      ? { result: words(8n) }
      : opcode === 0xf
      ? { result: encodeParts(grown).slice(0, writable - 8) }
      : undefined;
  await using object = await pf.member(0).createPartsObject("get");
  assertEquals(await object.getAll(), grown);
  assertEquals(await object.getSelected(grown.map(partHeader)), grown);
  // Cut off between two parts, the result fills the room all the same.
  const even: DevicePart[] = Array.from({ length: 20 }, (_, at) => ({
    type: 0x104,
    flags: 0,
    selector: BigInt(at),
    value: new Uint8Array(32).fill(at + 1),
  }));
  const bytes = encodeParts(even);
  members.override = ({ opcode, data, writable }) =>
    opcode === 0xe && data[8] === 0
      ? { result: words(BigInt(7 * 48 - 256)) }
      : opcode === 0xf
      ? { result: bytes.slice(0, writable - 8) }
      : undefined;
  assertEquals(await object.getAll(), even);
});

Deno.test("A-3.15 a list that is cut off is asked for again with more room", async () => {
  await using fixture = await opened();
  const { pf, members } = fixture;
  await using object = await pf.member(0).createPartsObject("get");
  const headers = PARTS.map(partHeader);
  const list = new Uint8Array([...words(BigInt(headers.length)), ...encodePartHeaders(headers)]);
  let counted = 0, grows = 1;
  members.override = ({ opcode, data, writable }) => {
    if (opcode !== 0xe) return undefined;
    return data[8] === 1
      ? { result: words(BigInt(counted += grows)) }
      : { result: list.slice(0, writable - 8) };
  };
  // One is counted, then two: twice the room for them takes all four.
  assertEquals([await object.list(), counted], [headers, 2]);
  counted = 1, grows = 0;
  const error = await assertRejects(() => object.list(), DeviceError, "4 headers, but there is room for 3");
  assertEquals(error.location.field, "hdr_list.count");
});

Deno.test("A-3.15 a device that never has room enough is a DeviceError, after a few tries", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  const endless = { type: 0x200, flags: 0, selector: 0n, value: new Uint8Array(1 << 20).fill(7) };
  members.override = ({ opcode, writable }) =>
    opcode === 0xf ? { result: encodeParts([endless]).slice(0, writable - 8) } : undefined;
  const error = await assertRejects(() => pf.member(0).saveParts(), DeviceError, "DEV_PARTS_GET");
  assertEquals(error.location.field, "parts");
  assertEquals(device.opcodes.slice(3), [0xa, 0xe, 0xf, 0xe, 0xf, 0xe, 0xf, 0xd]);
});

Deno.test("N-3.4 with IN_ORDER: what follows the parts in a result that counts as written completely is no part", async () => {
  await using fixture = await opened({ features: IN_ORDER | INDIRECT });
  const { device, pf, members } = fixture;
  members.override = (command) =>
    command.opcode === 0xf ? { result: encodeParts(PARTS), used: command.writable } : undefined;
  assertEquals(await pf.member(0).saveParts(), [...PARTS]);
  members.override = (command) => command.opcode === 0xf ? { used: command.writable } : undefined;
  assertEquals(await pf.member(0).saveParts(), []);
  assert(device.seen.length > 0);
});

Deno.test("an object's metadata: size, count, list; selected parts by their headers", async () => {
  await using fixture = await opened();
  const { pf, members } = fixture;
  await using object = await pf.member(0).createPartsObject("get");
  assertEquals([await object.sizeBytes(), await object.count()], [encodeParts(PARTS).length, 4]);
  const headers = await object.list();
  assertEquals(headers, PARTS.map(partHeader));
  assertEquals(await object.getSelected([headers[1]!, headers[3]!]), [PARTS[1]!, PARTS[3]!]);
  assertEquals(await object.getSelected([]), []);
  members.override = ({ opcode, data }) =>
    opcode === 0xe && data[8] === 2 ? { result: Uint8Array.of(200, 0, 0, 0, 0, 0, 0, 0) } : undefined;
  await assertRejects(() => object.list(), DeviceError, "200 headers");
});

Deno.test("ENOMEM: the size is asked again, with a bound", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  let short = 2;
  members.override = ({ opcode }) => opcode === 0xf && short-- > 0 ? { status: 12, qualifier: 6 } : undefined;
  assertEquals((await pf.member(0).saveParts()).length, 4);
  short = 1000;
  device.seen.length = 0;
  const error = await assertRejects(() => pf.member(0).saveParts(), AdminCommandError, "ENOMEM");
  assertEquals(error.field, "command_specific_result");
  assertEquals(device.opcodes, [0xa, 0xe, 0xf, 0xe, 0xf, 0xe, 0xf, 0xd]);
});

Deno.test("ids are the lowest free ones of each VF; no more objects than allowed", async () => {
  await using fixture = await opened();
  const { pf, members } = fixture;
  members.limits = [2, 1];
  const made = await Promise.all([
    pf.member(0).createPartsObject("get"),
    pf.member(0).createPartsObject("set"),
    pf.member(0).createPartsObject("get"),
    pf.member(1).createPartsObject("get"),
  ]);
  assertEquals(made.map(({ id }) => id), [0, 1, 2, 0]);
  await assertRejects(() => pf.member(0).createPartsObject("get"), ExhaustedError, "2 for a VF");
  await assertRejects(() => pf.member(0).createPartsObject("set"), ExhaustedError);
  await made[0]!.destroy();
  await made[0]!.destroy();
  assertEquals((await pf.member(0).createPartsObject("get")).id, 0);
  assertEquals(members.objects.size, 4);
});

Deno.test("3.6 EEXIST: an id that is taken in the device is left out", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  members.limits = [2, 2];
  members.objects.set("1:0", 0).set("1:1", 0);
  assertEquals((await pf.member(0).createPartsObject("get")).id, 2);
  // 3.6: any id may be taken, also in a device that counts them over all members.
  for (let id = 0; id < 40; id++) members.objects.set(`2:${id}`, 0);
  assertEquals((await pf.member(1).createPartsObject("get")).id, 40);
  device.seen.length = 0;
  members.override = ({ opcode }) => opcode === 0xa ? { status: 17, qualifier: 3 } : undefined;
  await assertRejects(() => pf.member(0).createPartsObject("get"), ExhaustedError, "taken");
  assert(device.seen.length <= 1024);
});

Deno.test("an object that the device has no more is destroyed here, too, and its place is free", async () => {
  await using fixture = await opened();
  const { members, pf } = fixture;
  const object = await pf.member(0).createPartsObject("get");
  members.objects.clear();
  await object.destroy();
  assertEquals(object.exists, false);
  await (await pf.member(0).createPartsObject("get")).destroy();
});

Deno.test("whether a VF is stopped is not known after a command that was not answered", async () => {
  await using fixture = await opened({ timeoutMs: 300 });
  const { device, members, pf } = fixture;
  const member = pf.member(0);
  await member.setMode(true);
  const writer = await member.createPartsObject("set");
  const { answer } = device;
  device.answer = (command) => command.opcode === 0x11 ? undefined : answer(command);
  await assertRejects(() => member.setMode(false), AdminTimeoutError);
  assertEquals(member.stopped, undefined);
  device.release();
  await assertRejects(() => writer.set(PARTS), UsageError, "while it runs");
  device.answer = (command) => command.opcode === 0x11 ? { status: 16, qualifier: 6 } : answer(command);
  await assertRejects(() => member.setMode(false), AdminCommandError);
  assertEquals(member.stopped, undefined);
  device.answer = members.answer;
  await member.setMode(true);
  device.answer = (command) => command.opcode === 0x11 ? { status: 16, qualifier: 6 } : answer(command);
  await assertRejects(() => member.setMode(false), AdminCommandError);
  assertEquals(member.stopped, true, "the device refused, and said so");
});

Deno.test("wrong use of an object: kind, state, order, after destroy", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  const reader = await pf.member(0).createPartsObject("get");
  const writer = await pf.member(0).createPartsObject("set");
  const sent = device.seen.length;
  await assertRejects(() => reader.set(PARTS), UsageError, "to get");
  await assertRejects(() => writer.getAll(), UsageError, "to set");
  await assertRejects(() => writer.list(), UsageError);
  await assertRejects(() => writer.set(PARTS), UsageError, "while it runs");
  await assertRejects(() => writer.set([PARTS[3]!, PARTS[1]!]), UsageError, "before");
  await assertRejects(() => pf.member(0).loadParts([PARTS[2]!]), UsageError, "needs");
  assertEquals(device.seen.length, sent);
  await pf.member(0).setMode(true);
  await writer.set(PARTS);
  await writer.destroy();
  await assertRejects(() => writer.set(PARTS), ClosedError);
  assertEquals([writer.exists, reader.exists], [false, true]);
});

Deno.test("a reset of the owner: objects and limits are gone, and negotiated again", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  const vf = pf.member(0);
  const object = await vf.createPartsObject("get");
  await vf.setMode(true);
  members.objects.clear();
  members.driverLimits = null;
  await pf.reset();
  assertEquals([object.exists, vf.stopped], [false, undefined]);
  await assertRejects(() => object.getAll(), ClosedError);
  device.seen.length = 0;
  await object.destroy();
  assertEquals(device.seen, []);
  assertEquals((await vf.saveParts()).length, 4);
  assertEquals(device.opcodes.slice(0, 3), [7, 8, 9]);
});

Deno.test("capabilities: ids of any length of bitmap (A-3.7), bytes, limits", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  members.caps = new Uint8Array(520);
  members.caps[0] = 1;
  members.caps[256] = 2;
  members.caps[512] = 1;
  assertEquals(await pf.capabilities.list(), [0, 0x801, 0x1000]);
  members.limits = [3, 4];
  assertEquals(await pf.capabilities.get(0), Uint8Array.of(3, 4, 0, 0, 0, 0, 0, 0));
  assertEquals(await pf.capabilities.partsLimits(), { get: 3, set: 4 });
  await pf.capabilities.set(0x801, Uint8Array.of(1, 2, 3));
  assertEquals([...device.seen.at(-1)!.data], [1, 8, 0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]);
});

Deno.test("the capability is never set beyond the device's limits, nor while objects exist", async () => {
  await using fixture = await opened();
  const { device, pf, members } = fixture;
  members.limits = [2, 2];
  await assertRejects(
    () => pf.capabilities.set(0, Uint8Array.of(3, 1)),
    UsageError,
    "the device has 2 and 2",
  );
  await assertRejects(() => pf.capabilities.set(0, Uint8Array.of(3)), UsageError);
  assert(!device.opcodes.includes(9));
  await pf.capabilities.set(0, Uint8Array.of(1, 1));
  assertEquals(members.driverLimits, [1, 1]);
  const object = await pf.member(0).createPartsObject("get");
  assertEquals(members.driverLimits, [1, 1], "what was set by hand stays");
  await assertRejects(() => pf.member(0).createPartsObject("get"), ExhaustedError);
  await assertRejects(() => pf.capabilities.set(0, Uint8Array.of(0, 0)), UsageError, "while objects exist");
  await object.destroy();
  await pf.capabilities.set(0, Uint8Array.of(2, 2));
});

Deno.test("a device without VIRTIO_DEV_PARTS_CAP has no parts; a failure to negotiate is tried again", async () => {
  await using fixture = await opened();
  const { pf, members } = fixture;
  members.caps = words(0n);
  await assertRejects(() => pf.member(0).saveParts(), UnsupportedError, "VIRTIO_DEV_PARTS_CAP");
  members.caps = words(1n);
  members.override = ({ opcode }) => opcode === 9 ? { status: 16, qualifier: 1 } : undefined;
  await assertRejects(() => pf.member(0).saveParts(), AdminCommandError, "EBUSY");
  members.override = () => undefined;
  assertEquals((await pf.member(0).saveParts()).length, 4);
});
