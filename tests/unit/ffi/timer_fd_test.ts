import { assert, assertEquals, assertThrows } from "@std/assert";
import { Epoll, openFdCount, TimerFd } from "../../../ffi/mod.ts";
import { ClosedError, UsageError } from "../../../lib/errors/mod.ts";

Deno.test("a timer is readable each time when its interval is over, and not before it was taken", () => {
  const before = openFdCount();
  {
    using timer = new TimerFd(5);
    using epoll = new Epoll();
    epoll.add(timer.fd, 7);
    for (let times = 0; times < 3; times++) {
      assertEquals([epoll.waitBlocking(5000), epoll.tags[0]], [1, 7]);
      assert(timer.take());
    }
    timer.take();
    assertEquals(timer.take(), false);
    timer.close();
    assertThrows(() => timer.take(), ClosedError);
  }
  for (const ms of [0, -1, NaN, 2 ** 32]) assertThrows(() => new TimerFd(ms), UsageError);
  assertEquals(openFdCount(), before);
});
