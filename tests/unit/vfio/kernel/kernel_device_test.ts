/** The device that both kernel paths share, against a model of the kernel. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { EventFd, mappingCount, openFdCount, pageSizeBytes, SyscallError } from "../../../../ffi/mod.ts";
import {
  ClosedError,
  ProtocolError,
  RefusedError,
  UnsupportedError,
  UsageError,
} from "../../../../lib/errors/mod.ts";
import { DEVICE_FEATURE, IRQ, IRQ_FLAG, REGION, type VfioDevice } from "../../../../lib/vfio/device.ts";
import { requirePciDevice, type VfioPciDevice } from "../../../../lib/vfio/pci_device.ts";
import { openOn } from "../../../../lib/vfio/kernel/open.ts";
import { ConfigAccess } from "../../../../lib/vfio/mod.ts";
import { type FakeFunction, FakeKernel, regionOffset } from "./fake_kernel.ts";

const NAME = "0000:01:00.0";
const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
const PAGE = pageSizeBytes;
const MASKED = IRQ_FLAG.eventfd | IRQ_FLAG.maskable | IRQ_FLAG.automasked;
const FIXED = IRQ_FLAG.eventfd | IRQ_FLAG.noResize;

const fn: FakeFunction = {
  address: NAME,
  group: 12,
  driver: "vfio-pci",
  cdev: "vfio3",
  irqs: [{ count: 1, flags: MASKED }, { count: 8, flags: FIXED }, { count: 4, flags: IRQ_FLAG.eventfd }],
};

/** Opens a function of a fresh model, and checks that nothing of it stays. */
function withKernel(
  body: (device: VfioPciDevice, kernel: FakeKernel) => void,
  change: { path?: "group" | "cdev"; kernel?: (kernel: FakeKernel) => void } = {},
): void {
  const before = { fds: openFdCount(), ...mappingCount() };
  const kernel = new FakeKernel();
  kernel.add(fn);
  kernel.config[4] = 0x06;
  change.kernel?.(kernel);
  {
    using device = requirePciDevice(openOn(kernel, NAME, { path: change.path ?? "group" }), "hot reset");
    kernel.log.length = 0;
    body(device, kernel);
  }
  assertEquals({ fds: openFdCount(), ...mappingCount() }, before);
}

for (const path of ["group", "cdev"] as const) {
  Deno.test(`an option that cannot be read leaves nothing open: ${path}`, () => {
    for (const field of ["vfToken", "isSriov", "path", "enableUnsafeNoIommuMode", "onClosed"]) {
      const before = openFdCount();
      const kernel = new FakeKernel();
      kernel.add(fn);
      const options = {
        path,
        get [field](): never {
          throw new UsageError("unreadable");
        },
      };
      // What one path does not ask for is not read.
      if (path === "cdev" && field === "enableUnsafeNoIommuMode") continue;
      assertThrows(() => openOn(kernel, NAME, options), UsageError, "unreadable");
      assertEquals(openFdCount(), before, field);
    }
  });
}

Deno.test("8.3 region accesses go to the kernel's offset, past 2^53, and are completed when cut short", () => {
  withKernel((device, kernel) => {
    const word = new Uint8Array(4);
    device.readRegion(REGION.bar0, 8, word);
    device.writeRegion(REGION.bar0, 12, word);
    assertEquals(kernel.log.filter((line) => line.startsWith("p")), [
      `pread ${regionOffset(0) + 8n} 4`,
      `pwrite ${regionOffset(0) + 12n} 4`,
    ]);
    kernel.config.forEach((_, i) => kernel.config[i] = i);
    const all = new ConfigAccess(device).readAll();
    assertEquals([...all], [...kernel.config]);
  });
});

