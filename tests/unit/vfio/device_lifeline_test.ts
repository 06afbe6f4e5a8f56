/** The request and the error interrupt of a function, and its end, as those hear of them who use it. */
import { assert, assertEquals, assertInstanceOf, assertRejects, assertThrows } from "@std/assert";
import { EventFd, openFdCount, OwnedFd, pageSizeBytes } from "../../../ffi/mod.ts";
import { ClosedError, DeviceError, RemovalRequestedError, UsageError } from "../../../lib/errors/mod.ts";
import { IRQ, IRQ_FLAG } from "../../../lib/vfio/device.ts";
import { openOn } from "../../../lib/vfio/kernel/open.ts";
import { requirePciDevice, type VfioPciDevice } from "../../../lib/vfio/pci_device.ts";
import { Waiter } from "../../../lib/wait/waiter.ts";
import { FakeKernel } from "./kernel/fake_kernel.ts";

const NAME = "0000:01:00.0";
const SINGLE = { count: 1, flags: IRQ_FLAG.eventfd | IRQ_FLAG.noResize };
const NONE = { count: 0, flags: 0 };
const NEVER = {
  hasUsed: () => false,
  suppressInterrupts: () => {},
  enableInterrupts: () => false,
};

interface Opened {
  readonly device: VfioPciDevice;
  readonly kernel: FakeKernel;
  /** Signals what the function gave SET_IRQS for an index. */
  raise(index: number): void;
}

function indexOf(set: Uint8Array): number {
  return new DataView(set.buffer).getUint32(8, true);
}

async function opened(
  path: "group" | "cdev",
  irqs: readonly { count: number; flags: number }[],
  body: (opened: Opened) => void | Promise<void>,
  prepare: (kernel: FakeKernel) => void = () => {},
): Promise<void> {
  const before = openFdCount();
  const kernel = new FakeKernel();
  kernel.add({ address: NAME, group: 12, driver: "vfio-pci", cdev: "vfio3", irqs });
  prepare(kernel);
  {
    using device = requirePciDevice(openOn(kernel, NAME, { path }), "interrupts");
    const raise = (index: number) => {
      const set = kernel.irqSets.findLast((one) => indexOf(one) === index)!;
      const fd = new OwnedFd(new DataView(set.buffer).getInt32(20, true), "the kernel's eventfd");
      new EventFd(fd).signal();
      fd.release();
    };
    await body({ device, kernel, raise });
  }
  assertEquals(openFdCount(), before);
}

/** What looks for a request does not keep the event loop alive. */
async function until(come: () => boolean): Promise<void> {
  while (!come()) await new Promise((resolve) => setTimeout(resolve, 1));
}

const ALL = [NONE, NONE, NONE, SINGLE, SINGLE];

for (const path of ["group", "cdev"] as const) {
  Deno.test(`VFIO_PCI_REQ_IRQ_INDEX by ${path}: who listens is told once, and the lifeline has ended`, async () => {
    await opened(path, ALL, async ({ device, kernel, raise }) => {
      // From the start: what comes before is a request that nobody hears, and the next one comes ten seconds later.
      assertEquals(kernel.irqSets.map(indexOf), [IRQ.error, IRQ.request]);
      let told = 0;
      device.onRemovalRequested(() => told++);
      const forget = device.onRemovalRequested(() => told += 100);
      forget();
      device.lifeline!.check();
      raise(IRQ.request);
      await until(() => told > 0);
      const error = assertThrows(() => device.lifeline!.check(), RemovalRequestedError, NAME);
      assert(error.message.includes("the kernel asks"), error.message);
      assertEquals(device.lifeline!.reason(), error);
      // The kernel asks again every ten seconds.
      raise(IRQ.request);
      device.lifeline!.answer();
      assertEquals(told, 1);
      // The function still works: its user resets and closes it in order.
      device.readRegion(7, 0, new Uint8Array(4));
      device.reset();
      assertThrows(() => device.lifeline!.check(), RemovalRequestedError);
      let late = false;
      device.onRemovalRequested(() => late = true);
      await until(() => late);
    });
  });
}

Deno.test("a function that is asked for while it is opened, before anybody listens, is closed at once", async () => {
  for (const path of ["group", "cdev"] as const) {
    let closed = 0;
    await opened(path, ALL, ({ kernel, device }) => {
      device.close();
      kernel.unregistered.add(NAME);
      const open = () => openOn(kernel, NAME, { path, onClosed: () => closed++ });
      assertThrows(open, RemovalRequestedError, `${NAME}: the kernel asks`);
      assertEquals(closed, 1);
      kernel.unregistered.clear();
      open().close();
      assertEquals(closed, 2);
    });
  }
});

Deno.test("a request ends waits of every mode, and the close of a kernel device does, too", async () => {
  for (const mode of ["poll", "eventfd", "adaptive"] as const) {
    for (const how of ["request", "close"] as const) {
      await opened("group", ALL, async ({ device, raise }) => {
        using vector = new EventFd();
        await using stack = new AsyncDisposableStack();
        const waiter = stack.use(new Waiter({ mode }));
        stack.defer(async () => {
          waiter.close();
          await waiter.settled;
        });
        waiter.watch({ eventFd: vector, acknowledge: () => 1 });
        waiter.watchLifeline(device.lifeline!);
        const waits = [waiter.wait(NEVER, Infinity), waiter.wait(NEVER, Infinity)];
        if (how === "request") raise(IRQ.request);
        else device.close();
        const expected = how === "request" ? RemovalRequestedError : ClosedError;
        for (const wait of waits) await assertRejects(() => wait, expected, NAME);
        assertInstanceOf(waiter.lost, expected);
        await assertRejects(() => waiter.wait(NEVER, Infinity), expected);
      });
    }
  }
});

