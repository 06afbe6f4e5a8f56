import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventFd, openFdCount } from "../../../ffi/mod.ts";
import { FunctionInterrupts } from "../../../lib/emulation/function_interrupts.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { IRQ, REGION } from "../../../lib/vfio/device.ts";
import type { EmulatedFunction } from "../../../lib/emulation/emulated_function.ts";
import { scratchMachine } from "./machine_scratch.ts";

const MSIX = { vectors: 4, table: { bar: 0, offset: 0 }, pendingBits: { bar: 0, offset: 0x800 } };
const ON = { busMaster: true, intxDisable: false, msixEnable: false };

function pba(interrupts: FunctionInterrupts): number {
  const bytes = new Uint8Array(8);
  interrupts.readPba(0, bytes);
  return bytes[0]!;
}

Deno.test("irq info: INTx maskable and automasked, MSI-X by its table, ERR and REQ one each, nothing else", () => {
  const interrupts = new FunctionInterrupts(MSIX, 1);
  assertEquals([0, 1, 2, 3, 4, 5].map((index) => interrupts.info(index)), [
    { index: 0, flags: 7, count: 1 },
    { index: 1, flags: 0, count: 0 },
    { index: 2, flags: 1, count: 4 },
    { index: 3, flags: 9, count: 1 },
    { index: 4, flags: 9, count: 1 },
    { index: 5, flags: 0, count: 0 },
  ]);
  const bare = new FunctionInterrupts(undefined, 0);
  assertEquals([bare.info(IRQ.intx).count, bare.info(IRQ.msix).count], [0, 0]);
});

Deno.test("MSI-X: a vector goes to its eventfd only, and one without an eventfd waits in the PBA for one", () => {
  const interrupts = new FunctionInterrupts(MSIX, 1);
  const [zero, two, late] = [new EventFd(), new EventFd(), new EventFd()];
  interrupts.setControls(ON);
  assertEquals(interrupts.raiseMsix(0), false, "MSI-X is off: nothing is sent and nothing is pending");
  assertEquals(pba(interrupts), 0);
  interrupts.set(IRQ.msix, { action: "trigger", start: 0, eventFds: [zero, null, two] });
  assert(interrupts.msixEnabled);
  assertEquals([interrupts.raiseMsix(2), interrupts.raiseMsix(1), interrupts.raiseMsix(4)], [
    true,
    false,
    false,
  ]);
  assertEquals([zero.take(), two.take(), pba(interrupts)], [0, 1, 0b10]);
  interrupts.set(IRQ.msix, { action: "trigger", start: 1, eventFds: [late] });
  assertEquals([late.take(), pba(interrupts)], [1, 0]);
  interrupts.set(IRQ.msix, { action: "fire", start: 0, count: 3 });
  assertEquals([zero.take(), late.take(), two.take()], [1, 1, 1]);
  interrupts.set(IRQ.msix, { action: "disable" });
  assert(zero.closed && late.closed && two.closed && !interrupts.msixEnabled);
});

Deno.test("MSI-X: nothing is sent while Bus Master Enable is clear; it is sent once it is set", () => {
  const interrupts = new FunctionInterrupts(MSIX, 1);
  using fd = new EventFd();
  interrupts.set(IRQ.msix, { action: "trigger", start: 3, eventFds: [fd] });
  assertEquals(interrupts.raiseMsix(3), false);
  interrupts.setControls({ ...ON, busMaster: false, msixEnable: true });
  assertEquals([fd.take(), pba(interrupts)], [0, 0b1000]);
  interrupts.setControls(ON);
  assertEquals([fd.take(), pba(interrupts)], [1, 0]);
});

Deno.test("INTx: told once and masked; unmasking while the line is up tells again, after it went down it does not", () => {
  const interrupts = new FunctionInterrupts(MSIX, 1);
  using fd = new EventFd();
  interrupts.setIntxLevel(true);
  interrupts.set(IRQ.intx, { action: "trigger", start: 0, eventFds: [fd] });
  assertEquals(fd.take(), 1, "the line was up already");
  interrupts.setIntxLevel(true);
  assertEquals(fd.take(), 0, "automasked");
  interrupts.set(IRQ.intx, { action: "unmask", start: 0, count: 1 });
  assertEquals(fd.take(), 1);
  interrupts.setIntxLevel(false);
  interrupts.set(IRQ.intx, { action: "unmask", start: 0, count: 1 });
  assertEquals(fd.take(), 0);
  interrupts.set(IRQ.intx, { action: "mask", start: 0, count: 1 });
  interrupts.setIntxLevel(true);
  assertEquals([fd.take(), interrupts.line.asserted], [0, true]);
});

