/** Kernel VFIO as it is, by group and by character device, on the rig's emulated functions. */
import { assert, assertEquals, assertGreater, assertInstanceOf, assertThrows } from "@std/assert";
import {
  Epoll,
  type EventFd,
  mappingCount,
  openFdCount,
  pageSizeBytes,
  sleepBlocking,
} from "../../ffi/mod.ts";
import {
  ClosedError,
  NotFoundError,
  RefusedError,
  UnsupportedError,
  UsageError,
} from "../../lib/errors/mod.ts";
import { requirePciDevice, type VfioPciDevice } from "../../lib/vfio/pci_device.ts";
import { DEVICE_FEATURE, DEVICE_FLAG, IRQ, REGION, type VfioDevice } from "../../lib/vfio/device.ts";
import { Bar, ConfigAccess, InterruptSet, openKernelDevice } from "../../lib/vfio/mod.ts";
import type { KernelOpenOptions } from "../../lib/vfio/mod.ts";
import { guestHasCdev, inGuest } from "./rig/in_guest.ts";

const PCI = "/sys/bus/pci/devices";
const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
const OTHER_TOKEN = "3f2504e0-4f89-41d3-9a0c-0305e82c3301";
const EDU = { id: "1234:11e8", identification: 0x0100_00ed } as const;
const WAIT_MS = 5000;

const paths = ["group", "cdev"] as const;
type KernelPath = typeof paths[number];

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
}

function read(path: string): string {
  return Deno.readTextFileSync(path).trim();
}

/** Addresses of the functions with this vendor and device id, as `1af4:1041`. */
function find(id: string): string[] {
  return names(PCI).filter((address) => {
    const found = `${read(`${PCI}/${address}/vendor`)}:${read(`${PCI}/${address}/device`)}`;
    return found.replaceAll("0x", "") === id;
  });
}

function driverOf(address: string): string | undefined {
  try {
    return Deno.readLinkSync(`${PCI}/${address}/driver`).split("/").at(-1);
  } catch {
    return undefined;
  }
}

function bindTo(address: string, driver: string | undefined): void {
  Deno.writeTextFileSync(`${PCI}/${address}/driver_override`, driver ?? "\n");
  if (driverOf(address) !== undefined) Deno.writeTextFileSync(`${PCI}/${address}/driver/unbind`, address);
  Deno.writeTextFileSync("/sys/bus/pci/drivers_probe", address);
  if (driver !== undefined) assertEquals(driverOf(address), driver);
}

/** Runs `body` with the function on vfio-pci, and puts its own driver back. */
function onVfio(address: string, body: () => void): void {
  try {
    bindTo(address, "vfio-pci");
    body();
  } finally {
    bindTo(address, undefined);
  }
}

function hasCdev(): boolean {
  if (!inGuest()) return false;
  return guestHasCdev() ?? names("/dev").includes("iommu");
}

/** A test a path, each checking that no descriptor and no mapping stays. */
function guestTest(name: string, body: (path: KernelPath) => void): void {
  for (const path of paths) {
    const why = !inGuest()
      ? " (skipped: needs the guest rig)"
      : " (skipped: the guest's kernel has no /dev/iommu)";
    const ignore = !inGuest() || (path === "cdev" && !hasCdev());
    Deno.test({
      name: `kernel VFIO by ${path}: ${name}${ignore ? why : ""}`,
      ignore,
      sanitizeOps: true,
      sanitizeResources: true,
      fn: () => {
        const before = { fds: openFdCount(), ...mappingCount() };
        body(path);
        assertEquals({ fds: openFdCount(), ...mappingCount() }, before, "something stayed open");
      },
    });
  }
}

function first(id: string): string {
  const [address] = find(id);
  if (address === undefined) throw new NotFoundError(`no function ${id} in this guest`);
  return address;
}

function withDevice(
  address: string,
  options: KernelOpenOptions,
  body: (device: VfioPciDevice) => void,
): void {
  onVfio(address, () => {
    using device = requirePciDevice(openKernelDevice(address, options), "hot reset");
    assertEquals(device.path, options.path);
    body(device);
  });
}

