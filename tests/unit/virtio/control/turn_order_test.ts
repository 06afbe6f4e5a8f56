import { assert, assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../../lib/errors/mod.ts";
import { QueuedCommand } from "../../../../lib/virtio/admin/queued_command.ts";
import { type LaneRoom, TurnOrder } from "../../../../lib/virtio/control/turn_order.ts";
import { campaign, Random, rounds } from "../../../random.ts";
import { opened, RAW, turns } from "../admin/held_owner.ts";

/** A queue with so many places; counts who asks for them. */
class Places implements LaneRoom {
  outstanding = 0;
  looks = 0;
  readonly #places: number;

  constructor(places: number) {
    this.#places = places;
  }

  get room(): number {
    this.looks++;
    return this.#places - this.outstanding;
  }
}

let sequence = 0;

function asked(memberId: bigint | null, opcode = 0x11): QueuedCommand {
  const command = memberId === null ? undefined : { opcode, groupType: 1, memberId };
  return Object.assign(new QueuedCommand(command, Infinity, false), { sequence: sequence++ });
}

/** Sends whatever may be sent. */
function send(order: TurnOrder<QueuedCommand, Places>, now = 0): { pending: QueuedCommand; lane: Places }[] {
  const sent = [];
  for (let pending; (pending = order.next(now)) !== undefined;) {
    const lane = order.laneFor(pending);
    lane.outstanding++;
    order.sent(pending, lane);
    sent.push({ pending, lane });
  }
  return sent;
}

for (const pipelined of [false, true]) {
  const how = pipelined ? "pipelined" : "serial";

  Deno.test(`${how}: ten thousand commands that wait are not looked through for each that is sent`, () => {
    const lanes = [new Places(8), new Places(8)];
    const order = new TurnOrder<QueuedCommand, Places>(lanes, pipelined);
    const count = 10_000;
    const all = Array.from({ length: count }, (_, at) => asked(at % 3 === 0 ? 1n : 2n));
    let done = 0;
    const back: { pending: QueuedCommand; lane: Places }[] = [];
    for (const one of all) {
      order.add(one);
      back.push(...send(order));
    }
    for (; back.length > 0; done++) {
      const { pending, lane } = back.shift()!;
      lane.outstanding--;
      pending.done = true;
      order.returned(pending);
      order.ended(pending);
      back.push(...send(order));
    }
    assertEquals(done, count);
    const looks = lanes.reduce((sum, lane) => sum + lane.looks, 0);
    assert(looks < 50 * count, `${looks} looks`);
    assertEquals([...order.waiting()], []);
  });

  Deno.test(campaign(
    `${how}: orders made at random: N-3.6 each member's order, N-3.2 and N-3.7 alone is alone, and everybody's turn comes`,
    () => {
      for (let seed = 1; seed <= rounds(200); seed++) {
        const bits = new Random(seed);
        const random = (below: number) => bits.below(below);
        const lanes = Array.from({ length: 1 + random(3) }, () => new Places(1 + random(4)));
        const order = new TurnOrder<QueuedCommand, Places>(lanes, pipelined);
        const alive = new Set<QueuedCommand>();
        const atDevice: { pending: QueuedCommand; lane: Places }[] = [];
        const lastOf = new Map<string, { lane: Places; sequence: number }>();
        let alone: QueuedCommand | null = null;
        let quiet: QueuedCommand | null = null;
        let now = 0, left = 200;
        const end = (pending: QueuedCommand) => {
          pending.done = true;
          alive.delete(pending);
          order.ended(pending);
        };
        const step = () => {
          for (let pending; (pending = order.next(now)) !== undefined;) {
            assertEquals(
              [alone, quiet, pending.done],
              [null, null, false],
              "nobody beside one that goes alone",
            );
            if (pending.alone) {
              assertEquals(atDevice.length, 0);
              for (const one of alive) assert(one.sequence >= pending.sequence, "nobody before it is left");
            }
            if (pending.command === undefined) {
              quiet = pending;
              end(pending);
              continue;
            }
            const lane = order.laneFor(pending);
            assert(lane.room > 0);
            for (const one of order.waiting()) {
              if (one.line === pending.line) {
                assert(one.sequence > pending.sequence, "repeated ones first");
              }
            }
            const beside = atDevice.filter((one) => one.pending.line === pending.line);
            if (pipelined) { for (const one of beside) assertEquals(one.lane, lane); }
            else assertEquals(beside, []);
            assert(pending.notBefore <= now);
            const last = lastOf.get(pending.line);
            if (pending.attempts++ === 0) {
              if (last !== undefined) assert(last.sequence < pending.sequence, "in the order of the calls");
              lastOf.set(pending.line, { lane, sequence: pending.sequence });
            }
            lane.outstanding++;
            order.sent(pending, lane);
            atDevice.push({ pending, lane });
            if (pending.alone) alone = pending;
          }
        };
        for (let rounds = 0; left > 0 || alive.size > 0 || atDevice.length > 0 || quiet !== null; rounds++) {
          assert(rounds < 20_000, `seed ${seed}: ${alive.size} never had a turn`);
          now++;
          const dice = random(10);
          if (dice < 4 && left > 0) {
            left--;
            const kind = random(20);
            const pending = kind === 0
              ? asked(null)
              : kind === 1
              ? asked(0n, 1)
              : asked(BigInt(1 + random(4)));
            alive.add(pending);
            order.add(pending);
          } else if (dice < 5 && quiet !== null) {
            order.release(quiet);
            quiet = null;
          } else if (dice < 6 && alive.size > 0) {
            // Somebody's time is over; the device may have it.
            const all = [...alive];
            const pending = all[random(all.length)]!;
            const there = atDevice.some((one) => one.pending === pending);
            assertEquals([...order.waiting()].includes(pending), !there);
            end(pending);
            if (!there) {
              order.release(pending);
              if (alone === pending) alone = null;
            }
          } else if (atDevice.length > 0) {
            const [{ pending, lane }] = atDevice.splice(random(atDevice.length), 1) as [typeof atDevice[0]];
            lane.outstanding--;
            order.returned(pending);
            if (alone === pending) alone = null;
            if (pending.done || random(3) > 0) {
              if (!pending.done) end(pending);
              order.release(pending);
            } else {
              pending.notBefore = now + random(5);
              order.repeat(pending);
              assert(order.retryAt <= pending.notBefore);
            }
          }
          step();
        }
        assertEquals([...order.waiting()], []);
        assertEquals(order.outstanding, 0);
      }
    },
  ));
}

Deno.test("a synchronous command that quiet would wait for is refused at once, not spun for until its time is over", async () => {
  await using fixture = await opened();
  const { device, pf } = fixture;
  const first = pf.admin.execute({ ...RAW, memberId: 1n });
  let quiet = false;
  const waits = pf.admin.quiet(() => quiet = true);
  await turns();
  assertEquals([device.held.length, quiet], [1, false]);
  assertThrows(() => pf.admin.executeNow({ ...RAW, memberId: 2n }, { timeoutMs: 50 }), UsageError, "quiet");
  device.release();
  await waits;
  await first;
  device.answer = () => ({});
  pf.admin.executeNow({ ...RAW, memberId: 2n });
});
