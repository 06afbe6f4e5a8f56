import { assert, assertEquals } from "@std/assert";
import { campaign, Random, rounds } from "../../../../random.ts";
import { AdminRig, encodeFrame } from "./rig.ts";
import { encode, le, Oracle } from "./oracle.ts";

const FRAMES = rounds(1_000_000);
const SEED = 0x5eed_0004;
const ALL = [[0x83, 0x03, 0], [0x7f, 0xfc, 0x03]] as const;

/** Draws commands, most of them sensible, and spoils some. */
class Drawer {
  readonly random: Random;
  readonly oracle: Oracle;

  constructor(seed: number, oracle: Oracle) {
    this.random = new Random(seed);
    this.oracle = oracle;
  }

  below(n: number): number {
    return this.random.below(n);
  }
  bytes(count: number): number[] {
    return Array.from({ length: count }, () => this.random.next() & 0xff);
  }

  /** A chain has at least one byte. */
  frame(): { readable: Uint8Array; writable: number } {
    const { readable, writable } = this.#frame();
    return { readable, writable: Math.max(writable, readable.length === 0 ? 1 : 0) };
  }

  #frame(): { readable: Uint8Array; writable: number } {
    const how = this.below(20);
    if (how === 0) return { readable: Uint8Array.from(this.bytes(this.below(64))), writable: this.below(80) };
    const { bytes, room } = this.#sensible();
    if (how < 5) {
      for (let n = 1 + this.below(3); n > 0; n--) {
        bytes[this.below(bytes.length)] = this.#byte();
      }
    }
    if (how === 5) return { readable: bytes.subarray(0, this.below(bytes.length + 1)), writable: 8 + room };
    if (how === 6) {
      return { readable: Uint8Array.of(...bytes, ...this.bytes(this.below(32))), writable: 8 + room };
    }
    if (how === 7) return { readable: bytes, writable: this.below(8 + room + 1) };
    if (how === 8) return { readable: bytes, writable: 8 + room + this.below(64) };
    return { readable: bytes, writable: 8 + room };
  }

  #byte(): number {
    return [0, 1, 2, 0x80, 0xff, this.random.next() & 0xff][this.below(6)]!;
  }

  #sensible(): { bytes: Uint8Array; room: number } {
    const { members, inUse } = this.oracle;
    const group = this.below(8) === 0 ? 0 : 1;
    let opcode = group === 0 ? [0, 7, 8, 9, 9][this.below(5)]! : 2 + this.below(16);
    // A list that lacks something is drawn now and then, and soon replaced.
    if (this.below(60) === 0 || inUse[group]!.size < 4) opcode = 1;
    const member = opcode < 2 || group === 0
      ? 0
      : this.below(40) === 0
      ? this.below(12)
      : 1 + this.below(Math.max(1, members.length));
    const { data, room } = this.#payload(opcode, group, member);
    return { bytes: encodeFrame({ opcode, group, member: BigInt(member), data }), room };
  }

  #payload(opcode: number, group: number, member: number): { data: number[]; room: number } {
    const id = this.below(6), header = [0, 0, 0, 0, ...le(id, 4)];
    switch (opcode) {
      case 1: {
        const data: number[] = [...ALL[group as 0 | 1], 0, 0, 0, 0, 0];
        if (this.below(4) === 0) data[this.below(3)]! &= this.random.next() & 0xff;
        return { data, room: 0 };
      }
      case 2:
      case 4:
        return {
          data: [this.below(26), 0, 0, 0, 0, 0, 0, 0, ...this.bytes([1, 2, 2, 4, 4, 6, 3][this.below(7)]!)],
          room: 0,
        };
      case 3:
      case 5:
        return { data: [this.below(26)], room: [1, 2, 2, 4, 4, 6, 3][this.below(7)]! };
      case 6:
        return { data: [], room: 64 };
      case 9:
        return { data: [0, 0, 0, 0, 0, 0, 0, 0, this.below(18), this.below(18)], room: 0 };
      case 10:
      case 11:
        return { data: [...header, 0, 0, 0, 0, 0, 0, 0, 0, this.below(2), 0, 0, 0, 0, 0, 0, 0], room: 0 };
      case 14:
        return { data: [...header, this.below(3), 0, 0, 0, 0, 0, 0, 0], room: 8 * this.below(14) };
      case 15: {
        const wanted = this.below(2);
        const list = wanted === 1 ? [] : this.#parts(member).flatMap((one) => encode(one).slice(0, 16));
        return { data: [...header, wanted, 0, 0, 0, 0, 0, 0, 0, ...list], room: 256 };
      }
      case 16: {
        const parts = this.#parts(member).flatMap(encode);
        return { data: [...header, ...parts, ...new Array(this.below(8)).fill(0)], room: 0 };
      }
      case 17:
        return { data: [this.below(2)], room: 0 };
      default:
        return { data: header, room: 16 };
    }
  }

  /** Parts that the member has, or others. */
  #parts(member: number): { type: number; flags: number; selector: bigint; value: number[] }[] {
    const there = this.oracle.members[member - 1]?.parts ?? [];
    if (there.length > 0 && this.below(2) === 0) return there.filter(() => this.below(3) > 0);
    return Array.from({ length: this.below(5) }, () => ({
      type: 0x100 + this.below(this.below(8) === 0 ? 8 : 5),
      flags: this.below(2),
      selector: BigInt(this.below(3)),
      value: this.bytes(this.below(12)),
    }));
  }

  cuts(length: number): number[] {
    return Array.from({ length: this.below(4) }, () => this.below(length + 1));
  }
}