/** Waits for one signal. @returns the eventfd's count, 0 when none came. */
function waitFor(eventFd: EventFd, timeoutMs = WAIT_MS): number {
  using epoll = new Epoll();
  epoll.add(eventFd.fd, 1);
  epoll.waitBlocking(timeoutMs);
  return eventFd.take();
}

guestTest("info, regions and configuration space", (path) => {
  withDevice(first(EDU.id), { path }, (device) => {
    assertEquals(device.info.flags & DEVICE_FLAG.pci, DEVICE_FLAG.pci);
    assertGreater(device.info.numRegions, REGION.vga);
    assertEquals(device.regionInfo(REGION.bar0).sizeBytes, 1 << 20);
    assertEquals(device.regionInfo(REGION.bar0).mmapAreas, [{ offset: 0, sizeBytes: 1 << 20 }]);
    assertEquals(device.regionInfo(REGION.bar1).sizeBytes, 0);
    assertEquals(device.regionInfo(REGION.bar1).mmapAreas, []);
    assertEquals(device.regionInfo(REGION.vga).sizeBytes, 0);
    assertEquals(device.regionInfo(REGION.config).mmapAreas, []);
    const config = new ConfigAccess(device);
    assertEquals(config.read32(0), 0x11e8_1234);
    assertEquals(config.readAll().length, config.sizeBytes);
    assertEquals(new DataView(config.readAll().buffer).getUint32(0, true), 0x11e8_1234);
    assertThrows(() => device.mapRegion(REGION.config, { offset: 0, sizeBytes: 256 }), UsageError);
    assertThrows(() => device.regionInfo(device.info.numRegions), UsageError, "has no region");
    assertEquals(device.irqInfo(IRQ.msi).count, 1);
    assertEquals(device.irqInfo(IRQ.msix).count, 0);
  });
});

guestTest("BAR registers, mapped and through region accesses, agree", (path) => {
  withDevice(first(EDU.id), { path }, (device) => {
    using bar = new Bar(device, 0);
    assertEquals(bar.isMapped(0, 4), true);
    assertEquals(bar.read32(0), EDU.identification);
    // The card inverts what is written to its liveness register.
    bar.write32(4, 0x1234_5678);
    assertEquals(bar.read32(4), ~0x1234_5678 >>> 0);
    const word = new Uint8Array(4);
    device.readRegion(0, 4, word);
    assertEquals(new DataView(word.buffer).getUint32(0, true), ~0x1234_5678 >>> 0);
    bar.doorbell(4, 4).write(1);
    assertEquals(bar.read32(4), 0xffff_fffe);
    assertThrows(() => bar.read32(1 << 20), UsageError, "BAR 0 offset 1048576");
    assertThrows(() => bar.read32(2), UsageError);
  });
});

guestTest("a BAR is unmapped when memory decoding goes off, and mapped again when it is on", (path) => {
  withDevice(first(EDU.id), { path }, (device) => {
    const config = new ConfigAccess(device);
    using bar = new Bar(device, 0);
    const doorbell = bar.doorbell(4, 4);
    const view = new Uint32Array(device.mapRegion(0, { offset: 0, sizeBytes: pageSizeBytes }).buffer);
    assertEquals(view[0], EDU.identification);
    config.setCommand({ memory: false });
    assertEquals(view.length, 0);
    assertThrows(() => doorbell.write(1), ClosedError);
    assertThrows(() => bar.read32(0), UsageError, "memory decoding is off");
    config.setCommand({ memory: true });
    assertEquals(bar.read32(0), EDU.identification);
  });
});

guestTest("DMA memory is mapped within the IOMMU's ranges, reached by the device, and unmapped", (path) => {
  withDevice(first(EDU.id), { path }, (device) => {
    new ConfigAccess(device).setCommand({ memory: true, busMaster: true });
    using bar = new Bar(device, 0);
    using source = device.dma.allocate(4096, { label: "source", addressBits: 28, huge: "never" });
    using target = device.dma.allocate(4096, { label: "target", addressBits: 28, huge: "never" });
    assertEquals(device.dma.usage.allocations, 2);
    const sent = source.bytes();
    for (let i = 0; i < sent.length; i++) sent[i] = (i * 7 + 3) & 0xff;
    const DEVICE_BUFFER = 0x40000;
    eduDma(bar, source.iovaLo, DEVICE_BUFFER, 4096, 1);
    eduDma(bar, DEVICE_BUFFER, target.iovaLo, 4096, 3);
    assertEquals(target.bytes(), sent);
    source.close();
    assertEquals(device.dma.usage.allocations, 1);
    using huge = device.dma.allocate(2 << 20, { label: "2 MiB" });
    assertEquals(huge.iova % BigInt(2 << 20), 0n);
  });
});

