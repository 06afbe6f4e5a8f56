import { assert, assertEquals } from "@std/assert";
import { VirtioAdmin } from "../../../../drivers/admin/virtio_admin.ts";
import { DeviceError, RingsideError } from "../../../../lib/errors/mod.ts";
import {
  type AdminCall,
  capGetCall,
  capListCall,
  legacyReadCall,
  listQueryCall,
  notifyInfoCall,
  partsGetCall,
  partsListCall,
  partsMetadataCall,
} from "../../../../lib/virtio/admin/calls.ts";
import { AdminCommandError, AdminTimeoutError } from "../../../../lib/virtio/admin/error.ts";
import { adminFrameSize, decodeAdminReply, prepareAdminReply } from "../../../../lib/virtio/admin/frame.ts";
import type { LegacyNotifyArea } from "../../../../lib/virtio/admin/legacy_access.ts";
import { encodePartHeaders, encodeParts, partHeader } from "../../../../lib/virtio/spec/device_parts.ts";
import { campaign, Random, rounds } from "../../../random.ts";
import {
  ALL_OPCODES,
  type FakeAnswer,
  FakeOwner,
  FIRST,
  type SeenCommand,
  standardAnswer,
  words,
} from "./fake_owner.ts";

const DECODED = rounds(900_000);
const SENT = rounds(105_000);
const STATUSES = [0, 6, 11, 12, 16, 17, 22, 28, 1, 99, 0xffff];

