/** What the client answers to commands of its server: while it waits, while it does nothing, and on a second socket. */
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { createMemfd, EventFd, type OwnedFd, UnixSocket } from "../../../../../ffi/mod.ts";
import { PeerGoneError, ProtocolError, TimeoutError } from "../../../../../lib/errors/mod.ts";
import {
  COMMAND,
  dmaAccess,
  messageHeader,
  versionMessage,
} from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { IRQ } from "../../../../../lib/vfio/device.ts";
import { irqInfo } from "../../../../../lib/vfio/kernel/abi.ts";
import type { VfioUserDevice } from "../../../../../lib/sockets/vfio_user/mod.ts";
import { Waiter } from "../../../../../lib/wait/waiter.ts";
import { message } from "../raw_client.ts";
import { connectFails, type Fixed, goodVersion, reply, session } from "./session.ts";

/** DMA_READ of the server, or DMA_WRITE when there is data. */
function dma(id: number, address: bigint, count: number, data?: readonly number[]): Fixed {
  const payload = dmaAccess.encode({ address, count: BigInt(count) }, data?.length ?? 0);
  payload.set(data ?? [], dmaAccess.sizeBytes);
  return { bytes: message(data === undefined ? COMMAND.dmaRead : COMMAND.dmaWrite, payload, { id }) };
}

/** A reply to VERSION with these capabilities, and descriptors beside it. */
function version(capabilities: Record<string, unknown>, ...fds: OwnedFd[]): Fixed {
  const json = new TextEncoder().encode(JSON.stringify({ capabilities }) + "\0");
  const payload = versionMessage.encode({ major: 0, minor: 1 }, json.byteLength);
  payload.set(json, versionMessage.sizeBytes);
  return { ...reply(COMMAND.version, 0, payload), fds };
}

const ANNOUNCED = { supported: true, fd_index: 0 };

/** Answers to what a lifeline asks of its function: there is no error interrupt, nor one that asks for the function back. */
function noSignals(firstId: number): Fixed[] {
  return [IRQ.error, IRQ.request].map((index, at) =>
    reply(COMMAND.deviceGetIrqInfo, firstId + at, irqInfo.encode({ argsz: irqInfo.sizeBytes, index }))
  );
}

