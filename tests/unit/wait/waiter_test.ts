import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { EventFd, UnixSocket } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError, PeerGoneError, UsageError } from "../../../lib/errors/mod.ts";
import { Waiter, type WaitTarget } from "../../../lib/wait/waiter.ts";

/** A target by hand, which notes what is asked of it. */
class Target implements WaitTarget {
  ready = false;
  armed = 0;
  suppressed = 0;
  looks = 0;
  /** Runs when interrupts are enabled, before the second look. */
  onArm = () => {};
  onLook = () => {};
  hasUsed(): boolean {
    this.looks++;
    this.onLook();
    return this.ready;
  }
  suppressInterrupts(): void {
    this.suppressed++;
  }
  enableInterrupts(): boolean {
    this.armed++;
    this.onArm();
    return this.ready;
  }
}

/** A waiter on one eventfd. */
function watched(mode: "eventfd" | "adaptive", onSignal?: (isr: number) => void, spinMicroseconds = 20) {
  const waiter = new Waiter({ mode, spinMicroseconds });
  const eventFd = new EventFd();
  let acknowledged = 0;
  waiter.watch({ eventFd, acknowledge: () => (acknowledged++, 1) }, onSignal);
  return {
    waiter,
    eventFd,
    acknowledged: () => acknowledged,
    [Symbol.asyncDispose]: async () => {
      waiter.close();
      await waiter.settled;
      eventFd.close();
    },
  };
}

Deno.test("what is there already needs no wait and no interrupt", async () => {
  await using fixture = watched("adaptive");
  const target = new Target();
  target.ready = true;
  assertEquals(await fixture.waiter.wait(target, 0), true);
  assertEquals(fixture.waiter.waitBlocking(target, 0), true);
  assertEquals([target.armed, target.suppressed], [0, 0]);
});

Deno.test("a wait for what is not there yet is armed before the call returns, however many ended at once before it", async () => {
  for (const mode of ["eventfd", "adaptive"] as const) {
    for (let quick = 0; quick < 40; quick++) {
      await using fixture = watched(mode);
      const target = new Target();
      target.ready = true;
      for (let i = 0; i < quick; i++) await fixture.waiter.wait(target, Infinity);
      target.ready = false;
      const wait = fixture.waiter.wait(target, Infinity);
      assertEquals(target.armed, 1, `after ${quick}`);
      target.ready = true;
      fixture.eventFd.signal();
      assertEquals([await wait, fixture.waiter.interrupts], [true, 1]);
    }
  }
});

Deno.test("an interrupt ends a sleep; suppressed while polling, enabled before sleeping, acknowledged after", async () => {
  for (const mode of ["eventfd", "adaptive"] as const) {
    await using fixture = watched(mode);
    const target = new Target();
    const wait = fixture.waiter.wait(target, Infinity);
    assertEquals(target.suppressed, mode === "adaptive" ? 1 : 0);
    assertEquals(target.armed, 1);
    target.ready = true;
    fixture.eventFd.signal();
    assertEquals(await wait, true);
    assertEquals(fixture.acknowledged(), 1);
    assertEquals(fixture.waiter.interrupts, 1);
    assertEquals(
      target.suppressed,
      mode === "adaptive" ? 2 : 1,
      "whoever woke up looks by itself from now on",
    );
  }
});

Deno.test("what comes between the last look and the enabling is seen without an interrupt", async () => {
  await using fixture = watched("eventfd");
  const target = new Target();
  target.onArm = () => target.ready = true;
  assertEquals(await fixture.waiter.wait(target, Infinity), true);
  const other = new Target();
  other.onArm = () => other.ready = true;
  assertEquals(fixture.waiter.waitBlocking(other, 60_000), true);
  assertEquals(fixture.waiter.interrupts, 0);
});