/** Starts a copy of QEMU's edu device (docs/specs/edu.rst) and waits for its end. */
function eduDma(bar: Bar, source: number, destination: number, sizeBytes: number, command: number): void {
  bar.write32(0x80, source);
  bar.write32(0x88, destination);
  bar.write32(0x90, sizeBytes);
  bar.write32(0x98, command);
  // It starts a tenth of a second after it was told to.
  for (let i = 0; i < 500 && (bar.read32(0x98) & 1) !== 0; i++) sleepBlocking(10);
  assertEquals(bar.read32(0x98) & 1, 0, "the device's DMA did not end");
}

guestTest("MSI: raised by software and by the device", (path) => {
  withDevice(first(EDU.id), { path }, (device) => {
    new ConfigAccess(device).setCommand({ memory: true, busMaster: true });
    using bar = new Bar(device, 0);
    using interrupts = new InterruptSet(device);
    const eventFd = interrupts.enable("msi", 1)[0]!;
    assertEquals(eventFd.take(), 0);
    interrupts.fire(0);
    assertEquals(waitFor(eventFd), 1);
    bar.write32(0x60, 0x2a);
    assertEquals(waitFor(eventFd), 1);
    assertEquals(bar.read32(0x24), 0x2a);
    bar.write32(0x64, 0x2a);
    assertThrows(() => interrupts.mask(0), UnsupportedError, "only INTx is maskable");
    assertThrows(() => interrupts.fire(1), UsageError);
    interrupts.disable();
    assertEquals(interrupts.kind, null);
    assertEquals(eventFd.closed, true);
    assertThrows(() => interrupts.fire(0), UsageError);
  });
});

guestTest("MSI-X: every vector has its eventfd, vectors can be added and taken out", (path) => {
  const rng = find("1af4:1044").find((address) => names(`${PCI}/${address}`).includes("msi_irqs"));
  const net = first("1af4:1041");
  withDevice(rng ?? net, { path }, (device) => {
    const { count } = device.irqInfo(IRQ.msix);
    assertGreater(count, 1);
    using interrupts = new InterruptSet(device);
    const eventFds = interrupts.enable("msix", count);
    for (let vector = 0; vector < count; vector++) {
      interrupts.fire(vector);
      assertEquals(waitFor(eventFds[vector]!), 1);
      assertEquals(eventFds.map((one) => one.take()), eventFds.map(() => 0));
    }
    assertThrows(
      () => device.setIrqs({ index: IRQ.intx, action: "trigger", start: 0, eventFds: [eventFds[0]!] }),
      UsageError,
    );
    // One after the other: where the count is fixed while MSI-X is on, it is turned off and on again.
    device.setIrqs({ index: IRQ.msix, action: "disable" });
    device.setIrqs({ index: IRQ.msix, action: "trigger", start: 0, eventFds: [eventFds[0]!] });
    device.setIrqs({ index: IRQ.msix, action: "trigger", start: 1, eventFds: [eventFds[1]!] });
    device.setIrqs({ index: IRQ.msix, action: "fire", start: 0, count: 2 });
    assertEquals(waitFor(eventFds[0]!), 1);
    assertEquals(waitFor(eventFds[1]!), 1);
    device.setIrqs({ index: IRQ.msix, action: "trigger", start: 0, eventFds: [null] });
    device.setIrqs({ index: IRQ.msix, action: "fire", start: 0, count: 2 });
    assertEquals(waitFor(eventFds[1]!), 1);
    assertEquals(eventFds[0]!.take(), 0);
  });
});

