/** The vfio-user client: interrupts. */
import { assertEquals, assertThrows } from "@std/assert";
import { EventFd, SyscallError } from "../../../../../ffi/mod.ts";
import { ClosedError, ProtocolError, UnsupportedError, UsageError } from "../../../../../lib/errors/mod.ts";
import { IRQ_FLAG } from "../../../../../lib/vfio/device.ts";
import { irqInfo, irqSet } from "../../../../../lib/vfio/kernel/abi.ts";
import { COMMAND } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import { EINVAL, FAILED, type Fixed, reply, session } from "./session.ts";

function irqAnswer(id: number, index: number, count: number, flags: number = IRQ_FLAG.eventfd): Fixed {
  return reply(COMMAND.deviceGetIrqInfo, id, irqInfo.encode({ argsz: 16, flags, index, count }));
}

Deno.test("client SET_IRQS: eventfds and gaps go in runs, no message above the server's limit", () => {
  const done = (id: number) => reply(COMMAND.deviceSetIrqs, id);
  using s = session([irqAnswer(2, 2, 8), ...[3, 4, 5, 6].map(done)]);
  using event = new EventFd();
  s.device.setIrqs({
    index: 2,
    action: "trigger",
    start: 1,
    eventFds: [event, event, event, null, null, event],
  });
  const sent = s.requests().slice(3).map((bytes) => irqSet.decode(bytes, 16));
  assertEquals(sent.map(({ flags, start, count }) => [flags, start, count]), [
    [36, 1, 2],
    [36, 3, 1],
    [36, 4, 2],
    [36, 6, 1],
  ]);
});

Deno.test("client SET_IRQS: a refusal half-way takes out what was set before it", () => {
  using s = session([
    irqAnswer(2, 2, 8),
    reply(COMMAND.deviceSetIrqs, 3),
    reply(COMMAND.deviceSetIrqs, 4, undefined, FAILED, EINVAL),
    reply(COMMAND.deviceSetIrqs, 5),
  ]);
  using event = new EventFd();
  const eventFds = [event, event, event];
  assertThrows(
    () => s.device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds }),
    SyscallError,
    "EINVAL",
  );
  const last = irqSet.decode(s.requests().at(-1)!, 16);
  assertEquals(last, { argsz: 20, flags: 36, index: 2, start: 0, count: 2 });
});

Deno.test("client SET_IRQS: an eventfd that is closed, or is none, is no end of the connection", () => {
  const done = (id: number) => reply(COMMAND.deviceSetIrqs, id);
  using s = session([irqAnswer(2, 2, 8), done(3)]);
  const closed = new EventFd();
  closed.close();
  const set = (eventFd: unknown) =>
    s.device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds: [eventFd as EventFd] });
  assertThrows(() => set(closed), ClosedError, "eventfd");
  assertThrows(() => set({}), UsageError);
  using event = new EventFd();
  set(event);
});

Deno.test("client SET_IRQS: the other actions, and what cannot be", () => {
  const maskable = IRQ_FLAG.eventfd | IRQ_FLAG.maskable;
  const done = (id: number) => reply(COMMAND.deviceSetIrqs, id);
  using s = session([irqAnswer(2, 0, 1, maskable), ...[3, 4, 5, 6, 7].map(done), irqAnswer(8, 2, 8)]);
  using event = new EventFd();
  s.device.setIrqs({ index: 0, action: "disable" });
  s.device.setIrqs({ index: 0, action: "fire", start: 0, count: 1 });
  s.device.setIrqs({ index: 0, action: "mask", start: 0, count: 1 });
  s.device.setIrqs({ index: 0, action: "unmask", start: 0, count: 1 });
  s.device.setIrqs({ index: 0, action: "unmask-on", start: 0, eventFd: event });
  const sent = s.requests().slice(3).map((bytes) => irqSet.decode(bytes, 16));
  assertEquals(sent.map(({ flags, start, count }) => [flags, start, count]), [
    [33, 0, 0],
    [33, 0, 1],
    [9, 0, 1],
    [17, 0, 1],
    [20, 0, 1],
  ]);
  s.device.irqInfo(2);
  s.requests();
  const closed = new EventFd();
  closed.close();
  const { device } = s;
  assertThrows(() => device.setIrqs({ index: 2, action: "fire", start: 7, count: 2 }), UsageError);
  assertThrows(() => device.setIrqs({ index: 2, action: "fire", start: -1, count: 1 }), UsageError);
  assertThrows(() => device.setIrqs({ index: 2, action: "fire", start: 0, count: 0 }), UsageError);
  assertThrows(() => device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds: [] }), UsageError);
  assertThrows(
    () => device.setIrqs({ index: 2, action: "trigger", start: 0, eventFds: [closed] }),
    ClosedError,
  );
  assertThrows(() => device.setIrqs({ index: 2, action: "mask", start: 0, count: 1 }), UnsupportedError);
  assertEquals([s.requests(), device.broken], [[], null]);
});

Deno.test("client SET_IRQS: some vectors of a range go by DATA_BOOL", () => {
  const maskable = IRQ_FLAG.eventfd | IRQ_FLAG.maskable;
  using s = session([
    irqAnswer(2, 2, 8, maskable),
    ...[3, 4, 5].map((id) => reply(COMMAND.deviceSetIrqs, id)),
  ]);
  const which = [true, false, true];
  for (const action of ["fire", "mask", "unmask"] as const) {
    s.device.setIrqs({ index: 2, action, start: 4, which });
  }
  const sent = s.requests().slice(3);
  assertEquals(sent.map((bytes) => irqSet.decode(bytes, 16).flags), [34, 10, 18]);
  assertEquals([...sent[0]!.subarray(16)], [
    ...[23, 0, 0, 0, 34, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0],
    ...[1, 0, 1],
  ]);
  for (const wrong of [{ start: 6, which }, { start: 0, which: [] }]) {
    assertThrows(() => s.device.setIrqs({ index: 2, action: "fire", ...wrong }), UsageError);
  }
  assertEquals(s.requests(), []);
});

Deno.test("client SET_IRQS: an index that the function lacks is off already", () => {
  using s = session([irqAnswer(2, 1, 0)]);
  s.device.setIrqs({ index: 1, action: "disable" });
  assertEquals(s.requests().length, 3);
});

Deno.test("client: interrupt information that lies is a ProtocolError", () => {
  for (
    const [fixed, text] of [
      [irqAnswer(2, 1, 8), "index is 1"],
      [irqAnswer(2, 2, 4097), "count is 4097"],
      [reply(COMMAND.deviceGetIrqInfo, 2, new Uint8Array(12)), "12 of 16"],
    ] as const
  ) {
    using s = session([fixed]);
    assertThrows(() => s.device.irqInfo(2), ProtocolError, text);
  }
});