/** Parts that make sense, to be mutated. */
const PARTS = [
  { type: 0x100, flags: 1, selector: 0n, value: words(0x1_3000_0000n) },
  { type: 0x101, flags: 0, selector: 0n, value: words(0x1_0000_0000n) },
  { type: 0x103, flags: 0, selector: 0n, value: Uint8Array.of(15) },
  { type: 0x104, flags: 0, selector: 1n, value: new Uint8Array(32).fill(3) },
];
const PARTS_BYTES = encodeParts(PARTS);
const LIST_BYTES = Uint8Array.from([4, 0, 0, 0, 0, 0, 0, 0, ...encodePartHeaders(PARTS.map(partHeader))]);
const NOTIFY = Uint8Array.from([
  ...[2, 1, 0, 0, 0, 0, 0, 0, 0, 0x30, 0, 0, 0, 0, 0, 0],
  ...[1, 4, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
]);

const NOISE = new Uint8Array(1 << 14);
{
  const random = new Random(0xbeef);
  for (let at = 0; at < NOISE.length; at++) NOISE[at] = random.next();
}

/** What a command's result looks like when the device is honest. */
function honest(opcode: number, wanted: number): Uint8Array {
  switch (opcode) {
    case 0:
      return ALL_OPCODES;
    case 6:
      return NOTIFY;
    case 7:
      return words(1n);
    case 8:
      return Uint8Array.of(2, 2, 0, 0, 0, 0, 0, 0);
    case 0xe:
      return wanted === 2
        ? LIST_BYTES
        : Uint8Array.of(wanted === 0 ? PARTS_BYTES.length : 4, 0, 0, 0, 0, 0, 0, 0);
    case 0xf:
      return PARTS_BYTES;
    default:
      return new Uint8Array(0);
  }
}

/** Bytes of a device-writable part: honest, mutated, or noise; of any length. */
function hostile(random: Random, opcode: number, wanted: number, room: number): Uint8Array {
  const result = honest(opcode, wanted);
  const bytes = new Uint8Array(Math.max(room, 8));
  if (random.below(3) === 0) bytes.set(NOISE.subarray(random.below(4096)).subarray(0, bytes.length));
  else {
    bytes.set(result.subarray(0, Math.max(room - 8, 0)), 8);
    for (let flips = random.below(6); flips > 0; flips--) {
      const at = random.below(bytes.length);
      bytes[at] = random.below(2) === 0
        ? bytes[at]! ^ 1 << random.below(8)
        : [0, 1, 0x7f, 0x80, 0xff][random.below(5)]!;
    }
  }
  const view = new DataView(bytes.buffer);
  if (random.below(4) > 0) view.setUint16(0, 0, true);
  else view.setUint16(0, STATUSES[random.below(STATUSES.length)]!, true);
  if (random.below(2) === 0) view.setUint16(2, random.below(10), true);
  return bytes;
}

function usedLength(random: Random, room: number): number {
  const kind = random.below(8);
  if (kind < 5) return room;
  return kind === 5
    ? random.below(9)
    : kind === 6
    ? random.below(room + 1)
    : room + 1 + random.below(1 << 20);
}

function checkAreas(areas: readonly LegacyNotifyArea[]): void {
  assert(areas.length <= 4);
  for (const { whose, bar, offset } of areas) {
    assert(whose === "owner" || whose === "member");
    assert(bar >= 1 && bar <= 5 && Number.isSafeInteger(offset) && offset % 2 === 0);
  }
}

Deno.test(campaign(
  `${DECODED} hostile replies to the decoders: a value in range or a typed error, nothing else`,
  () => {
    const random = new Random(0xadadad);
    const calls: { readonly call: AdminCall<unknown>; readonly wanted: number }[] = [
      { call: listQueryCall(1, 64), wanted: 0 },
      { call: legacyReadCall(3n, "common", 18, 1), wanted: 0 },
      { call: legacyReadCall(3n, "device", 0, 4), wanted: 0 },
      { call: notifyInfoCall(3n), wanted: 0 },
      { call: capListCall(64), wanted: 0 },
      { call: capGetCall(0, 16), wanted: 0 },
      { call: partsMetadataCall(3n, 0, "size"), wanted: 0 },
      { call: partsMetadataCall(3n, 0, "count"), wanted: 1 },
      { call: partsListCall(3n, 0, 8), wanted: 2 },
      { call: partsGetCall(3n, 0, "all", 200), wanted: 1 },
    ];
    const outcomes = new Map<string, number>();
    const count = (what: string) => outcomes.set(what, (outcomes.get(what) ?? 0) + 1);
    for (let i = 0; i < DECODED; i++) {
      const { call, wanted } = calls[random.below(calls.length)]!;
      const { command } = call;
      const { writable } = adminFrameSize(command);
      const bytes = hostile(random, command.opcode, wanted, writable);
      const place = { function: "pf", queue: 3, ...command, memberId: command.memberId ?? 0n };
      try {
        const reply = decodeAdminReply(bytes, usedLength(random, writable), command.resultBytes ?? 0, place);
        assertEquals(reply.result.length, command.resultBytes);
        if (reply.status !== 0) throw new AdminCommandError(place, reply.status, reply.qualifier);
        const value = call.read(reply, "pf");
        if (command.opcode === 3) assert(value as number <= 0xff);
        if (command.opcode === 6) checkAreas(value as LegacyNotifyArea[]);
        count("value");
      } catch (error) {
        // DeviceError, of which AdminCommandError is one; an assertion, TypeError or RangeError fails the test.
        if (!(error instanceof DeviceError)) throw error;
        assert(error.location.field !== undefined && error.location.function === "pf");
        count(error.name);
      }
    }
    // Each way out was taken often.
    for (const name of ["value", "DeviceError", "AdminCommandError"]) {
      assert((outcomes.get(name) ?? 0) > DECODED / 18, name);
    }
  },
));

Deno.test(campaign(
  `${SENT} commands to a hostile device: typed errors only, no hang, and a reset always helps`,
  async () => {
    const random = new Random(77);
    let broken = 0;
    const answer = (command: SeenCommand): FakeAnswer | undefined => {
      // Not answered: held, and returned later.
      if (random.below(2000) === 0) return undefined;
      const bytes = hostile(random, command.opcode, command.data[8] ?? 0, command.writable);
      // EAGAIN would be repeated.
      return { bytes, used: Math.min(usedLength(random, command.writable), command.writable) };
    };
    const device = new FakeOwner(standardAnswer, { lanes: 2 });
    const options = { timeoutMs: 2, retries: 1, backoffMs: 0, depth: 8 };
    let pf = await patiently(() => VirtioAdmin.open(device.transport, options));
    const outcomes = new Map<string, number>();

    const one = async (): Promise<void> => {
      const member = pf.member(random.below(20));
      switch (random.below(12)) {
        case 0:
          return void pf.sriov.listQueryNow();
        case 1:
          return void await pf.self.listQuery();
        case 2:
          return checkAreas(member.legacy.notifyAreas());
        case 3:
          return void assert(member.legacy.readCommon(18, 1) <= 0xff);
        case 4:
          return void assert(await member.legacyAsync.readDevice(0, 4) < 2 ** 32);
        case 5:
          return member.legacy.writeCommon(14, 2, random.below(0x10000));
        case 6:
          return void await pf.capabilities.list();
        case 7:
          return void await pf.capabilities.partsLimits();
        case 8:
          return void await member.saveParts();
        case 9:
          return await member.loadParts(PARTS);
        case 10: {
          await using object = await member.createPartsObject("get");
          return void await object.list();
        }
        default: {
          const resultBytes = random.below(random.below(10) === 0 ? 5000 : 100);
          const { result } = pf.admin.executeNow({
            opcode: random.below(0x8000),
            groupType: random.below(3),
            resultBytes,
          });
          return assertEquals(result.length, resultBytes);
        }
      }
    };

    for (let sent = 0, at = 0; sent < SENT; at++) {
      device.answer = answer;
      device.seen.length = 0;
      // Several at a time, now and then.
      const batch = Array.from({ length: random.below(20) === 0 ? 10 : 1 }, one);
      const lie = random.below(500) === 0;
      if (lie) {
        // The ring itself lies: a wrong id, a length beyond the buffer, or an index that jumps.
        const ring = device.transport.rings.get(FIRST)!;
        const kind = random.below(3);
        if (kind === 0) ring.push(random.below(0x10000), 8);
        else if (kind === 1) ring.push(random.below(64), 0xffff_ffff);
        else ring.usedIndex = (ring.usedNext + 2 + random.below(1000)) & 0xffff;
      }
      let suspect = lie;
      for (const result of await Promise.allSettled(batch)) {
        let name = "value";
        if (result.status === "rejected") {
          // `await using` wraps the error of a failing destroy together with the one before it.
          const error = result.reason instanceof SuppressedError ? result.reason.error : result.reason;
          if (!(error instanceof RingsideError)) throw error;
          name = error.name;
          if (error instanceof DeviceError && !(error instanceof AdminCommandError)) suspect = true;
        }
        outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
      }
      sent += device.seen.length;
      while (device.held.length > 0 && random.below(4) === 0) {
        device.release({}, random.below(device.held.length));
      }
      const ringBroken = suspect && isBroken(pf);
      if (ringBroken || random.below(3000) === 0) {
        if (ringBroken) broken++;
        device.held.length = 0;
        device.answer = standardAnswer;
        if (random.below(2) === 0) await patiently(() => pf.reset());
        else {
          pf.close();
          await pf.settled;
          pf = await patiently(() => VirtioAdmin.open(device.transport, options));
        }
        await patiently(() => pf.member(0).setMode(true));
      }
    }
    assert(broken > SENT / 5000, `the ring broke ${broken} times`);
    for (const name of ["value", "DeviceError", "AdminCommandError", "AdminTimeoutError", "UsageError"]) {
      assert((outcomes.get(name) ?? 0) > SENT / 10_000, `${name}: ${outcomes.get(name)}`);
    }
    // Nothing is left behind.
    pf.close();
    await pf.settled;
    assertEquals(device.transport.iommu.mapped.length, 0);
    device.transport.close();
  },
));

/** The device is honest, but this machine may not be quick enough for the short time that commands have here. */
async function patiently<T>(act: () => Promise<T>): Promise<T> {
  for (let tries = 1;; tries++) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof AdminTimeoutError) || tries === 1000) throw error;
    }
  }
}

/** The same error twice means that the queues are broken. */
function isBroken(pf: VirtioAdmin): boolean {
  const errors = [0, 1].map(() => {
    try {
      return pf.admin.executeNow({ opcode: 0x7000, groupType: 7 }, { timeoutMs: 50 });
    } catch (error) {
      return error;
    }
  });
  return errors[0] instanceof DeviceError && errors[0] === errors[1];
}

Deno.test("a status that the device leaves unwritten is not OK, however long it says that it wrote", () => {
  for (let used = 8; used <= 24; used++) {
    const bytes = new Uint8Array(24);
    prepareAdminReply(bytes);
    const place = { function: "pf", opcode: 3, groupType: 1, memberId: 1n };
    assert(decodeAdminReply(bytes, used, 16, place).status !== 0);
  }
  assert(
    new AdminTimeoutError({ function: "pf", opcode: 3, groupType: 1, memberId: 1n }, "x", "") instanceof
      RingsideError,
  );
});
