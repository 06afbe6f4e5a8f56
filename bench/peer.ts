/**
 * The other process of what the figures are measured beside. It is started by `peer_process.ts`, and ends when its sockets are closed.
 *
 * `peer.ts echo SOCKET N` sends back whatever comes on N connections.
 * `peer.ts signal SOCKET` gets two eventfds, and answers each signal of the first by one of the second.
 *
 * @module
 */
import { Epoll, EventFd, UnixSocket } from "../ffi/mod.ts";
import { PeerGoneError, UsageError } from "../lib/errors/mod.ts";

const BUFFER_BYTES = 256 * 1024;

/** As the socket alternative of an embedded switch: takes what is there, and passes it on. */
function echo(path: string, connections: number): void {
  const sockets = Array.from({ length: connections }, () => UnixSocket.connect(path));
  using epoll = new Epoll();
  sockets.forEach((socket, tag) => epoll.add(socket.fd, tag));
  const buffer = new Uint8Array(BUFFER_BYTES);
  for (;;) {
    const ready = epoll.waitBlocking(-1);
    for (let i = 0; i < ready; i++) {
      const socket = sockets[epoll.tags[i]!]!;
      const received = socket.receive(buffer, { wait: false });
      if (received === undefined) continue;
      if (received.length === 0) return;
      socket.send(buffer.subarray(0, received.length));
    }
  }
}

/** As a device that does nothing: sleeps for its doorbell, and interrupts. */
function signal(path: string): void {
  const HANG_UP = 0, DOORBELL = 1;
  using socket = UnixSocket.connect(path);
  const [first, second] = socket.receive(new Uint8Array(1))?.fds ?? [];
  if (first === undefined || second === undefined) throw new UsageError("two eventfds were not passed");
  using doorbell = new EventFd(first);
  using interrupt = new EventFd(second);
  using epoll = new Epoll();
  epoll.add(socket.fd, HANG_UP);
  epoll.add(doorbell.fd, DOORBELL);
  for (;;) {
    const ready = epoll.waitBlocking(-1);
    for (let i = 0; i < ready; i++) {
      if (epoll.tags[i] === HANG_UP) return;
      if (doorbell.take() > 0) interrupt.signal();
    }
  }
}

if (import.meta.main) {
  const [mode, path, connections] = Deno.args;
  try {
    if (path !== undefined && mode === "echo") echo(path, Number(connections));
    else if (path !== undefined && mode === "signal") signal(path);
    else throw new UsageError(`peer.ts ${Deno.args.join(" ")}`);
  } catch (error) {
    if (!(error instanceof PeerGoneError)) throw error;
  }
}
