import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { EndHandlers } from "../../../lib/wait/end_handlers.ts";

Deno.test("handlers hear of an end once; one that throws is reported, and keeps no other from hearing", () => {
  const heard: string[] = [];
  const reported: string[] = [];
  const listen = (event: ErrorEvent) => {
    event.preventDefault();
    reported.push(event.message);
  };
  addEventListener("error", listen);
  try {
    const ends = new EndHandlers();
    const forget = ends.add(() => heard.push("forgotten"), "handler");
    ends.add(() => {
      throw new Error("a listener's own");
    }, "handler");
    // What no call without `new` is for.
    ends.add(class {} as unknown as () => void, "handler");
    ends.add(() => heard.push("one"), "handler");
    forget();
    ends.tell();
    ends.tell();
    assertEquals(heard, ["one"]);
    assertEquals(reported.map((message) => /own|without 'new'/.exec(message)?.[0]), ["own", "without 'new'"]);
    assertThrows(
      () => ends.add(1 as unknown as () => void, "onClose: handler"),
      UsageError,
      "onClose: handler",
    );
  } finally {
    removeEventListener("error", listen);
  }
});
