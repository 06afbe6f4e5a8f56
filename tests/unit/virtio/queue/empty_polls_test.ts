/** A queue that is found empty again and again asks whether there is still somebody who could return something. */
import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { PeerGoneError } from "../../../../lib/errors/mod.ts";
import { usedBurst } from "../../../../lib/virtio/queue/used_burst.ts";
import { type FixtureOptions, packedFixture, ringFixture } from "./ring_fixture.ts";

/** At most so many looks, and not at each of them. */
const MOST_LOOKS = 5000;

function split(options: FixtureOptions) {
  const fixture = ringFixture(options);
  return { ...fixture, giveBack: (length: number) => fixture.ring.push(fixture.ring.pop()!.head, length) };
}

function packed(options: FixtureOptions) {
  const fixture = packedFixture(options);
  const giveBack = (length: number) => {
    const { id, count } = fixture.ring.pop()!;
    fixture.ring.push(id, length, count);
  };
  return { ...fixture, giveBack };
}

for (const [layout, fixtureOf] of Object.entries({ split, packed })) {
  for (const call of ["takeUsed", "hasUsed"] as const) {
    Deno.test(`${layout}, ${call}: what came before the end is given out first, then every call throws its reason`, () => {
      const reason = new PeerGoneError("the device's process is gone");
      let gone = false, asked = 0;
      let onAsk = () => {};
      const gate = {
        live: true,
        checkServed: () => {
          asked++;
          onAsk();
          if (gone) throw reason;
        },
      };
      using fixture = fixtureOf({ size: 8, gate });
      const { queue } = fixture;
      const into = usedBurst(8);
      const ids = [1, 2].map(() => queue.addSingle(0, 0, 16, true));
      queue.flush();
      const look = () => call === "takeUsed" ? queue.takeUsed(into) : queue.hasUsed();
      for (let i = 0; i < 10 * MOST_LOOKS; i++) assertEquals(Number(look()), 0);
      assert(asked >= 10 && asked < 10 * MOST_LOOKS / 100, `asked ${asked} times`);

      // It returns something and is gone, between the look at the ring and the question.
      gone = true;
      onAsk = () => {
        onAsk = () => {};
        fixture.giveBack(5);
      };
      const before = asked;
      for (let i = 0; asked === before; i++) {
        assert(i < MOST_LOOKS);
        look();
      }
      if (call === "hasUsed") assertEquals(queue.takeUsed(into), 1);
      else assertEquals(look(), 1);
      assertEquals([into.ids[0], into.lengths[0]], [ids[0], 5]);

      const error = assertThrows(() => {
        for (let i = 0; i < MOST_LOOKS; i++) look();
      }, PeerGoneError);
      assertStrictEquals(error, reason);
      for (const one of [look, () => queue.flush(), () => queue.enableInterrupts()]) {
        assertStrictEquals(assertThrows(one, PeerGoneError), reason);
      }
      // What must be given back to its owner is still known.
      assertEquals(queue.inFlightIds(), [ids[1]]);
      assertEquals(queue.snapshot().fault, reason.message);
    });
  }
}
