import { assertEquals } from "@std/assert";
import { FreeNumbers } from "../../../lib/emulation/free_numbers.ts";
import { campaign, Random, rounds } from "../../random.ts";

Deno.test("numbers: always the lowest free one, and one that several hold is free when all gave it back", () => {
  const numbers = new FreeNumbers();
  assertEquals([numbers.take(), numbers.take(), numbers.take()], [0, 1, 2]);
  numbers.release(1);
  assertEquals(numbers.lowest, 1);
  numbers.hold(1);
  numbers.hold(1);
  numbers.release(1);
  assertEquals(numbers.lowest, 3);
  numbers.release(1);
  numbers.release(1);
  assertEquals(numbers.take(), 1);
  numbers.hold(7);
  assertEquals([numbers.take(), numbers.take(), numbers.take(), numbers.take(), numbers.take()], [
    3,
    4,
    5,
    6,
    8,
  ]);
});

Deno.test(campaign("numbers: 20000 random takes and releases agree with a search of all", () => {
  const random = new Random(7);
  const numbers = new FreeNumbers();
  const taken = new Set<number>();
  for (let i = 0; i < rounds(20_000); i++) {
    if (random.fraction() < 0.55 && taken.size < 200) {
      let expected = 0;
      while (taken.has(expected)) expected++;
      assertEquals(numbers.take(), expected);
      taken.add(expected);
    } else if (taken.size > 0) {
      const one = [...taken][random.below(taken.size)]!;
      taken.delete(one);
      numbers.release(one);
    }
  }
}));