Deno.test("a function has more users than Linux lets sets of descriptors watch one set (500), and all hear its request", async () => {
  await opened("cdev", ALL, async ({ device, raise }) => {
    using vector = new EventFd();
    const waiters = Array.from({ length: 600 }, () => new Waiter({ mode: "eventfd" }));
    try {
      waiters[0]!.watch({ eventFd: vector, acknowledge: () => 1 });
      for (const waiter of waiters) waiter.watchLifeline(device.lifeline!);
      const first = waiters[0]!.wait(NEVER, 60_000);
      raise(IRQ.request);
      await assertRejects(() => first, RemovalRequestedError);
      for (const { lost } of waiters) assertInstanceOf(lost, RemovalRequestedError);
    } finally {
      for (const waiter of waiters) waiter.close();
      await Promise.all(waiters.map(({ settled }) => settled));
    }
  });
});

Deno.test("VFIO_PCI_ERR_IRQ_INDEX: told each time; a reset of the function mends it, and listeners of before the end are told once", async () => {
  await opened("cdev", ALL, ({ device, raise }) => {
    let [errors, ends] = [0, 0];
    device.onDeviceError(() => errors++);
    const lifeline = device.lifeline!;
    lifeline.onEnd(() => ends++);
    raise(IRQ.error);
    const error = assertThrows(() => lifeline.check(), DeviceError, "uncorrectable error");
    assertEquals(error.location.function, NAME);
    raise(IRQ.error);
    assertThrows(() => lifeline.check(), DeviceError);
    assertEquals([errors, ends], [2, 1]);
    device.reset();
    lifeline.check();
    lifeline.onEnd(() => ends++);
    raise(IRQ.error);
    assertThrows(() => lifeline.check(), DeviceError);
    device.hotReset();
    lifeline.check();
    assertEquals([errors, ends], [3, 2]);
    // It is wanted back although it is broken: that is what its user can do something about.
    raise(IRQ.error);
    raise(IRQ.request);
    assertThrows(() => lifeline.check(), RemovalRequestedError);
  });
});

Deno.test("a function that lacks the interrupts, or whose kernel refuses them, has a lifeline all the same", async () => {
  await opened("group", [NONE, NONE, NONE, NONE], ({ device, kernel }) => {
    const lifeline = device.lifeline!;
    lifeline.check();
    assertEquals(kernel.irqSets.length, 0);
    let ended = false;
    lifeline.onEnd(() => ended = true);
    device.close();
    assertEquals(ended, true);
    assertThrows(() => lifeline.check(), ClosedError, NAME);
    lifeline.answer();
  });
  await opened("group", ALL, ({ device, kernel }) => {
    device.lifeline!.check();
    assertEquals(kernel.irqSets.map(indexOf), [IRQ.request]);
  }, (kernel) => kernel.failOnce.set("VFIO_DEVICE_SET_IRQS", "EINVAL"));
  await opened("group", ALL, ({ device }) => {
    device.close();
    assertThrows(() => device.lifeline!.check(), ClosedError, NAME);
    device.onRemovalRequested(() => {})();
  });
});

Deno.test("a handler may close the function; what one throws keeps no other from hearing", async () => {
  const reported: unknown[] = [];
  const listen = (event: ErrorEvent) => {
    event.preventDefault();
    reported.push(event.error);
  };
  globalThis.addEventListener("error", listen);
  try {
    await opened("cdev", ALL, ({ device, raise }) => {
      const lifeline = device.lifeline!;
      const wrong = new Error("mine");
      device.onRemovalRequested(() => {
        assertInstanceOf(lifeline.reason(), RemovalRequestedError, "who is told can ask why");
        throw wrong;
      });
      device.onRemovalRequested(() => device.close());
      raise(IRQ.error);
      raise(IRQ.request);
      lifeline.answer();
      assertEquals([device.closed, reported], [true, [wrong]]);
      assertThrows(
        () => lifeline.check(),
        RemovalRequestedError,
        "the kernel asks",
        "also when it is closed",
      );
    });
  } finally {
    globalThis.removeEventListener("error", listen);
  }
});

Deno.test("a handler is a function", async () => {
  await opened("group", ALL, ({ device }) => {
    assertThrows(() => device.onRemovalRequested(3 as never), UsageError, "onRemovalRequested");
    assertThrows(() => device.onDeviceError(null as never), UsageError, "onDeviceError");
  });
});

Deno.test("a platform device has no such interrupts; its end is told", () => {
  const kernel = new FakeKernel();
  const window = { address: 0n, bytes: new Uint8Array(pageSizeBytes) };
  kernel.add({
    address: "a003e00.virtio_mmio",
    group: 3,
    driver: "vfio-platform",
    windows: [window],
    irqs: [SINGLE, SINGLE, SINGLE, SINGLE, SINGLE],
  });
  const device = openOn(kernel, "a003e00.virtio_mmio", { path: "group" });
  const lifeline = device.lifeline!;
  lifeline.check();
  assertEquals(kernel.irqSets.length, 0);
  device.close();
  assertThrows(() => lifeline.check(), ClosedError, "a003e00.virtio_mmio");
});