Deno.test("an interrupt with nothing behind it (1.3: spurious) enables again and goes on sleeping", async () => {
  await using fixture = watched("eventfd");
  const target = new Target();
  const wait = fixture.waiter.wait(target, Infinity);
  fixture.eventFd.signal();
  while (fixture.acknowledged() === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assertEquals(target.armed, 2);
  target.ready = true;
  fixture.eventFd.signal();
  assertEquals(await wait, true);
});

Deno.test("a timeout gives false, in every mode", async () => {
  for (const mode of ["eventfd", "adaptive"] as const) {
    await using fixture = watched(mode);
    assertEquals(await fixture.waiter.wait(new Target(), 5), false);
    assertEquals(fixture.waiter.waitBlocking(new Target(), 5), false);
  }
  using polling = new Waiter({ mode: "poll" });
  assertEquals(await polling.wait(new Target(), 5), false);
  assertEquals(polling.waitBlocking(new Target(), 5), false);
});

Deno.test("polling lets the event loop run, and looks before it gives up", async () => {
  using waiter = new Waiter({ mode: "poll" });
  const target = new Target();
  setTimeout(() => target.ready = true, 10);
  assertEquals(await waiter.wait(target, 60_000), true);
  const late = new Target();
  late.onLook = () => late.ready = late.looks === 2;
  assertEquals(waiter.waitBlocking(late, 0), true);
});

Deno.test("several sleepers: each wakes for its own, a shorter timeout is not held up by a longer one", async () => {
  await using fixture = watched("eventfd");
  const [first, second] = [new Target(), new Target()];
  const results: string[] = [];
  const waits = [
    fixture.waiter.wait(first, Infinity).then((ready) => results.push(`first ${ready}`)),
    fixture.waiter.wait(second, Infinity).then((ready) => results.push(`second ${ready}`)),
    fixture.waiter.wait(new Target(), 10).then((ready) => results.push(`third ${ready}`)),
  ];
  await waits[2];
  second.ready = true;
  fixture.eventFd.signal();
  await waits[1];
  first.ready = true;
  fixture.eventFd.signal();
  await Promise.all(waits);
  assertEquals(results, ["third false", "second true", "first true"]);
});

Deno.test("an error of the target ends its wait, and no other", async () => {
  await using fixture = watched("eventfd");
  const [broken, sound] = [new Target(), new Target()];
  const fault = new DeviceError("used.id", { queue: 3 });
  const failing = assertRejects(() => fixture.waiter.wait(broken, Infinity), DeviceError);
  const waiting = fixture.waiter.wait(sound, Infinity);
  broken.onLook = () => {
    throw fault;
  };
  fixture.eventFd.signal();
  assertStrictEquals(await failing, fault);
  sound.ready = true;
  fixture.eventFd.signal();
  assertEquals(await waiting, true);
});

Deno.test("an error of the interrupt's handler ends all waits with it", async () => {
  const fault = new DeviceError("DEVICE_NEEDS_RESET");
  await using fixture = watched("eventfd", (isr) => {
    assertEquals(isr, 1);
    throw fault;
  });
  const waits = [1, 2].map(() =>
    assertRejects(() => fixture.waiter.wait(new Target(), Infinity), DeviceError)
  );
  fixture.eventFd.signal();
  for (const wait of waits) assertStrictEquals(await wait, fault);
  fixture.eventFd.signal();
  assertThrows(() => fixture.waiter.waitBlocking(new Target(), 1000), DeviceError);
});

Deno.test("close ends waits with ClosedError, whatever they wait for, and everything after is one", async () => {
  for (const mode of ["poll", "eventfd", "adaptive"] as const) {
    const waiter = new Waiter({ mode });
    using eventFd = new EventFd();
    waiter.watch({ eventFd, acknowledge: () => 3 });
    const wait = assertRejects(() => waiter.wait(new Target(), Infinity), ClosedError);
    setTimeout(() => waiter.close(), 5);
    await wait;
    await waiter.settled;
    await assertRejects(() => waiter.wait(new Target(), 1), ClosedError);
    assertThrows(() => waiter.waitBlocking(new Target(), 1), ClosedError);
    assertThrows(() => waiter.watch({ eventFd, acknowledge: () => 3 }), ClosedError);
    assertThrows(() => waiter.service(), ClosedError);
    waiter.close();
  }
});

Deno.test("service takes pending interrupts without a wait", async () => {
  let seen = 0;
  await using fixture = watched("adaptive", () => seen++);
  assertEquals(fixture.waiter.service(), 0);
  fixture.eventFd.signal();
  fixture.eventFd.signal();
  assertEquals(fixture.waiter.service(), 1);
  assertEquals([seen, fixture.waiter.interrupts], [1, 2]);
  assertEquals(fixture.waiter.service(), 0);
});

Deno.test("wrong use: sleeping with nothing to wake, impossible timeouts, blocking beside an asynchronous wait", async () => {
  using idle = new Waiter({ mode: "eventfd" });
  await assertRejects(() => idle.wait(new Target(), 1), UsageError, "no interrupt");
  assertThrows(() => new Waiter({ spinMicroseconds: -1 }), UsageError);
  await using fixture = watched("eventfd");
  await assertRejects(() => fixture.waiter.wait(new Target(), -1), UsageError);
  await assertRejects(() => fixture.waiter.wait(new Target(), NaN), UsageError);
  const target = new Target();
  const wait = fixture.waiter.wait(target, Infinity);
  assertThrows(() => fixture.waiter.waitBlocking(new Target(), 1), UsageError, "asynchronous");
  target.ready = true;
  fixture.eventFd.signal();
  assert(await wait);
});

/** A lifeline on one end of a pair of sockets. */
function lifeline() {
  const [near, far] = UnixSocket.pair();
  const handlers = new Set<() => void>();
  const line = { asked: "" };
  return {
    far,
    handlers,
    line,
    lifeline: {
      fds: [near.fd],
      answer: () => {
        const bytes = new Uint8Array(8);
        const { length } = near.receive(bytes)!;
        line.asked += new TextDecoder().decode(bytes.subarray(0, length));
        if (length === 0) { for (const handler of [...handlers]) handler(); }
      },
      reason: () => new PeerGoneError("the other end is gone"),
      check: () => {},
      onEnd: (handler: () => void) => {
        handlers.add(handler);
        return () => void handlers.delete(handler);
      },
    },
    [Symbol.dispose]: () => {
      near.close();
      far.close();
    },
  };
}

Deno.test("a wait without a limit ends when the device's process goes; what had come can still be taken", async () => {
  for (const mode of ["eventfd", "adaptive"] as const) {
    using line = lifeline();
    await using fixture = watched(mode);
    const { waiter } = fixture;
    waiter.watchLifeline(line.lifeline);
    const [empty, full] = [new Target(), new Target()];
    const waits = [waiter.wait(empty, Infinity), waiter.wait(full, Infinity)];
    full.ready = true;
    line.far.close();
    await assertRejects(() => waits[0]!, PeerGoneError, "the other end is gone");
    assertEquals(await waits[1], true);
    await assertRejects(() => waiter.wait(empty, Infinity), PeerGoneError);
    assertThrows(() => waiter.waitBlocking(empty, Infinity), PeerGoneError);
    assertEquals(await waiter.wait(full, 0), true);
    waiter.close();
    assertEquals(line.handlers.size, 0);
  }
});

Deno.test("a blocking wait, and one that polls, end with the device's process, too", async () => {
  for (const mode of ["eventfd", "adaptive", "poll"] as const) {
    using line = lifeline();
    using eventFd = new EventFd();
    using waiter = new Waiter({ mode });
    if (mode !== "poll") waiter.watch({ eventFd, acknowledge: () => 1 });
    waiter.watchLifeline(line.lifeline);
    const target = new Target();
    if (mode !== "poll") target.onArm = () => line.far.close();
    else target.onLook = () => void (target.looks === 500 && line.far.close());
    assertThrows(() => waiter.waitBlocking(target, Infinity), PeerGoneError);
  }
  using line = lifeline();
  using waiter = new Waiter({ mode: "poll" });
  waiter.watchLifeline(line.lifeline);
  const wait = waiter.wait(new Target(), Infinity);
  line.far.close();
  await assertRejects(() => wait, PeerGoneError);
});

Deno.test("what the device's process asks for is answered by whoever waits, in each mode", async () => {
  for (const mode of ["eventfd", "adaptive", "poll"] as const) {
    for (const blocking of [false, true]) {
      using line = lifeline();
      using eventFd = new EventFd();
      const waiter = new Waiter({ mode });
      if (mode !== "poll") waiter.watch({ eventFd, acknowledge: () => 1 });
      waiter.watchLifeline(line.lifeline);
      const target = new Target();
      line.far.send(new TextEncoder().encode("read"));
      // The answer is what the device goes on from.
      const ready = () => line.line.asked === "read";
      target.hasUsed = () => ready();
      target.enableInterrupts = () => (target.armed++, ready());
      assertEquals(blocking ? waiter.waitBlocking(target, 60_000) : await waiter.wait(target, 60_000), true);
      waiter.close();
      await waiter.settled;
    }
  }
});

Deno.test("a device that is closed beneath a sleeper wakes it", async () => {
  using line = lifeline();
  await using fixture = watched("eventfd");
  fixture.waiter.watchLifeline(line.lifeline);
  const wait = fixture.waiter.wait(new Target(), Infinity);
  for (const handler of line.handlers) handler();
  await assertRejects(() => wait, PeerGoneError);
});

Deno.test("who looks and finds leaves the interrupt of a sleeper for the same queue armed", async () => {
  // Long: whatever else the machine does, a wait that is over at once is shorter than that.
  await using fixture = watched("adaptive", undefined, 100_000);
  const { waiter } = fixture;
  const target = new Target();
  const sleeping = waiter.wait(target, Infinity);
  await new Promise((resolve) => setTimeout(resolve, 5));
  // It has spun in vain. After two short waits the next one spins again.
  for (let i = 0; i < 2; i++) {
    const other = new Target();
    other.onArm = () => {
      other.onLook = () => void (other.ready = true);
      fixture.eventFd.signal();
    };
    assertEquals(await waiter.wait(other, 1000), true);
  }
  // The second one suppresses, sees something while it looks, and takes it: the first is left with nothing, and no interrupt unless armed again.
  const looks = target.looks;
  target.onLook = () => void (target.ready = target.looks > looks + 1);
  assertEquals(await waiter.wait(target, 1000), true);
  target.onLook = () => {};
  target.ready = false;
  const armed = target.armed;
  for (let waits = 0; target.armed === armed && waits < 10_000; waits++) {
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert(target.armed > armed, "the sleeper's interrupt stays suppressed");
  target.ready = true;
  fixture.eventFd.signal();
  assertEquals(await sleeping, true);
});

Deno.test("waits that end at once, one after the other, leave timers and signals their turn", async () => {
  for (const mode of ["eventfd", "adaptive"] as const) {
    await using fixture = watched(mode);
    const target = new Target();
    target.ready = true;
    let fired = false;
    setTimeout(() => fired = true, 1);
    while (!fired) assertEquals(await fixture.waiter.wait(target, Infinity), true);
    // One that is closed meanwhile says so.
    const closing = assertRejects(async () => {
      for (;;) await fixture.waiter.wait(target, Infinity);
    }, ClosedError);
    setTimeout(() => fixture.waiter.close(), 1);
    await closing;
  }
});

const SPIN_MS = 200;

Deno.test("a turn is due by the clock, also where little is waited for and each piece of work between is long", async () => {
  const work = (ms: number) => {
    for (const until = performance.now() + ms; performance.now() < until;);
  };
  for (const pieces of [0, 1000]) {
    await using fixture = watched("adaptive");
    const { waiter } = fixture;
    // What was quick before says nothing of what comes.
    for (let i = 0; i < pieces; i++) await waiter.turnIfDue();
    let turns = 0;
    for (let i = 0; i < 40; i++) {
      work(11);
      const turn = waiter.turnIfDue();
      if (turn !== null) turns++;
      await turn;
    }
    assert(
      turns >= 24,
      `${turns} turns in 40 pieces of work, of which each is as long as a turn may be late`,
    );
  }
});

Deno.test("adaptive: after a spin in vain it sleeps at once, until some waits were short; the more spins in vain, the more", async () => {
  using eventFd = new EventFd();
  for (const how of ["blocking", "asynchronous"] as const) {
    // Long: whatever else the machine does, a wait that is over at once is shorter than that.
    using waiter = new Waiter({ mode: "adaptive", spinMicroseconds: SPIN_MS * 1000 });
    waiter.watch({ eventFd, acknowledge: () => 1 });
    const wait = async (target: Target, timeoutMs: number) =>
      how === "blocking" ? waiter.waitBlocking(target, timeoutMs) : await waiter.wait(target, timeoutMs);
    const inVain = async () => {
      const target = new Target();
      assertEquals(await wait(target, 2 * SPIN_MS), false);
      return target.suppressed > 0;
    };
    /** Slept for, and over at once. @returns looks: a spin has many */
    const short = async () => {
      const target = new Target();
      target.onArm = () => {
        target.onLook = () => void (target.ready = true);
        eventFd.signal();
      };
      assertEquals(await wait(target, 10_000), true);
      return target.looks;
    };
    for (const waits of [2, 4, 8]) {
      assertEquals(await inVain(), true, "it spins");
      assertEquals(await inVain(), false, "it does not");
      // Given up early, or longer than a spin: neither says that spinning is worth it.
      assertEquals(await wait(new Target(), 0), false);
      for (let i = 0; i < waits; i++) assert(await short() <= 3, "it spins already");
    }
    // One that is worth it makes it begin afresh.
    const target = new Target();
    target.onLook = () => void (target.looks > 100 && (target.ready = true));
    assertEquals([await wait(target, 10_000), target.armed], [true, 0]);
    assertEquals([await inVain(), await inVain()], [true, false]);
    for (let i = 0; i < 2; i++) await short();
    assertEquals(await inVain(), true);
    waiter.close();
    await waiter.settled;
  }
});
