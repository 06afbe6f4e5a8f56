import { assertEquals } from "@std/assert";
import { FunctionTurns, type Polled } from "../../../lib/emulation/function_turns.ts";

/** A function whose work is a number of buffers. */
class Worker implements Polled {
  readonly address: string;
  readonly device: Polled["device"];
  work = 0;
  polls = 0;
  arms = 0;
  /** Work that comes while notifications are asked for. */
  late = 0;
  dueMs: number | undefined;
  breaks = false;
  disconnected = 0;

  constructor(address: string) {
    this.address = address;
    const poll = (budget: number): number => {
      this.polls++;
      if (this.breaks) throw new RangeError("broken model");
      const done = Math.min(this.work, budget);
      this.work -= done;
      return done;
    };
    const arm = (): boolean => {
      this.arms++;
      this.work += this.late;
      this.late = 0;
      return this.work > 0;
    };
    const due = () => this.dueMs;
    this.device = {
      behaviour: {
        poll,
        arm,
        get wakeAfterMs(): number | undefined {
          return due();
        },
      },
    };
  }

  disconnect(): void {
    this.disconnected++;
  }
}

function turnsOf(...functions: Worker[]): FunctionTurns {
  const turns = new FunctionTurns((fn) => {
    fn.disconnect();
    turns.left(fn);
  });
  for (const one of functions) turns.came(one);
  return turns;
}

function untilAsleep(turns: FunctionTurns): number {
  let moved = 0;
  for (let round = 0; turns.anyAwake && round < 10_000; round++) moved += turns.poll();
  assertEquals(turns.anyAwake, false);
  return moved;
}

Deno.test("turns: a thousand idle functions are armed once and polled no more; one that is touched is", () => {
  const all = Array.from({ length: 1000 }, (_, i) => new Worker(`f${i}`));
  const turns = turnsOf(...all);
  untilAsleep(turns);
  assertEquals(all.filter((one) => one.arms !== 1), []);
  for (const one of all) one.polls = 0;
  const busy = all[999]!;
  busy.work = 1000;
  assertEquals(turns.poll(), 0, "nobody said so");
  turns.touched(busy);
  assertEquals(turns.anyAwake, true);
  assertEquals(turns.poll(), 256, "the budget of one turn");
  assertEquals(untilAsleep(turns), 744);
  assertEquals(busy.arms, 2);
  assertEquals(all.filter((one) => one !== busy && (one.polls > 0 || one.arms !== 1)), []);
});

Deno.test("turns: work that comes while notifications are asked for keeps a function awake", () => {
  const one = new Worker("f");
  const turns = turnsOf(one);
  one.late = 3;
  assertEquals(untilAsleep(turns), 3);
  assertEquals(one.arms, 2);
});

Deno.test("turns: a look at all finds work that nobody announced", () => {
  const [a, b] = [new Worker("a"), new Worker("b")];
  const turns = turnsOf(a, b);
  untilAsleep(turns);
  b.work = 5;
  assertEquals(turns.pollAll(), 5);
  assertEquals(turns.anyAwake, true, "and it may have more");
  untilAsleep(turns);
  assertEquals([a.arms, b.arms], [1, 2]);
});

Deno.test("turns: a sleeper with a deadline is due then, once", () => {
  const [a, b] = [new Worker("a"), new Worker("b")];
  a.dueMs = 1000;
  b.dueMs = 5000;
  const turns = turnsOf(a, b);
  const before = performance.now();
  untilAsleep(turns);
  const after = performance.now();
  const until = turns.untilDueMs(before);
  assertEquals(until >= 1000 && until <= Math.ceil(after - before) + 1001, true);
  turns.wakeDue(before + 999);
  assertEquals(turns.anyAwake, false);
  turns.wakeDue(after + 1001);
  assertEquals(turns.anyAwake, true);
  a.dueMs = undefined;
  untilAsleep(turns);
  turns.wakeDue(after + 1001);
  assertEquals(turns.anyAwake, false);
  turns.left(b);
  assertEquals(turns.untilDueMs(0), Infinity);
});

