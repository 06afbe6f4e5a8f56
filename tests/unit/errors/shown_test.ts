import { assertEquals } from "@std/assert";
import { shown } from "../../../lib/errors/shown.ts";

Deno.test("a message can show whatever a caller passed", () => {
  const shownAs: [unknown, string][] = [
    [12, "12"],
    [-0.5, "-0.5"],
    [NaN, "NaN"],
    [7n, "7"],
    [true, "true"],
    [undefined, "undefined"],
    [null, "null"],
    ["a\nb", '"a\\nb"'],
    ["x".repeat(200), `"${"x".repeat(80)}…"`],
    [Symbol("s"), "a symbol"],
    [() => {}, "a function"],
    [[1, 2], "an array"],
    [Object.create(null), "an object"],
    [{
      toString(): string {
        throw new Error("no text");
      },
    }, "an object"],
  ];
  for (const [value, text] of shownAs) assertEquals(shown(value), text);
});