Deno.test("region accesses outside, or to a region that is not there, do not reach the kernel", () => {
  withKernel((device, kernel) => {
    for (
      const [index, offset, length] of [
        [REGION.bar0, 4 * PAGE - 2, 4],
        [REGION.bar0, -1, 1],
        [REGION.bar0, NaN, 1],
        [REGION.bar0, 2 ** 53, 1],
        [REGION.bar1, 0, 1],
        [REGION.vga, 0, 1],
      ] as const
    ) {
      assertThrows(() => device.readRegion(index, offset, new Uint8Array(length)), UsageError, "is outside");
      assertThrows(() => device.writeRegion(index, offset, new Uint8Array(length)), UsageError);
    }
    for (const index of [-1, 9, 1.5, NaN, 2 ** 40]) {
      assertThrows(() => device.regionInfo(index), UsageError, "has no region");
      assertThrows(() => device.irqInfo(index), UsageError, "has no interrupt index");
    }
    assertEquals(kernel.log.filter((line) => line.startsWith("p")), []);
  });
});

Deno.test("8.3 a region with capabilities is asked for twice, and only its areas can be mapped", () => {
  withKernel((device, kernel) => {
    const info = device.regionInfo(REGION.bar0);
    assertEquals(info.mmapAreas, [{ offset: PAGE, sizeBytes: 2 * PAGE }]);
    assertEquals(kernel.log.length, 2);
    device.regionInfo(REGION.bar0);
    assertEquals(kernel.log.length, 2);
    const memory = device.mapRegion(REGION.bar0, { offset: 2 * PAGE, sizeBytes: PAGE });
    assertEquals(kernel.log.at(-1), `mmap ${regionOffset(0) + BigInt(2 * PAGE)} ${PAGE} true`);
    for (
      const [offset, sizeBytes] of [
        [0, PAGE],
        [PAGE, 3 * PAGE],
        [3 * PAGE, PAGE],
        [PAGE, 0],
        [NaN, PAGE],
        [PAGE, -PAGE],
      ] as const
    ) {
      const error = assertThrows(
        () => device.mapRegion(REGION.bar0, { offset, sizeBytes }),
        UsageError,
      ) as UsageError;
      assert(error.hint.includes(`[${PAGE}, +${2 * PAGE})`), error.hint);
    }
    assertThrows(() => device.mapRegion(REGION.config, { offset: 0, sizeBytes: 256 }), UsageError);
    device.close();
    assertEquals(memory.closed, true);
  }, {
    kernel: (kernel) => {
      const caps = new Uint8Array(32);
      const view = new DataView(caps.buffer);
      view.setUint16(0, 1, true);
      view.setUint32(8, 1, true);
      view.setBigUint64(16, BigInt(PAGE), true);
      view.setBigUint64(24, BigInt(2 * PAGE), true);
      kernel.regionCaps = caps;
    },
  });
});

Deno.test("a kernel that asks for ever larger buffers, or for an absurd one, is a ProtocolError", () => {
  let growing = true;
  withKernel((device) => {
    assertThrows(() => device.regionInfo(REGION.bar0), ProtocolError, "8 times");
    growing = false;
    assertThrows(() => device.regionInfo(REGION.bar0), ProtocolError, "wants a buffer of");
  }, {
    kernel: (kernel) => {
      let n = 8;
      Object.defineProperty(kernel, "regionCaps", { get: () => new Uint8Array(growing ? n += 16 : 2 << 20) });
    },
  });
});

Deno.test("while memory decoding is off BARs are not mapped, and a write that turns it off unmaps them", () => {
  withKernel((device, kernel) => {
    // A power management capability behind another one, as functions have it.
    kernel.config.set([0x10, 0], 6);
    kernel.config[0x34] = 0x40;
    kernel.config.set([0x09, 0x50], 0x40);
    kernel.config.set([0x01, 0], 0x50);
    const config = new ConfigAccess(device);
    const area = { offset: 0, sizeBytes: PAGE };
    const first = device.mapRegion(REGION.bar0, area);
    const view = first.bytes();
    config.setCommand({ busMaster: false });
    config.write16(0x54, 1);
    assertEquals([first.closed, view.length], [false, PAGE]);
    config.setCommand({ memory: false });
    assertEquals([first.closed, view.length], [true, 0]);
    assertThrows(() => device.mapRegion(REGION.bar0, area), UsageError, "memory decoding is off");
    config.setCommand({ memory: true });
    const second = device.mapRegion(REGION.bar0, area);
    config.write16(0x54, 3);
    assertEquals(second.closed, true);
    assertThrows(() => device.mapRegion(REGION.bar0, area), UsageError, "memory decoding is off");
  });
});