Deno.test("turns: who leaves is not polled, also in the middle of a round, and may come again", () => {
  const [a, b] = [new Worker("a"), new Worker("b")];
  const turns = turnsOf(a, b);
  b.work = 10;
  turns.left(b);
  assertEquals(untilAsleep(turns), 0);
  assertEquals([b.polls, b.work], [0, 10]);
  turns.came(b);
  assertEquals(turns.poll(), 10);
  turns.left(b);
  turns.came(b);
  turns.came(b);
  b.polls = 0;
  turns.poll();
  assertEquals(b.polls, 1, "once a round, however often it came");
});

Deno.test("turns: a function that throws is broken off, and the others have their turn", () => {
  const [a, b, c] = [new Worker("a"), new Worker("b"), new Worker("c")];
  const turns = turnsOf(a, b, c);
  b.breaks = true;
  c.work = 4;
  assertEquals(turns.poll(), 4);
  assertEquals([b.disconnected, b.polls], [1, 1]);
  turns.pollAll();
  assertEquals(b.polls, 1);
});

Deno.test("turns: a function that must rest is neither polled nor asked to arm, and goes on afterwards", () => {
  const [a, b] = [new Worker("a"), new Worker("b")];
  let rests = true;
  const resting: Polled = Object.assign(a, { mayPoll: () => !rests });
  const turns = turnsOf(a, b);
  a.work = 3;
  for (let round = 0; round < 200; round++) turns.poll();
  assertEquals([turns.pollAll(), a.polls, a.arms, b.arms, turns.anyAwake], [0, 0, 0, 1, true]);
  rests = false;
  assertEquals([untilAsleep(turns), resting.address, a.arms], [3, "a", 1]);
});

/** Polls of one function before it sleeps. */
function pollsUntilAsleep(turns: FunctionTurns, one: Worker): number {
  one.polls = 0;
  untilAsleep(turns);
  return one.polls;
}

/** One function on a clock, asleep. */
function onClock() {
  const clock = { ms: 0 };
  const one = new Worker("f");
  const turns = new FunctionTurns(() => {}, () => clock.ms);
  turns.came(one);
  untilAsleep(turns);
  const sleep = (ms: number) => {
    clock.ms += ms;
    turns.touched(one);
  };
  return { one, turns, sleep };
}

Deno.test("turns: a function that sleeps for long is never patient; one whose sleep was short is, until that was in vain", () => {
  const { one, turns, sleep } = onClock();
  for (let i = 0; i < 5; i++) {
    sleep(1);
    assertEquals(pollsUntilAsleep(turns, one), 64);
  }
  sleep(0.1);
  const patient = pollsUntilAsleep(turns, one);
  assertEquals(patient > 1000, true);
  sleep(1);
  assertEquals(pollsUntilAsleep(turns, one), 64);
});

Deno.test("turns: patience that is in vain again and again is tried less and less often, and as often as before once it was not", () => {
  const { one, turns, sleep } = onClock();
  const sleeps: number[] = [];
  const passed = (): number => {
    for (let short = 1;; short++) {
      sleep(0.05);
      if (pollsUntilAsleep(turns, one) > 64) return short - 1;
    }
  };
  for (let i = 0; i < 12; i++) sleeps.push(passed());
  assertEquals(sleeps, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 1023]);
  for (let i = 0; i < 1023; i++) {
    sleep(0.05);
    untilAsleep(turns);
  }
  sleep(0.05);
  // Awake, and patient: what comes late is found.
  for (let i = 0; i < 200; i++) turns.poll();
  assertEquals(turns.anyAwake, true);
  one.work = 1;
  assertEquals(turns.poll(), 1);
  assertEquals(pollsUntilAsleep(turns, one) > 1000, true);
  assertEquals([passed(), passed()], [1, 3]);
});
