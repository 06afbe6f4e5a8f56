/** Users that are asked for their memory and do not answer: how long the machine waits for all of them together. */
import { assert, assertEquals } from "@std/assert";
import { makeDirectory, removeDirectory } from "../../../ffi/mod.ts";
import { readTopology } from "../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import { createVirtioModels } from "../../../lib/emulation/virtio/models.ts";
import { AnswerBudget } from "../../../lib/sockets/vfio_user/mod.ts";
import { COMMAND } from "../../../lib/sockets/vfio_user/protocol.ts";
import { FEATURE } from "../../../lib/virtio/spec/mod.ts";
import { access, map } from "../sockets/vfio_user/server/bench.ts";
import { WireFunction } from "../sockets/vfio_user/wire_function.ts";

const LIMIT = 10;

/** Its clock goes on by one whenever it is looked at. */
class Watched extends AnswerBudget {
  waited = 0;
  #began = 0;
  readonly #clock: { time: number };

  constructor(clock = { time: 0 }) {
    super(LIMIT, () => ++clock.time);
    this.#clock = clock;
  }

  get time(): number {
    return this.#clock.time;
  }

  override refill(): number {
    const credit = super.refill();
    this.#began = this.time;
    return credit;
  }

  override spent(): void {
    super.spent();
    this.waited += this.time - this.#began;
  }
}

Deno.test("answers: half of the time, and no more than the limit at once; what is not used is not saved", () => {
  let time = 1000;
  const budget = new AnswerBudget(100, () => time);
  const wait = (ms: number) => {
    const credit = budget.refill();
    time += ms;
    budget.spent();
    return credit;
  };
  assertEquals([wait(40), budget.exhausted], [100, false]);
  assertEquals([wait(20), budget.exhausted], [60, true]);
  time += 19;
  assert(budget.exhausted);
  time += 1;
  assertEquals([budget.exhausted, budget.refill()], [false, 50]);
  wait(50);
  time += 100;
  assertEquals(budget.refill(), 50);
  time += 1_000_000;
  assertEquals(budget.refill(), 100);
});

Deno.test("the machine: users that never answer, and come again at once, take half of the time together; the others go on", () => {
  const directory = `/tmp/ringside-answers-${crypto.randomUUID().slice(0, 8)}`;
  makeDirectory(directory);
  const topology = readTopology({
    functions: [1, 2, 3].map((bus) => ({ address: `0${bus}:00.0`, kind: "virtio-rng", driver: "vfio-pci" })),
  });
  const answers = new Watched();
  try {
    using machine = new EmulatedMachine({ topology, models: createVirtioModels(), directory, answers });
    const path = (bus: number) => `${directory}/0000:0${bus}:00.0.sock`;
    using other = new WireFunction(machine, path(1));
    let asked = 0, served = 0;
    const ROUNDS = 8;
    for (let round = 0; round < ROUNDS; round++) {
      for (const bus of [2, 3]) {
        using silent = new WireFunction(machine, path(bus));
        assertEquals(silent.call(COMMAND.dmaMap, map({})).error, 0);
        silent.start(FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM, [{
          index: 0,
          size: 8,
          descriptorArea: 0x10000n,
          driverArea: 0x11000n,
          deviceArea: 0x12000n,
          indirect: false,
          eventIndex: false,
        }]);
        assertEquals(silent.call(COMMAND.regionRead, access(0n, 7, 4)).error, 0);
        asked += silent.asked.filter((command) => command === COMMAND.dmaRead).length;
        served += other.call(COMMAND.regionRead, access(0n, 7, 4)).payload.length;
      }
    }
    assertEquals(served, 2 * ROUNDS * (16 + 4));
    assert(asked > 2, `asked ${asked} times`);
    assert(
      answers.waited <= LIMIT + answers.time / 2 + 1,
      `${answers.waited} of ${answers.time} went into ${asked} waits`,
    );
  } finally {
    removeDirectory(directory);
  }
});