Deno.test("INTx: a first eventfd starts unmasked, an exchange of it keeps the mask", () => {
  const interrupts = new FunctionInterrupts(MSIX, 1);
  using second = new EventFd();
  const first = new EventFd();
  interrupts.set(IRQ.intx, { action: "mask", start: 0, count: 1 });
  interrupts.set(IRQ.intx, { action: "trigger", start: 0, eventFds: [first] });
  interrupts.setIntxLevel(true);
  assertEquals(first.take(), 1);
  interrupts.set(IRQ.intx, { action: "trigger", start: 0, eventFds: [second] });
  assertEquals([second.take(), first.closed], [0, true]);
});

Deno.test("INTx: Interrupt Disable holds it back, and clearing it lets it through", () => {
  const interrupts = new FunctionInterrupts(MSIX, 1);
  using fd = new EventFd();
  interrupts.set(IRQ.intx, { action: "trigger", start: 0, eventFds: [fd] });
  interrupts.setControls({ ...ON, intxDisable: true });
  interrupts.setIntxLevel(true);
  assertEquals(fd.take(), 0);
  interrupts.setControls(ON);
  assertEquals(fd.take(), 1);
});

Deno.test("INTx: an eventfd that unmasks is reported for watching, and does unmask", () => {
  const changes: string[] = [];
  const name = (fd: EventFd | null) => (fd === null ? "none" : "fd");
  const interrupts = new FunctionInterrupts(
    MSIX,
    1,
    (before, now) => changes.push(`${name(before)}>${name(now)}`),
  );
  const [fd, resample] = [new EventFd(), new EventFd()];
  interrupts.set(IRQ.intx, { action: "trigger", start: 0, eventFds: [fd] });
  interrupts.set(IRQ.intx, { action: "unmask-on", start: 0, eventFd: resample });
  interrupts.setIntxLevel(true);
  assertEquals(fd.take(), 1);
  interrupts.line.resampled();
  assertEquals(fd.take(), 0, "the eventfd was not signalled");
  resample.signal();
  interrupts.line.resampled();
  assertEquals(fd.take(), 1);
  interrupts.detach();
  assertEquals(changes, ["none>fd", "fd>none"]);
  assert(fd.closed && resample.closed);
});

Deno.test("the request interrupt asks the user to let go", () => {
  const interrupts = new FunctionInterrupts(MSIX, 1);
  const fd = new EventFd();
  interrupts.requestRelease();
  interrupts.set(IRQ.request, { action: "trigger", start: 0, eventFds: [fd] });
  interrupts.requestRelease();
  assertEquals(fd.take(), 1);
  interrupts.set(IRQ.request, { action: "disable" });
  assert(fd.closed);
});

Deno.test("eventfds of a request that cannot be are closed, and exchanged ones too: nothing leaks", () => {
  const before = openFdCount();
  const interrupts = new FunctionInterrupts(MSIX, 1);
  const over = [new EventFd(), new EventFd()];
  assertThrows(
    () => interrupts.set(IRQ.msix, { action: "trigger", start: 3, eventFds: over }),
    UsageError,
    "no vector 4",
  );
  assertThrows(
    () => interrupts.set(IRQ.msix, { action: "unmask-on", start: 0, eventFd: new EventFd() }),
    UsageError,
  );
  assertThrows(() => interrupts.set(IRQ.msix, { action: "mask", start: 0, count: 1 }), UsageError);
  for (let i = 0; i < 3; i++) {
    interrupts.set(IRQ.msix, { action: "trigger", start: 0, eventFds: [new EventFd(), new EventFd()] });
    interrupts.set(IRQ.intx, { action: "trigger", start: 0, eventFds: [new EventFd()] });
    interrupts.set(IRQ.error, { action: "trigger", start: 0, eventFds: [new EventFd()] });
  }
  interrupts.detach();
  assertEquals(openFdCount(), before);
});

Deno.test("Status bit 3 follows the line; MSI-X Enable reads 1 when SET_IRQS turned it on, and can be set by config too", () => {
  const { machine } = scratchMachine();
  using _ = machine;
  const device = machine.device("0000:01:00.0");
  const status = () => readByte(device, 0x06) & 0x08;
  device.setIntx(true);
  assertEquals(status(), 0x08);
  device.setIntx(false);
  assertEquals(status(), 0);
  const enable = () => readByte(device, 0x48 + 3) & 0x80;
  device.setIrqs(IRQ.msix, { action: "trigger", start: 0, eventFds: [null] });
  assertEquals([enable(), device.msixEnabled], [0x80, true]);
  device.setIrqs(IRQ.msix, { action: "disable" });
  assertEquals([enable(), device.msixEnabled], [0, false]);
  device.writeRegion(REGION.config, 0x48 + 3, Uint8Array.of(0x80));
  assertEquals([enable(), device.msixEnabled], [0x80, true]);
});

function readByte(device: EmulatedFunction, offset: number): number {
  const byte = new Uint8Array(1);
  device.readRegion(REGION.config, offset, byte);
  return byte[0]!;
}