Deno.test(campaign(
  "a million commands, random, spoiled, cut off and split anywhere: the answers that the rules say, and not a byte more",
  () => {
    const oracle = new Oracle();
    const draw = new Drawer(SEED, oracle);
    using rig = new AdminRig({ legacyNotify: "both" });
    const statuses = new Map<string, number>();
    const restart = () => {
      rig.restart();
      oracle.reset();
    };
    const changeVfs = () => {
      rig.disableVfs();
      const count = draw.below(10) === 0 ? 0 : 1 + draw.below(8);
      rig.enableVfs(count);
      oracle.members = rig.members.map((one) => ({
        common: [...one.common],
        device: [...one.device],
        msix: false,
        stopped: false,
        parts: one.current.map((part) => ({ ...part, value: [...part.value] })),
        objects: new Map(),
      }));
    };
    rig.start();
    changeVfs();
    let sent = 0;
    for (let batch = 0; sent < FRAMES; batch++) {
      if (draw.below(500) === 0 || oracle.inUse.some((list) => !list.has(1) && draw.below(20) === 0)) {
        restart();
      }
      const queue = draw.below(2);
      const frames = Array.from({ length: 1 + draw.below(8) }, () => draw.frame());
      for (const { readable, writable } of frames) {
        rig.send(queue, readable, writable, draw.cuts(readable.length), draw.cuts(writable));
      }
      sent += frames.length;
      // VFs go and come while commands wait.
      if (draw.below(200) === 0) changeVfs();
      if (draw.below(20) === 0 && rig.members.length > 0) {
        const index = draw.below(rig.members.length);
        rig.members[index]!.msix = oracle.members[index]!.msix = draw.below(2) === 1;
      }
      const answers = rig.finish();
      frames.forEach(({ readable, writable }, i) => {
        const expected = oracle.answer(readable, writable);
        const { used, memory } = answers[i]!;
        let same = used === Math.min(writable, expected.length);
        for (let k = 0; same && k < used; k++) same = memory[k] === expected[k];
        if (!same) {
          assertEquals(
            [...memory.subarray(0, used)],
            expected.slice(0, writable),
            `seed ${SEED}, batch ${batch}, frame ${[...readable]} with ${writable} bytes for the answer`,
          );
        }
        const key = `${expected[0]}/${expected[2]}`;
        statuses.set(key, (statuses.get(key) ?? 0) + 1);
      });
      if (batch % 64 === 0) {
        rig.rules();
        assertEquals(rig.fn.status, 15);
        rig.members.forEach((member, i) => {
          const { common, device, stopped, parts } = oracle.members[i]!;
          assertEquals([[...member.common], [...member.device], member.stopped], [common, device, stopped]);
          assertEquals(member.current.flatMap(encode), parts.flatMap(encode));
        });
      }
    }
    // Every status and qualifier that there is, each often enough to mean something.
    const expected = ["0/0", "6/3", "12/6", "16/1", "17/3", "22/2", "22/3", "22/4", "22/5", "28/6"];
    assertEquals([...statuses.keys()].sort(), expected.sort());
    assert(statuses.get("0/0")! > FRAMES / 4, JSON.stringify([...statuses]));
    for (const [key, count] of statuses) assert(count > FRAMES / 2000, `${key}: ${count}`);
  },
));
