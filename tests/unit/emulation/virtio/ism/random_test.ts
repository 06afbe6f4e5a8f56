/** 100,000 random operations of three virtio-ism functions against a model of the rules that is written another way. */
import { assert, assertEquals } from "@std/assert";
import { mappingCount, openFdCount } from "../../../../../ffi/mod.ts";
import { IsmDomains } from "../../../../../lib/emulation/virtio/ism/domain.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import {
  CHUNK,
  chunksOf,
  E2BIG,
  EATTACH,
  ENOENT,
  ENOMEM,
  ENOSPC,
  EREAD,
  ERR,
  EWRITE,
  IsmRig,
  OK,
  READ,
  WRITE,
} from "./rig.ts";

const OPERATIONS = rounds(100_000);
const CHUNKS = 48;
const MEMORY_CHUNKS = 96;
const FUNCTIONS = 3;

interface ModelRegion {
  readonly token: bigint;
  readonly size: number;
  readonly num: number;
  readonly allocator: number;
  /** One byte a chunk. */
  readonly marks: number[];
  default: number;
  readonly dedicated: Map<number, number>;
  /** Function → chunk numbers and rights. */
  readonly refs: Map<number, { chunks: number[]; rights: number }>;
}

/** What the functions should know, kept as plainly as possible. */
class Model {
  readonly regions = new Map<bigint, ModelRegion>();
  readonly dead: bigint[] = [];

  permissions(region: ModelRegion, who: number): number {
    return region.dedicated.get(who) ?? region.default;
  }

  used(who: number): Set<number> {
    const used = new Set<number>();
    for (const { refs } of this.regions.values()) {
      for (const chunk of refs.get(who)?.chunks ?? []) {
        assert(!used.has(chunk), `chunk ${chunk} stands for two regions`);
        used.add(chunk);
      }
    }
    return used;
  }

  memory(): number {
    return [...this.regions.values()].reduce((sum, { num }) => sum + num, 0);
  }

  drop(region: ModelRegion, who: number): void {
    region.refs.delete(who);
    if (region.refs.size > 0) return;
    this.regions.delete(region.token);
    this.dead.push(region.token);
    if (this.dead.length > 50) this.dead.shift();
  }
}