Deno.test("a capability list in a circle does not hold up the look for the power state", () => {
  withKernel((device, kernel) => {
    kernel.config.set([0x10, 0], 6);
    kernel.config[0x34] = 0x40;
    kernel.config.set([0x09, 0x40], 0x40);
    device.mapRegion(REGION.bar0, { offset: 0, sizeBytes: PAGE });
  });
});

/** A SET_IRQS structure as `flags index start count [data]`. */
function irqSets(kernel: FakeKernel): string[] {
  return kernel.irqSets.splice(0).map((bytes) => {
    const words = [...new Int32Array(bytes.buffer)];
    assertEquals(words[0], bytes.length);
    return `${words.slice(1, 5).join(" ")} [${words.slice(5).map((fd) => fd < 0 ? fd : "fd").join(" ")}]`;
  });
}

Deno.test("8.3 SET_IRQS: enable, fire, take out, disable", () => {
  withKernel((device, kernel) => {
    using a = new EventFd();
    using b = new EventFd();
    device.setIrqs({ index: IRQ.msix, action: "disable" });
    assertEquals(irqSets(kernel), [], "what is off need not be turned off");
    device.setIrqs({ index: IRQ.msix, action: "trigger", start: 0, eventFds: [a, b] });
    device.setIrqs({ index: IRQ.msix, action: "fire", start: 1, count: 1 });
    device.setIrqs({ index: IRQ.msix, action: "trigger", start: 1, eventFds: [null] });
    device.setIrqs({ index: IRQ.msix, action: "disable" });
    assertEquals(irqSets(kernel), ["36 2 0 2 [fd fd]", "33 2 1 1 []", "36 2 1 1 [-1]", "33 2 0 0 []"]);
    const seen = kernel.arguments.get("VFIO_DEVICE_SET_IRQS")![0]!;
    assertEquals([...new Int32Array(seen.buffer, 20)], [a.fd.number, b.fd.number]);
  });
});

Deno.test("8.3 more vectors on a NORESIZE index: off and on again with all; on a resizable one: added", () => {
  withKernel((device, kernel) => {
    using a = new EventFd();
    using b = new EventFd();
    device.setIrqs({ index: IRQ.msi, action: "trigger", start: 0, eventFds: [a] });
    device.setIrqs({ index: IRQ.msi, action: "trigger", start: 2, eventFds: [b] });
    assertEquals(irqSets(kernel), ["36 1 0 1 [fd]", "33 1 0 0 []", "36 1 0 3 [fd -1 fd]"]);
    device.setIrqs({ index: IRQ.msi, action: "trigger", start: 1, eventFds: [a] });
    assertEquals(irqSets(kernel), ["36 1 1 1 [fd]"]);
    device.setIrqs({ index: IRQ.msi, action: "disable" });
    device.setIrqs({ index: IRQ.msix, action: "trigger", start: 0, eventFds: [a] });
    device.setIrqs({ index: IRQ.msix, action: "trigger", start: 1, eventFds: [b] });
    assertEquals(irqSets(kernel), ["33 1 0 0 []", "36 2 0 1 [fd]", "36 2 1 1 [fd]"]);
  });
});

Deno.test("an enable with more vectors that fails puts the old ones back; a closed eventfd stays out", () => {
  withKernel((device, kernel) => {
    using a = new EventFd();
    const gone = new EventFd();
    using b = new EventFd();
    device.setIrqs({ index: IRQ.msi, action: "trigger", start: 0, eventFds: [a, gone] });
    gone.close();
    kernel.irqSets.length = 0;
    const enable = () => device.setIrqs({ index: IRQ.msi, action: "trigger", start: 2, eventFds: [b] });
    // The first request of the two turns the index off, so let the second fail.
    const set = kernel.irqSets;
    const push = set.push.bind(set);
    set.push = (...items) => {
      kernel.failOnce.set("VFIO_DEVICE_SET_IRQS", "ENOSPC");
      set.push = push;
      return push(...items);
    };
    assertThrows(enable, SyscallError, "ENOSPC");
    assertEquals(irqSets(kernel), ["33 1 0 0 []", "36 1 0 2 [fd -1]"]);
    enable();
    assertEquals(irqSets(kernel), ["33 1 0 0 []", "36 1 0 3 [fd -1 fd]"]);
    assertThrows(
      () => device.setIrqs({ index: IRQ.msi, action: "trigger", start: 0, eventFds: [gone] }),
      ClosedError,
    );
    assertEquals(irqSets(kernel), []);
  });
});

