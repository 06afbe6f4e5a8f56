import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openFdCount, UnixSocket } from "../../../../ffi/mod.ts";
import { ClosedError, PeerGoneError, UnsupportedError, UsageError } from "../../../../lib/errors/mod.ts";
import type { Lifeline } from "../../../../lib/wait/lifeline.ts";
import { MovableTransport } from "../../../../lib/virtio/transport/movable.ts";
import { PciModernTransport } from "../../../../lib/virtio/transport/pci_modern.ts";
import { Waiter } from "../../../../lib/wait/waiter.ts";
import { FakeFunction } from "../fake_function.ts";

Deno.test("movable: interrupts that are turned on again leave no eventfd behind", () => {
  const before = openFdCount();
  const movable = new MovableTransport(PciModernTransport.open(new FakeFunction()));
  movable.enableInterrupts("msix", 3);
  const on = openFdCount();
  assertThrows(() => movable.enableInterrupts("msix", 3), UsageError, "on already");
  assertEquals(openFdCount(), on);
  // Its owner may turn the function's off: what is enabled next takes the place of those.
  movable.current.disableInterrupts();
  const vectors = movable.enableInterrupts("msix", 3);
  assertEquals(openFdCount(), on);
  assertEquals(vectors.map(({ eventFd }) => eventFd.closed), [false, false, false]);
  movable.close();
  assertEquals(openFdCount(), before);
});

Deno.test("1.2 a driver that did not accept ACCESS_PLATFORM does not move behind an IOMMU", () => {
  using here = new FakeFunction();
  using there = new FakeFunction();
  there.iommu.iommu = true;
  here.features = there.features = 3n << 32n;
  using to = PciModernTransport.open(there);
  using moving = new MovableTransport(PciModernTransport.open(here));
  moving.writeDriverFeatures(1n << 32n);
  assertThrows(() => moving.moveTo(to), UnsupportedError, "ACCESS_PLATFORM");
  assertEquals([moving.current.closed, moving.needsAccessPlatform, to.driverFeatures], [false, false, 0n]);
  moving.writeDriverFeatures(3n << 32n);
  moving.moveTo(to);
  assertEquals([moving.current === to, moving.needsAccessPlatform], [true, true]);
});

Deno.test("N-3.7 movable: whether VFs may migrate is said of the function that is the current one", () => {
  const [here, there] = [new FakeFunction(), new FakeFunction()];
  there.addSriov(1);
  using moving = new MovableTransport(PciModernTransport.open(here));
  assertEquals(moving.vfMigrationCapable, false);
  moving.moveTo(PciModernTransport.open(there));
  assertEquals(moving.vfMigrationCapable, true);
});

/** A function whose process ends when `far` is closed. */
class ServedFunction extends FakeFunction {
  override readonly name: string;
  readonly far: UnixSocket;
  readonly handlers = new Set<() => void>();
  answers = 0;
  readonly lifeline: Lifeline;

  constructor(name: string) {
    super();
    this.name = name;
    const [near, far] = UnixSocket.pair();
    this.far = far;
    let gone = false;
    const reason = () => new PeerGoneError(`${name} is gone`);
    const answer = () => {
      this.answers++;
      if (gone || near.receive(new Uint8Array(1), { wait: false })?.length !== 0) return;
      gone = true;
      for (const handler of [...this.handlers]) handler();
    };
    this.lifeline = {
      fds: [near.fd],
      reason,
      answer,
      check: () => {
        answer();
        if (gone) throw reason();
      },
      onEnd: (handler) => {
        this.handlers.add(handler);
        return () => void this.handlers.delete(handler);
      },
    };
  }

  override [Symbol.dispose](): void {
    this.close();
    this.lifeline.fds[0]!.close();
    this.far.close();
  }
}

Deno.test("movable: who sleeps or polls hears of the end of the function that is the current one, and of no other", async () => {
  for (const mode of ["eventfd", "poll"] as const) {
    using one = new ServedFunction("one");
    using two = new ServedFunction("two");
    const first = PciModernTransport.open(one);
    using movable = new MovableTransport(first);
    using waiter = new Waiter({ mode });
    for (const vector of movable.enableInterrupts("msix", 1)) waiter.watch(vector);
    waiter.watchLifeline(movable.lifeline!);
    const never = { hasUsed: () => false, suppressInterrupts: () => {}, enableInterrupts: () => false };
    const sleeping = waiter.wait(never, Infinity);
    movable.moveTo(PciModernTransport.open(two));
    first.close();
    assertEquals([one.handlers.size, two.handlers.size], [0, 1]);
    // The process of before may end now.
    one.far.close();
    movable.lifeline!.check();
    assertEquals(await waiter.wait(never, 30), false);
    // The one look above; a descriptor of before that was still watched would be ready again and again.
    assertEquals([one.answers, two.answers], [0, 1]);
    two.far.close();
    await assertRejects(() => sleeping, PeerGoneError, "two is gone");
    assertThrows(() => movable.lifeline!.check(), PeerGoneError, "two is gone");
    waiter.close();
    await waiter.settled;
  }
});

Deno.test("movable: from a process to the kernel there is no move", () => {
  using one = new ServedFunction("one");
  using movable = new MovableTransport(PciModernTransport.open(one));
  using to = PciModernTransport.open(new FakeFunction());
  assertThrows(() => movable.moveTo(to), UnsupportedError, "the kernel");
});

Deno.test("movable: whatever a transport can have is there, if the current function's has it", () => {
  using one = new FakeFunction();
  const transport = PciModernTransport.open(one);
  using movable = new MovableTransport(transport);
  assertEquals(
    [movable.kind, movable.name, movable.ownFeatures, movable.notifyPlace, movable.readStatus()],
    [transport.kind, transport.name, transport.ownFeatures, undefined, 0],
  );
  movable.close();
  assertThrows(() => movable.readStatus(), ClosedError, movable.name);
  assertThrows(() => movable.enableInterrupts("msix", 1), ClosedError, movable.name);
});
