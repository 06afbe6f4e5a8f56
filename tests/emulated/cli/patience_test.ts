/** How long a command waits for the embedded host's process. */
import { assertEquals } from "@std/assert";
import { Patience } from "../../../cli/patience.ts";

Deno.test("patience: it lasts while something goes on, and is asked once in that time", () => {
  let done = 0, asked = 0;
  const progress = () => (asked++, done);
  const patience = new Patience(progress, 30, 1000);
  for (const now of [1000, 1010, 1030]) assertEquals(patience.isOver(now), false);
  assertEquals(asked, 1, "asked at the beginning, and not with each look");
  done = 7;
  assertEquals(patience.isOver(1031), false, "something went on");
  done = 8;
  assertEquals([patience.isOver(1061), asked], [false, 2], "30 more from the last look on");
  assertEquals(patience.isOver(1062), false);
  // Nothing since.
  assertEquals(patience.isOver(1092), false);
  assertEquals([patience.isOver(1093), asked], [true, 4]);
});