/** The next answer on a socket, waiting for it. */
async function answer(socket: UnixSocket): Promise<number[]> {
  const bytes = new Uint8Array(4096);
  for (;;) {
    const received = socket.receive(bytes, { wait: false });
    if (received !== undefined) {
      const { messageId, flags, errorNumber } = messageHeader.decode(bytes);
      return [messageId, flags, errorNumber, ...bytes.subarray(32, received.length)];
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Waits for the end of a connection; what looks for it does not keep the event loop alive. */
async function broken(device: VfioUserDevice): Promise<Error> {
  let ended = false;
  device.lifeline.onEnd(() => void (ended = true));
  while (!ended) await new Promise((resolve) => setTimeout(resolve, 1));
  return device.broken!;
}

Deno.test("an idle client answers, in its event loop", async () => {
  using s = session([reply(COMMAND.dmaMap, 2)]);
  const memory = s.device.dma.allocate(4096);
  memory.bytes()[5] = 55;
  s.requests();
  s.put(dma(100, 0x1005n, 1));
  assertEquals(await answer(s.peer), [100, 1, 0, 55]);
  s.put(dma(101, 0x1010n, 3, [1, 2, 3]));
  assertEquals(await answer(s.peer), [101, 1, 0]);
  assertEquals([...memory.bytes(0x10, 3)], [1, 2, 3]);
});

Deno.test("a client that sleeps, polls or blocks answers: what it waits for may hang on it", async () => {
  for (const mode of ["eventfd", "poll"] as const) {
    for (const blocking of [true, false]) {
      using s = session([reply(COMMAND.dmaMap, 2), ...noSignals(3)]);
      const memory = s.device.dma.allocate(4096);
      using eventFd = new EventFd();
      const waiter = new Waiter({ mode });
      if (mode === "eventfd") waiter.watch({ eventFd, acknowledge: () => 1 });
      waiter.watchLifeline(s.device.lifeline);
      s.requests();
      const used = () => memory.bytes()[0] === 9;
      const target = { hasUsed: used, enableInterrupts: used, suppressInterrupts: () => {} };
      s.put(dma(100, 0x1000n, 1, [9]));
      assert(blocking ? waiter.waitBlocking(target, 60_000) : await waiter.wait(target, 60_000));
      assertEquals(await answer(s.peer), [100, 1, 0]);
      waiter.close();
      await waiter.settled;
    }
  }
});

Deno.test("an idle client that is sent nonsense, or left, is broken; its lifeline says so", async () => {
  const cases = [
    [(peer: UnixSocket) => peer.send(reply(COMMAND.deviceReset, 9).bytes), ProtocolError],
    [(peer: UnixSocket) => peer.send(message(COMMAND.dmaRead, undefined, { size: 3 })), ProtocolError],
    [(peer: UnixSocket) => peer.shutdown(), PeerGoneError],
  ] as const;
  for (const [act, type] of cases) {
    using s = session([reply(COMMAND.dmaMap, 2)]);
    s.device.dma.allocate(4096);
    act(s.peer);
    assertInstanceOf(await broken(s.device), type);
    assertThrows(() => s.device.reset(), type);
  }
});

Deno.test("a twin socket is offered, and commands on it are answered there: in a request, and when idle", async () => {
  const pair = UnixSocket.pair();
  using near = pair[0];
  using far = pair[1];
  using s = session(
    [reply(COMMAND.dmaMap, 2)],
    { timeoutMs: 500 },
    version({ twin_socket: ANNOUNCED }, near.fd),
  );
  const [offered] = s.requests();
  const offer = JSON.parse(new TextDecoder().decode(offered!.subarray(20, -1)));
  assertEquals(offer.capabilities.twin_socket, { supported: true });
  const memory = s.device.dma.allocate(4096);
  memory.bytes()[5] = 55;
  far.send(dma(7, 0x1005n, 1).bytes);
  assertEquals(await answer(far), [7, 1, 0, 55]);
  // A server that waits for its answer before it replies: here it never does.
  far.send(dma(8, 0x1005n, 1).bytes);
  assertThrows(() => s.device.reset(), TimeoutError);
  assertEquals(await answer(far), [8, 1, 0, 55]);
});

Deno.test("a twin socket that ends breaks the connection", async () => {
  const pair = UnixSocket.pair();
  using near = pair[0];
  using far = pair[1];
  using s = session(
    [reply(COMMAND.dmaMap, 2)],
    { timeoutMs: 500 },
    version({ twin_socket: ANNOUNCED }, near.fd),
  );
  s.device.dma.allocate(4096);
  far.shutdown();
  assertInstanceOf(await broken(s.device), PeerGoneError);
});

Deno.test("a twin socket that is none, is missing, or was not announced is a ProtocolError", () => {
  using event = new EventFd();
  using file = createMemfd("none", 4096);
  const twin = (twin_socket: unknown, ...fds: OwnedFd[]) => [version({ twin_socket }, ...fds)];
  connectFails(twin(ANNOUNCED, file), ProtocolError, "twin socket passed cannot be used");
  connectFails(twin(ANNOUNCED), ProtocolError, "twin_socket is 0");
  connectFails(twin({ ...ANNOUNCED, fd_index: 1 }, event.fd), ProtocolError, "1 descriptors came along");
  connectFails(twin(ANNOUNCED, event.fd, event.fd), ProtocolError, "2 descriptors");
  connectFails(twin({ supported: true }), ProtocolError, "twin_socket is offered");
  connectFails(twin({ supported: false }, event.fd), ProtocolError, "1 descriptors");
  connectFails(twin({ ...ANNOUNCED, fd_index: -1 }), ProtocolError, 'twin_socket is {"supported":true');
  connectFails(twin({ supported: 1 }), ProtocolError, "twin_socket is");
  connectFails(twin(true), ProtocolError, "twin_socket is true");
  connectFails([{ ...goodVersion, fds: [event.fd] }], ProtocolError, "1 descriptors");
});