Deno.test(campaign(
  "4: N-5.4 N-5.5 N-5.8 N-5.10 A-5.5 random alloc, attach, detach, grant, write and reset: exhaustion, fragmentation, zeroes, rights, no leak",
  () => {
    const before = [openFdCount(), mappingCount().mappings];
    const random = new Random(0x15a1);
    const below = (limit: number) => random.below(limit);
    const domains = new IsmDomains();
    const options = { chunks: CHUNKS, memory: MEMORY_CHUNKS * CHUNK };
    const rigs = Array.from(
      { length: FUNCTIONS },
      (_, i) => new IsmRig(domains, options, `0000:0${i + 1}:00.0`),
    );
    const devids = rigs.map((rig) => rig.devid);
    const model = new Model();
    const seen = new Set<number>();
    const tokens = new Set<bigint>();
    let fragmented = 0;

    const pick = (): ModelRegion | undefined => [...model.regions.values()][below(model.regions.size || 1)];
    const pickToken = (): bigint => {
      const region = below(12) === 0 ? undefined : pick();
      return region?.token ?? model.dead[below(model.dead.length || 1)] ?? 12345n;
    };
    const checkChunks = (chunks: number[], num: number, who: number) => {
      assertEquals(chunks.length, num);
      const used = model.used(who);
      for (const chunk of chunks) {
        assert(chunk >= 0 && chunk < CHUNKS && Number.isInteger(chunk), `chunk ${chunk}`);
        assert(!used.has(chunk), `chunk ${chunk} is in use`);
        used.add(chunk);
      }
      if (chunks.some((chunk, i) => i > 0 && chunk !== chunks[i - 1]! + 1)) fragmented++;
    };
    // The same place in every chunk: chunks that were mixed up would show each other's marks.
    const MARK_AT = 37;
    const mark = (who: number, region: ModelRegion, place: number): number =>
      rigs[who]!.read(region.refs.get(who)!.chunks[place]! * CHUNK + MARK_AT, 1)[0]!;

    let retries = 0;
    /** With as much room as E2BIG asked for. */
    const again = <T extends { ack: number }>(step: number, ask: (bytes: number) => T, num: number): T => {
      const answer = ask(16 + 8 * num);
      assertEquals(answer.ack, OK, `step ${step}: after E2BIG`);
      retries++;
      return answer;
    };

    for (let step = 0; step < OPERATIONS; step++) {
      const who = below(FUNCTIONS);
      const rig = rigs[who]!;
      const action = below(1000);
      if (action < 250) {
        const size = below(20) === 0 ? 0 : 1 + below(below(8) === 0 ? 60 * CHUNK : 8 * CHUNK);
        const num = Math.ceil(size / CHUNK);
        const room = below(10) === 0 ? below(3) : 60;
        const expected = size === 0
          ? ERR
          : num > CHUNKS - model.used(who).size
          ? ENOSPC
          : num + model.memory() > MEMORY_CHUNKS
          ? ENOMEM
          : room < num
          ? E2BIG
          : OK;
        let { ack, reply } = rig.alloc(size, 16 + 8 * room);
        assertEquals(ack, expected, `step ${step}: ALLOC of ${size} by ${who}`);
        seen.add(ack);
        if (ack === E2BIG) {
          assertEquals(reply.getBigUint64(8, true), BigInt(num));
          if (below(2) === 0) ({ ack, reply } = again(step, (bytes) => rig.alloc(size, bytes), num));
        }
        if (ack === OK) {
          const token = reply.getBigUint64(0, true);
          assert(!tokens.has(token), "a token came twice");
          tokens.add(token);
          const chunks = chunksOf(reply);
          checkChunks(chunks, num, who);
          const region: ModelRegion = {
            token,
            size,
            num,
            allocator: who,
            marks: new Array(num).fill(0),
            default: 7,
            dedicated: new Map([[who, 15]]),
            refs: new Map([[who, { chunks, rights: READ | WRITE }]]),
          };
          model.regions.set(token, region);
          for (let place = 0; place < num; place++) {
            assertEquals(mark(who, region, place), 0, `step ${step}: not zeroed`);
          }
        }
      } else if (action < 500) {
        const token = pickToken();
        const region = model.regions.get(token);
        const rights = below(4);
        const room = below(10) === 0 ? below(3) : 60;
        const may = region === undefined ? 0 : model.permissions(region, who);
        const expected = region === undefined
          ? ENOENT
          : region.refs.has(who)
          ? ERR
          : (may & 4) === 0
          ? EATTACH
          : (rights & READ & ~may) !== 0
          ? EREAD
          : (rights & WRITE & ~may) !== 0
          ? EWRITE
          : region.num > CHUNKS - model.used(who).size
          ? ENOSPC
          : room < region.num
          ? E2BIG
          : OK;
        let { ack, reply } = rig.attach(token, rights, 16 + 8 * room);
        assertEquals(ack, expected, `step ${step}: ATTACH by ${who}`);
        seen.add(ack);
        if (ack === E2BIG) {
          assertEquals(reply.getBigUint64(8, true), BigInt(region!.num));
          if (below(2) === 0) {
            ({ ack, reply } = again(step, (bytes) => rig.attach(token, rights, bytes), region!.num));
          }
        }
        if (ack === OK) {
          assertEquals(reply.getBigUint64(0, true), BigInt(region!.size));
          const chunks = chunksOf(reply);
          checkChunks(chunks, region!.num, who);
          region!.refs.set(who, { chunks, rights });
        }
      } else if (action < 750) {
        const token = pickToken();
        const region = model.regions.get(token);
        const ack = rig.detach(token);
        assertEquals(ack, region?.refs.has(who) ? OK : ENOENT, `step ${step}: DETACH by ${who}`);
        if (ack === OK) model.drop(region!, who);
      } else if (action < 850) {
        const region = pick();
        if (region === undefined) continue;
        const place = below(region.num);
        const ref = region.refs.get(who);
        if (ref === undefined) continue;
        if ((ref.rights & WRITE) !== 0) {
          const value = 1 + below(254);
          rig.write(ref.chunks[place]! * CHUNK + MARK_AT, [value]);
          region.marks[place] = value;
        }
        if ((ref.rights & READ) !== 0) {
          assertEquals(mark(who, region, place), region.marks[place]!, `step ${step}`);
        }
      } else if (action < 900) {
        const region = pick();
        if (region === undefined) continue;
        const permissions = below(16);
        const peer = below(FUNCTIONS);
        const manages = (model.permissions(region, who) & 8) !== 0;
        const attached = region.refs.has(who);
        if (below(2) === 0) {
          const ack = rig.grantDefault(region.token, permissions);
          assertEquals(ack, !attached ? ENOENT : !manages ? ERR : OK);
          if (ack === OK) region.default = permissions;
        } else {
          const clean = below(4) === 0 ? 16 : 0;
          const ack = rig.grant(region.token, permissions | clean, devids[peer]!);
          const fixed = peer === region.allocator && permissions !== 15;
          assertEquals(ack, !attached ? ENOENT : !manages || fixed ? ERR : OK);
          if (ack === OK) {
            region.dedicated.set(peer, permissions);
            if (clean !== 0) region.default = 0;
          }
        }
      } else if (action < 990) {
        const token = pickToken();
        const region = model.regions.get(token);
        const { ack, reply } = rig.query(token);
        assertEquals(ack, region === undefined ? ENOENT : OK);
        if (region !== undefined) {
          assertEquals(reply.getBigUint64(8, true), BigInt(model.permissions(region, who)));
        }
      } else if (action < 992) {
        rig.fn.status = 0;
        for (const region of [...model.regions.values()]) {
          if (region.refs.has(who)) model.drop(region, who);
        }
        rig.up();
      }
      if (step % 64 === 0) rig.fn.port.reports.length = 0;
      if (step % 1000 === 0) {
        const domain = rig.model.domain!;
        assertEquals([...domain.regions.keys()], [...model.regions.keys()]);
        assertEquals(domain.memoryUsedBytes, model.memory() * CHUNK);
        for (let i = 0; i < FUNCTIONS; i++) {
          const used = model.used(i);
          const map = rigs[i]!.model.member!.chunks;
          assertEquals(map.free, CHUNKS - used.size);
          for (let chunk = 0; chunk < CHUNKS; chunk++) {
            assertEquals(map.holderOf(chunk) !== undefined, used.has(chunk), `chunk ${chunk}`);
          }
        }
      }
    }
    assertEquals(
      [...seen].sort((a, b) => a - b),
      [OK, ENOENT, E2BIG, ENOMEM, ENOSPC, EATTACH, EREAD, EWRITE, ERR],
      "every answer was met",
    );
    assert(retries > rounds(100), `only ${retries} tries after E2BIG`);
    assert(fragmented > rounds(100), `only ${fragmented} regions were scattered`);
    for (const rig of rigs) rig[Symbol.dispose]();
    assertEquals([openFdCount(), mappingCount().mappings], before, "descriptors and mappings leak");
  },
));