guestTest("INTx: raised, masked, unmasked, and unmasked by an eventfd", (path) => {
  withDevice(first(EDU.id), { path }, (device) => {
    new ConfigAccess(device).setCommand({ memory: true, busMaster: true, intxDisable: false });
    assertEquals(device.irqInfo(IRQ.intx).count, 1);
    using bar = new Bar(device, 0);
    using interrupts = new InterruptSet(device);
    const eventFd = interrupts.enable("intx")[0]!;
    interrupts.fire();
    assertEquals(waitFor(eventFd), 1);
    // The device asserts its line: the kernel masks it, and nothing more comes before it is unmasked.
    bar.write32(0x60, 1);
    assertEquals(waitFor(eventFd), 1);
    assertEquals(waitFor(eventFd, 50), 0);
    interrupts.unmask();
    assertEquals(waitFor(eventFd), 1, "the line is still asserted, so unmasking raises it again");
    bar.write32(0x64, 1);
    interrupts.unmask();
    assertEquals(waitFor(eventFd, 50), 0);
    interrupts.mask();
    bar.write32(0x60, 1);
    assertEquals(waitFor(eventFd, 50), 0);
    interrupts.unmask();
    assertEquals(waitFor(eventFd), 1);
    bar.write32(0x64, 1);
  });
});

guestTest("reset, hot reset and its dependents", (path) => {
  const address = first(EDU.id);
  withDevice(address, { path }, (device) => {
    new ConfigAccess(device).setCommand({ memory: true, busMaster: true });
    using bar = new Bar(device, 0);
    bar.write32(4, 1);
    assertEquals(bar.read32(4), 0xffff_fffe);
    if ((device.info.flags & DEVICE_FLAG.reset) === 0) assertThrows(() => device.reset(), UnsupportedError);
    else device.reset();
    const info = device.hotResetInfo();
    assertEquals(info.dependents.map((one) => one.function), [address]);
    assertEquals(info.possible, true);
    const [dependent] = info.dependents;
    if (path === "group") assertEquals(typeof dependent?.group, "number");
    else assertEquals(typeof dependent?.deviceId, "number");
    device.hotReset();
    assertEquals(new ConfigAccess(device).read32(0), 0x11e8_1234);
  });
  // A function level reset, on a function that has one: the driver's status goes back to 0.
  const net = first("8086:10c9");
  withDevice(net, { path }, (device) => {
    assertEquals(device.info.flags & DEVICE_FLAG.reset, DEVICE_FLAG.reset);
    const config = new ConfigAccess(device);
    const before = config.read32(0);
    device.reset();
    assertEquals(config.read32(0), before);
  });
});

guestTest("features are probed", (path) => {
  withDevice(first(EDU.id), { path }, (device) => {
    assertEquals(device.probeFeature(DEVICE_FEATURE.lowPowerEntry), true);
    assertEquals(device.probeFeature(DEVICE_FEATURE.busMaster), false);
    assertEquals(device.probeFeature(0xfff), false);
    assertEquals(device.probeFeature(DEVICE_FEATURE.pciVfToken, "get"), false);
    assertThrows(() => device.probeFeature(0x10000), UsageError);
    assertThrows(() => device.setVfToken(TOKEN), UnsupportedError, "has no VF token");
  });
});

guestTest("a VF opens with its PF's token, and not without it or with another", (path) => {
  const pf = first("1af4:1041");
  onVfio(pf, () => {
    try {
      using owner = requirePciDevice(openKernelDevice(pf, { path, vfToken: TOKEN }), "VF token");
      assertEquals(owner.probeFeature(DEVICE_FEATURE.pciVfToken, "set"), true);
      Deno.writeTextFileSync(`${PCI}/${pf}/sriov_numvfs`, "1");
      const vf = Deno.readLinkSync(`${PCI}/${pf}/virtfn0`).split("/").at(-1)!;
      if (driverOf(vf) !== "vfio-pci") bindTo(vf, "vfio-pci");

      const missing = assertThrows(
        () => openKernelDevice(vf, { path }),
        RefusedError,
        "a VF token is needed",
      );
      assert(missing.message.includes(pf), missing.message);
      assert(missing.hint.includes("vfToken"), missing.hint);
      assertThrows(
        () => openKernelDevice(vf, { path, vfToken: OTHER_TOKEN }),
        RefusedError,
        "the VF token is not the one",
      );
      {
        using device = openKernelDevice(vf, { path, vfToken: TOKEN });
        assertEquals(device.name, vf);
        using bar = new Bar(device, bigBar(device));
        bar.read8(0);
        using memory = device.dma.allocate(4096);
        assertInstanceOf(memory.bytes(), Uint8Array);
      }
      owner.setVfToken(OTHER_TOKEN);
      assertThrows(() => openKernelDevice(vf, { path, vfToken: TOKEN }), RefusedError);
      openKernelDevice(vf, { path, vfToken: OTHER_TOKEN }).close();
    } finally {
      Deno.writeTextFileSync(`${PCI}/${pf}/sriov_numvfs`, "0");
    }
  });
});