Deno.test("only INTx is masked; one kind at a time; ranges and states are checked first", () => {
  withKernel((device, kernel) => {
    using a = new EventFd();
    const intx = { index: IRQ.intx, start: 0, count: 1 } as const;
    assertThrows(() => device.setIrqs({ ...intx, action: "unmask" }), UsageError, "INTx: is off");
    device.setIrqs({ index: IRQ.intx, action: "trigger", start: 0, eventFds: [a] });
    device.setIrqs({ ...intx, action: "mask" });
    device.setIrqs({ ...intx, action: "unmask" });
    device.setIrqs({ index: IRQ.intx, action: "unmask-on", start: 0, eventFd: a });
    assertEquals(irqSets(kernel), ["36 0 0 1 [fd]", "9 0 0 1 []", "17 0 0 1 []", "20 0 0 1 [fd]"]);
    const msix = { index: IRQ.msix, start: 0 } as const;
    assertThrows(
      () => device.setIrqs({ ...msix, action: "trigger", eventFds: [a] }),
      UsageError,
      "INTx is on",
    );
    device.setIrqs({ index: IRQ.intx, action: "disable" });
    device.setIrqs({ ...msix, action: "trigger", eventFds: [a] });
    irqSets(kernel);
    for (
      const request of [
        { ...msix, action: "mask", count: 1 },
        { ...msix, action: "unmask", count: 1 },
        { ...msix, action: "unmask-on", eventFd: a },
      ] as const
    ) assertThrows(() => device.setIrqs(request), UnsupportedError, "only INTx is maskable");
    for (
      const request of [
        { ...msix, action: "trigger", eventFds: [] },
        { ...msix, action: "trigger", start: 4, eventFds: [a] },
        { ...msix, action: "trigger", start: -1, eventFds: [a] },
        { ...msix, action: "fire", count: 0 },
        { ...msix, action: "fire", count: 2 },
        { ...msix, action: "fire", count: 2 ** 32 },
        { ...msix, action: "fire", start: 0.5, count: 1 },
        { index: 5, action: "disable" },
      ] as const
    ) assertThrows(() => device.setIrqs(request), UsageError);
    assertThrows(
      () => device.setIrqs({ index: IRQ.error, action: "trigger", start: 0, eventFds: [a] }),
      UnsupportedError,
      "the function has none",
    );
    assertEquals(irqSets(kernel), []);
  });
});

Deno.test("8.3 hot reset: ENOSPC gives the count; by group with each group's descriptor", () => {
  withKernel((device, kernel) => {
    kernel.hotReset = { flags: 0, dependents: [[12, 1, 0], [12, 1, 1]] };
    assertEquals(device.hotResetInfo(), {
      dependents: [
        { function: "0000:01:00.0", group: 12, owned: true },
        { function: "0000:01:00.1", group: 12, owned: true },
      ],
      possible: true,
    });
    device.hotReset();
    const [argument] = kernel.arguments.get("VFIO_DEVICE_PCI_HOT_RESET")!;
    assertEquals([...new Int32Array(argument!.buffer)].slice(0, 3), [16, 0, 1]);
    kernel.hotReset = { flags: 0, dependents: [[12, 1, 0], [77, 2, 8]] };
    assertThrows(() => device.hotReset(), RefusedError, "0000:02:01.0 (IOMMU group 77)");
    assertEquals(kernel.arguments.get("VFIO_DEVICE_PCI_HOT_RESET")!.length, 1);
    kernel.failOnce.set("VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", "ENODEV");
    const error = assertThrows(() => device.hotResetInfo(), SyscallError) as SyscallError;
    assert(error.hint.includes("slot"), error.hint);
  });
});

