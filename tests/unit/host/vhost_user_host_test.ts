/** A vhost-user socket as a host: how it is named, and what it has not. */
import { assertEquals, assertThrows } from "@std/assert";
import { accessible, removeFile, replaceFile, UnixListener } from "../../../ffi/mod.ts";
import { NotFoundError, RingsideError, TimeoutError, UsageError } from "../../../lib/errors/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { testSocketPath } from "../sockets/vfio_user/raw_client.ts";

Deno.test("settings that cannot be are refused before anything is connected", () => {
  for (
    const [text, why] of [
      ["/s", "does not say what device it is"],
      ["/s,type=toaster", "type toaster is no virtio device"],
      ["/s,type=0", "type 0 is no virtio device"],
      ["/s,type=net,speed=9", "no setting speed"],
      ["/s,type=net,reconnect=soon", "reconnect=soon is no number"],
      ["/s,type=net,mac=7", "mac=7 is no MAC address"],
      ["/s,type=net,mac=01:00:00:00:00:00", "MAC address"],
      ["/s,type", '"type" is no setting'],
      [",type=net", "is named by its socket"],
      [",type=net,server=on", "is named by its socket"],
      ["/s,type=net,server=yes", "server=yes is neither on nor off"],
    ] as const
  ) assertThrows(() => openHost(`vhost-user:${text}`), UsageError, why);
});

Deno.test("nobody there, nothing that listens, and no socket are told apart", () => {
  assertThrows(
    () => openHost("vhost-user:/nonexistent/socket,type=net"),
    NotFoundError,
    "there is no socket",
  );
  const path = testSocketPath();
  replaceFile(path, new Uint8Array(0));
  assertThrows(() => openHost(`vhost-user:${path},type=net`), NotFoundError, "is no socket");
  removeFile(path);
});

Deno.test("who listens and does not answer", () => {
  const path = testSocketPath();
  using _listener = UnixListener.listen(path);
  const error = assertThrows(() => openHost(`vhost-user:${path},type=net,timeout=20`), TimeoutError);
  assertEquals(error.hint, "is this the socket of a vhost-user server, which is not busy?");
});

Deno.test("with server=on it listens; nobody connects, or somebody listens there already", () => {
  const path = testSocketPath();
  const error = assertThrows(
    () => openHost(`vhost-user:${path},type=net,server=on,timeout=20`),
    TimeoutError,
  );
  assertEquals(error.message, `${path}: no back end connected within 20 ms`);
  assertEquals(error.hint, "is one started that connects to this socket?");
  assertEquals(accessible(path), false, "the socket is removed");
  using _listener = UnixListener.listen(path);
  assertThrows(() => openHost(`vhost-user:${path},type=net,server=on`), RingsideError, "EADDRINUSE");
});