function bigBar(device: VfioDevice): number {
  const sizes = [0, 1, 2, 3, 4, 5].map((index) => device.regionInfo(index).sizeBytes);
  return sizes.indexOf(Math.max(...sizes));
}

guestTest("a token is not sent to a function that has nothing to do with SR-IOV", (path) => {
  withDevice(first(EDU.id), { path, vfToken: TOKEN }, (device) => assertEquals(device.closed, false));
  onVfio(first(EDU.id), () => {
    const error = assertThrows(
      () => openKernelDevice(first(EDU.id), { path, vfToken: TOKEN, isSriov: true }),
      RefusedError,
      "takes no VF token",
    );
    assert(error.hint.includes("without a token"), error.hint);
  });
});

guestTest("after close every call is a ClosedError and every view is detached", (path) => {
  onVfio(first(EDU.id), () => {
    const device = requirePciDevice(openKernelDevice(first(EDU.id), { path }), "hot reset");
    const config = new ConfigAccess(device);
    const bar = new Bar(device, 0);
    const interrupts = new InterruptSet(device);
    const [eventFd] = interrupts.enable("msi");
    const doorbell = bar.doorbell(4, 4);
    const view = new Uint32Array(device.mapRegion(0, { offset: 0, sizeBytes: pageSizeBytes }).buffer);
    const memory = device.dma.allocate(4096);
    const bytes = memory.bytes();
    device.close();
    device.close();
    assertEquals(device.closed, true);
    assertEquals([view[0], bytes[0]], [undefined, undefined]);
    for (
      const call of [
        () => device.regionInfo(0),
        () => device.irqInfo(0),
        () => device.dma,
        () => device.reset(),
        () => device.hotResetInfo(),
        () => device.hotReset(),
        () => device.probeFeature(0),
        () => device.setVfToken(TOKEN),
        () => device.mapRegion(0, { offset: 0, sizeBytes: pageSizeBytes }),
        () => device.setIrqs({ index: IRQ.msi, action: "disable" }),
        () => device.doorbellFd(0, 0, 4),
        () => config.read32(0),
        () => config.write16(4, 0),
        () => bar.read32(0),
        () => bar.write32(4, 1),
        () => doorbell.write(1),
        () => memory.bytes(),
      ]
    ) assertThrows(call, ClosedError, undefined, call.toString());
    interrupts.disable();
    assertEquals(eventFd?.closed, true);
  });
});

guestTest("a function on its own driver, and one held by someone else, are not opened", (path) => {
  const address = first("8086:10c9");
  const error = assertThrows(() => openKernelDevice(address, { path }), UsageError, "is bound to igb");
  assert(error.hint.includes(`bind ${address}`), error.hint);
  withDevice(first(EDU.id), { path }, () => {
    assertThrows(() => openKernelDevice(first(EDU.id), { path: path === "group" ? "cdev" : "group" }));
  });
});

guestTest("a function without PASIDs has no other address spaces, says why, and goes on", (path) => {
  const address = first(EDU.id);
  withDevice(address, { path }, (device) => {
    const error = assertThrows(
      () => device.addressSpace!(1),
      UnsupportedError,
      `${address} has no address space `,
    );
    assert(error.message.includes(path === "group" ? "opened by its group" : "knows of no PASIDs"));
    device.dma.allocate(pageSizeBytes).close();
  });
});
