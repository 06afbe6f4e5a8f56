import { assert, assertEquals } from "@std/assert";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import type { Chain, Part } from "./model_ring.ts";
import { campaign, Random, rounds } from "../../../random.ts";
import { ringFixture } from "./ring_fixture.ts";

interface Wanted {
  readonly parts: Part[];
  readonly descriptors: number;
}

/** Drives a queue and the model of its device by chance, beside plain lists of what must come out. */
function run(
  seed: number,
  operations: number,
  options: { size: number; maxSegments: number; eventIndex: boolean },
) {
  using fixture = ringFixture({ ...options, indirect: options.maxSegments > 0 });
  const { queue, ring } = fixture;
  const { size, maxSegments } = options;
  const random = new Random(seed);
  const into = usedBurst(size);

  const flying = new Map<number, Wanted>();
  let unpublished: number[] = [];
  const waiting: number[] = []; // published, not popped, in order
  const held: number[] = []; // popped by the device
  let returned: { head: number; length: number }[] = [];
  let available = 0;
  let usedTaken = 0;
  const counts = { added: 0, refused: 0, tables: 0, notified: 0, quiet: 0, taken: 0 };
  const fail = (message: string): never => {
    throw new Error(`seed ${seed}: ${message}`);
  };
  const free = () => size - [...flying.values()].reduce((sum, one) => sum + one.descriptors, 0);

  for (let step = 0; step < operations; step++) {
    const choice = random.below(100);
    if (choice < 45) {
      const total = 1 + random.below(Math.min(size, random.below(4) === 0 ? size : 5));
      const readable = random.below(total + 1);
      const table = total > 1 && total <= maxSegments;
      const need = table ? 1 : total;
      const fits = need <= free();
      const parts: Part[] = [];
      for (let i = 0; i < total; i++) {
        const [lo, hi] = [random.next(), random.next()];
        parts.push({
          iova: (BigInt(hi) << 32n) | BigInt(lo),
          length: 1 + random.below(65536),
          write: i >= readable,
        });
      }
      let id = -1;
      if (total === 1 && random.below(2) === 0) {
        const part = parts[0]!;
        id = queue.addSingle(
          Number(part.iova & 0xffff_ffffn),
          Number(part.iova >> 32n),
          part.length,
          part.write,
        );
        if ((id >= 0) !== fits) fail(`addSingle gave ${id} with ${free()} free`);
      } else {
        if (queue.begin(readable, total - readable) !== fits) fail(`begin(${total}) with ${free()} free`);
        if (fits) {
          for (const part of parts) {
            queue.segment(Number(part.iova & 0xffff_ffffn), Number(part.iova >> 32n), part.length);
          }
          id = queue.commit();
        }
      }
      if (id < 0) counts.refused++;
      else {
        if (id >= size || flying.has(id)) fail(`id ${id} is in flight`);
        flying.set(id, { parts, descriptors: need });
        unpublished.push(id);
        counts.added++;
      }
    } else if (choice < 60) {
      const event = (available + random.below(8) - 2) & 0xffff;
      const flag = random.below(2);
      ring.availableEvent = event;
      ring.usedFlags = flag;
      let expected = false;
      for (let i = 0; i < unpublished.length; i++) {
        if (options.eventIndex ? ((available + i) & 0xffff) === event : flag === 0) expected = true;
      }
      available = (available + unpublished.length) & 0xffff;
      if (queue.publish() !== expected) fail(`publish up to ${available} with event ${event}, flag ${flag}`);
      counts[expected ? "notified" : "quiet"]++;
      waiting.push(...unpublished);
      unpublished = [];
      if (ring.availableIndex !== available) fail("available index");
    } else if (choice < 75) {
      for (let n = random.below(size) + 1; n > 0 && waiting.length > 0; n--) {
        const head = waiting.shift()!;
        const chain: Chain = ring.pop() ?? fail("nothing to pop");
        if (chain.head !== head) fail(`popped ${chain.head}, not ${head}`);
        const wanted = flying.get(head)!;
        if (chain.table !== (wanted.parts.length > 1 && wanted.descriptors === 1)) fail("table or not");
        if (chain.table) counts.tables++;
        if (chain.parts.length !== wanted.parts.length) fail(`${chain.parts.length} parts`);
        for (const [i, part] of chain.parts.entries()) {
          const other = wanted.parts[i]!;
          if (part.iova !== other.iova || part.length !== other.length || part.write !== other.write) {
            fail(`part ${i} of ${head}`);
          }
        }
        held.push(head);
      }
      if (waiting.length === 0 && ring.pop() !== undefined) fail("a chain that was not published");
    } else if (choice < 88) {
      for (let n = random.below(4) + 1; n > 0 && held.length > 0; n--) {
        const [head] = held.splice(random.below(held.length), 1) as [number];
        const room = flying.get(head)!.parts.reduce((sum, part) => sum + (part.write ? part.length : 0), 0);
        const length = random.below(3) === 0 ? room : random.below(room + 1);
        ring.push(head, length);
        returned.push({ head, length });
      }
    } else if (choice < 97) {
      const max = random.below(3) === 0 ? 1 + random.below(size) : size;
      if (queue.hasUsed() !== returned.length > 0) fail("hasUsed");
      const n = queue.takeUsed(into, max);
      if (n !== Math.min(max, returned.length)) fail(`took ${n} of ${returned.length}, at most ${max}`);
      for (let i = 0; i < n; i++) {
        const { head, length } = returned[i]!;
        if (into.ids[i] !== head || into.lengths[i] !== length) fail(`took ${into.ids[i]}, not ${head}`);
        flying.delete(head);
      }
      returned = returned.slice(n);
      usedTaken = (usedTaken + n) & 0xffff;
      counts.taken += n;
    } else {
      if (queue.enableInterrupts() !== returned.length > 0) fail("enableInterrupts");
      if (options.eventIndex && ring.usedEvent !== usedTaken) fail("used_event");
      if (options.eventIndex && ring.availableFlags !== 0) fail("flags with event index");
    }
    if (queue.freeDescriptors !== free()) fail(`free: ${queue.freeDescriptors}, not ${free()}`);
    if (queue.inFlight !== flying.size) fail("in flight");
  }
  assertEquals(queue.inFlightIds(), [...flying.keys()].sort((a, b) => a - b));
  return counts;
}

Deno.test(campaign("1.3 differential: 240,000 random operations against plain lists", () => {
  const total = { added: 0, refused: 0, tables: 0, notified: 0, quiet: 0, taken: 0 };
  let seed = 20240601;
  for (const size of [1, 4, 16, 64]) {
    for (const maxSegments of [0, Math.min(size, 3)]) {
      for (const eventIndex of [false, true]) {
        const counts = run(seed++, rounds(15_000), { size, maxSegments, eventIndex });
        for (const key in total) total[key as keyof typeof total] += counts[key as keyof typeof total];
      }
    }
  }
  // The run is worth something only when it went everywhere.
  for (const [what, count] of Object.entries(total)) assert(count > rounds(4_000), `${what}: ${count}`);
}));
