/** The vfio-user server: SET_IRQS. */
import { assertEquals } from "@std/assert";
import { createMemfd, EventFd, openFdCount } from "../../../../../ffi/mod.ts";
import { irqSet } from "../../../../../lib/vfio/kernel/abi.ts";
import { COMMAND } from "../../../../../lib/sockets/vfio_user/protocol.ts";
import {
  actionMask,
  actionTrigger,
  actionUnmask,
  bench,
  dataBool,
  dataEventfd,
  dataNone,
  EINVAL,
  ENOTSUP,
  ENOTTY,
  irqs,
} from "./bench.ts";

Deno.test("server SET_IRQS: what libvfio-user's rules allow reaches the device", () => {
  using b = bench();
  using one = new EventFd();
  using two = new EventFd();
  const set = (payload: Uint8Array, fds: EventFd[] = []) =>
    assertEquals(b.client.call(COMMAND.deviceSetIrqs, payload, fds.map(({ fd }) => fd)).error, 0);
  set(irqs(dataEventfd | actionTrigger, 2, 1, 2), [one, two]);
  assertEquals(b.device.eventFdCount, 2);
  set(irqs(dataNone | actionTrigger, 2, 1, 2));
  assertEquals([one.take(), two.take()], [1, 1]);
  set(irqs(dataBool | actionTrigger, 2, 1, 2, [0, 1]));
  assertEquals([one.take(), two.take()], [0, 1]);
  set(irqs(dataEventfd | actionTrigger, 2, 1, 1));
  assertEquals(b.device.eventFdCount, 1);
  set(irqs(dataNone | actionTrigger, 2, 0, 0));
  assertEquals(b.device.eventFdCount, 0);
  set(irqs(dataNone | actionMask, 0, 0, 1));
  set(irqs(dataBool | actionUnmask, 0, 0, 1, [1]));
  set(irqs(dataEventfd | actionUnmask, 0, 0, 1), [one]);
  assertEquals(b.device.log.slice(1), [
    "irq 2 trigger 1 1,1",
    "irq 2 fire 1 2",
    "irq 2 fire 2 1",
    "irq 2 trigger 1 0",
    "irq 2 disable",
    "irq 0 mask 0 1",
    "irq 0 unmask 0 1",
    "irq 0 unmask-on 0",
  ]);
});

Deno.test("server SET_IRQS: everything else is refused, and the descriptors are closed", () => {
  using b = bench();
  using event = new EventFd();
  using file = createMemfd("no eventfd", 4096);
  const before = openFdCount();
  const bad: [number | undefined, Uint8Array, number][] = [
    [EINVAL, irqs(dataNone, 2, 0, 1), 0],
    [EINVAL, irqs(actionTrigger, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | dataBool | actionTrigger, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionMask | actionTrigger, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger | 0x40, 2, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 5, 0, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 8, 1), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 7, 2), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 1, 0xffff_ffff), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 1, 0), 0],
    [EINVAL, irqs(dataBool | actionTrigger, 2, 0, 0), 0],
    [EINVAL, irqs(dataNone | actionMask, 0, 0, 0), 0],
    [EINVAL, irqs(dataBool | actionTrigger, 2, 0, 2, [1]), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 0, 2, [1, 1]), 0],
    [EINVAL, irqs(dataNone | actionTrigger, 2, 0, 1), 1],
    [EINVAL, irqs(dataEventfd | actionTrigger, 2, 0, 2), 1],
    [EINVAL, irqs(dataEventfd | actionTrigger, 2, 0, 1), 2],
    [EINVAL, irqs(dataEventfd | actionTrigger, 2, 0, 0), 0],
    [ENOTTY, irqs(dataNone | actionMask, 2, 0, 1), 0],
    [ENOTSUP, irqs(dataEventfd | actionMask, 0, 0, 1), 1],
    [ENOTSUP, irqs(dataEventfd | actionUnmask, 0, 0, 1), 0],
    [EINVAL, irqSet.encode({ argsz: 19, flags: dataNone | actionTrigger, index: 2 }), 0],
    [EINVAL, new Uint8Array(19), 0],
  ];
  for (const [error, payload, fds] of bad) {
    const reply = b.client.call(COMMAND.deviceSetIrqs, payload, new Array(fds).fill(event.fd));
    assertEquals(reply.error, error, `${payload}`);
  }
  const noEventFd = b.client.call(COMMAND.deviceSetIrqs, irqs(dataEventfd | actionTrigger, 2, 0, 2), [
    event.fd,
    file,
  ]);
  assertEquals(noEventFd.error, EINVAL);
  assertEquals(b.device.log, ["attached"]);
  b.client.call(COMMAND.deviceReset);
  assertEquals(openFdCount(), before);
});
