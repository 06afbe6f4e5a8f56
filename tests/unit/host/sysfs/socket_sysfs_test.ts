import { assertEquals, assertThrows } from "@std/assert";
import {
  makeDirectory,
  openFdCount,
  removeDirectory,
  UnixListener,
  UnixSocket,
} from "../../../../ffi/mod.ts";
import { UsageError } from "../../../../lib/errors/mod.ts";
import { EmulatedHost } from "../../../../lib/host/emulated_host.ts";
import { SocketSysfs } from "../../../../lib/host/sysfs/socket_sysfs.ts";

Deno.test("a host that this thread serves is refused: a call would wait for itself", () => {
  const directory = `/tmp/ringside-sysfs-${crypto.randomUUID()}`;
  makeDirectory(directory);
  const before = openFdCount();
  try {
    const listener = UnixListener.listen(`${directory}/host.sock`);
    assertThrows(() => EmulatedHost.connect(directory), UsageError, "wait for itself");
    listener.close();
    assertEquals(UnixListener.isServedHere(listener.path), false);
  } finally {
    removeDirectory(directory);
  }
  assertEquals(openFdCount(), before);
});

Deno.test("a time without end is none for an answer", () => {
  for (const timeoutMs of [0, -1, NaN, "5", null]) {
    assertThrows(() => new SocketSysfs("/nowhere", timeoutMs as number), UsageError, "timeout");
  }
});

Deno.test("a socket's limit is never none because it is small", () => {
  const [near, far] = UnixSocket.pair();
  near.setTimeoutMs(1e-9);
  assertThrows(() => near.receive(new Uint8Array(1)), Error, "in time");
  near.setTimeoutMs(Infinity);
  near.close();
  far.close();
});