Deno.test("8.3 hot reset by cdev: no group descriptor, and only when all are owned", () => {
  withKernel((device, kernel) => {
    kernel.hotReset = { flags: 3, dependents: [[2, 1, 0], [0, 1, 1]] };
    device.hotReset();
    const [argument] = kernel.arguments.get("VFIO_DEVICE_PCI_HOT_RESET")!;
    assertEquals([...new Int32Array(argument!.buffer)], [12, 0, 0]);
    kernel.hotReset = { flags: 1, dependents: [[2, 1, 0], [0xffff_ffff, 1, 1]] };
    assertThrows(() => device.hotReset(), RefusedError, "0000:01:00.1");
  }, { path: "cdev" });
});

Deno.test("features: probe by direction; the token of a PF; reset", () => {
  withKernel((device, kernel) => {
    assertEquals(device.probeFeature(DEVICE_FEATURE.pciVfToken), true);
    assertEquals(device.probeFeature(DEVICE_FEATURE.pciVfToken, "set"), true);
    assertEquals(device.probeFeature(DEVICE_FEATURE.pciVfToken, "get"), false);
    assertEquals(device.probeFeature(DEVICE_FEATURE.migration), false);
    const flags = kernel.arguments.get("VFIO_DEVICE_FEATURE")!.map((a) => new Uint32Array(a.buffer)[1]);
    assertEquals(flags, [0x4_0000, 0x6_0000, 0x5_0000, 0x4_0001]);
    for (const feature of [-1, 0x1_0000, 0.5, NaN]) {
      assertThrows(() => device.probeFeature(feature), UsageError);
    }
    kernel.failOnce.set("VFIO_DEVICE_FEATURE", "EIO");
    assertThrows(() => device.probeFeature(0), SyscallError);

    device.setVfToken(TOKEN);
    assertEquals(kernel.arguments.get("VFIO_DEVICE_FEATURE")!.at(-1)!.length, 24);
    assertThrows(() => device.setVfToken("nonsense"), UsageError);
    kernel.failOnce.set("VFIO_DEVICE_FEATURE", "ENOTTY");
    assertThrows(() => device.setVfToken(TOKEN), UnsupportedError, "has no VF token");

    device.reset();
    assertEquals(kernel.log.at(-1)?.endsWith("VFIO_DEVICE_RESET"), true);
  });
  withKernel((device, kernel) => {
    assertThrows(() => device.reset(), UnsupportedError, "cannot be reset alone");
    assertEquals(kernel.log, []);
  }, { kernel: (kernel) => kernel.deviceFlags = 2 });
});

Deno.test("after close every call is a ClosedError, and close may be called again", () => {
  for (const path of ["group", "cdev"] as const) {
    withKernel((device, kernel) => {
      using eventFd = new EventFd();
      device.regionInfo(0);
      device.irqInfo(0);
      device.close();
      device.close();
      kernel.log.length = 0;
      for (
        const call of [
          () => device.regionInfo(0),
          () => device.irqInfo(0),
          () => device.readRegion(0, 0, new Uint8Array(4)),
          () => device.writeRegion(0, 0, new Uint8Array(4)),
          () => device.mapRegion(0, { offset: 0, sizeBytes: PAGE }),
          () => device.doorbellFd(0, 0, 4),
          () => device.setIrqs({ index: 0, action: "trigger", start: 0, eventFds: [eventFd] }),
          () => device.reset(),
          () => device.hotResetInfo(),
          () => device.hotReset(),
          () => device.probeFeature(0),
          () => device.setVfToken(TOKEN),
          () => device.dma,
        ]
      ) assertThrows(call, ClosedError, undefined, call.toString());
      assertEquals(kernel.log, []);
    }, { path });
  }
});

Deno.test("whoever is told that a device is closed is told once, also when closing fails", () => {
  for (const failing of ["", "IOMMU_DESTROY"]) {
    const kernel = new FakeKernel();
    kernel.add(fn);
    const told: boolean[] = [];
    const device: VfioDevice = openOn(kernel, NAME, {
      path: "cdev",
      onClosed: () => told.push(device.closed),
    });
    if (failing === "") device.close();
    else {
      kernel.failOnce.set(failing, "EBUSY");
      assertThrows(() => device.close(), SyscallError);
    }
    device.close();
    device[Symbol.dispose]();
    assertEquals(told, [true]);
  }
});
