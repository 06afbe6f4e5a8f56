import { assert, assertEquals, assertThrows } from "@std/assert";
import { DeviceError, UnsupportedError } from "../../../../lib/errors/mod.ts";
import { findVirtioLayout } from "../../../../lib/virtio/transport/pci_layout.ts";
import { PciModernTransport } from "../../../../lib/virtio/transport/pci_modern.ts";
import { changed, type FakeCapability, FakeFunction, USUAL } from "../fake_function.ts";

/** The layout of a function with these capabilities. */
function layoutOf(capabilities: readonly FakeCapability[], deviceId = 0x1044) {
  const device = new FakeFunction(capabilities, deviceId);
  return findVirtioLayout("f", device.config, (bar) => device.barBytes[bar] ?? 0);
}

Deno.test("2.1 structures are found with bar, offset, length and multiplier", () => {
  const layout = layoutOf([...USUAL, { type: 8, id: 5, bar: 2, offset: 0x800, length: 0x100 }]);
  assertEquals(layout, {
    deviceId: 4,
    common: { bar: 4, offset: 0, lengthBytes: 64 },
    isr: { bar: 4, offset: 0x1001, lengthBytes: 1 },
    device: { bar: 4, offset: 0x2000, lengthBytes: 32 },
    notify: { bar: 4, offset: 0x3000, lengthBytes: 0x1000 },
    notifyOffMultiplier: 4,
    sharedMemory: new Map([[5, { bar: 2, offset: 0x800, lengthBytes: 0x100 }]]),
  });
});

Deno.test("2 device ids: modern from the PCI device id, transitional from the subsystem id", () => {
  assertEquals(layoutOf(USUAL, 0x1041).deviceId, 1);
  assertEquals(layoutOf(USUAL, 0x106c).deviceId, 44);
  assertEquals(layoutOf(USUAL, 0x1005).deviceId, 4);
  assertThrows(() => layoutOf(USUAL, 0x1040), UnsupportedError);
  assertThrows(() => layoutOf(USUAL, 0x0fff), UnsupportedError);
  const other = new FakeFunction();
  other.config[0] = 0x86;
  assertThrows(() => PciModernTransport.open(other), UnsupportedError, "not a virtio function");
});

Deno.test("2.1 reserved types and BARs, and places outside their BAR, are passed over for the first usable instance", () => {
  const common = USUAL[0]!;
  const wrong: readonly Partial<FakeCapability>[] = [
    { bar: 6 },
    { bar: 7 },
    { bar: 1 }, // does not exist
    { bar: 2, offset: 0xfe0 }, // what lies inside the BAR is too short for the structure
    { bar: 2, offset: 0x1000 }, // begins at the end of the BAR
    { offset: 0xffff_fff0 }, // wraps in 32 bits
    { length: 55 }, // too short for the structure
    { offset: 0x102 }, // 32-bit registers would not be aligned
    { type: 6 },
    { type: 0 },
    { type: 200 },
  ];
  for (const one of wrong) {
    assertEquals(layoutOf([{ ...common, ...one }, ...USUAL]).common, {
      bar: 4,
      offset: 0,
      lengthBytes: 64,
    });
    const error = assertThrows(() => layoutOf([{ ...common, ...one }, ...USUAL.slice(1)]), DeviceError);
    assertEquals(error.location, { function: "f", field: "virtio_pci_cap" });
    assert(error.message.includes("common"));
  }
  // Two usable ones: the first.
  assertEquals(layoutOf([{ ...common, offset: 0x400 }, ...USUAL]).common.offset, 0x400);
});

Deno.test("2.1 longer capabilities and longer structures are fine; a missing config space too, other structures are needed", () => {
  const longer = changed(1, { length: 0x1000, capLength: 28 });
  assertEquals(layoutOf(longer).common.lengthBytes, 0x1000);
  assertEquals(layoutOf(changed(2, { capLength: 24 })).notifyOffMultiplier, 4);
  assertEquals(layoutOf(USUAL.filter((one) => one.type !== 4)).device, undefined);
  for (const type of [1, 2, 3]) {
    assertThrows(() => layoutOf(USUAL.filter((one) => one.type !== type)), DeviceError);
  }
  assertThrows(() => layoutOf(changed(2, { capLength: 16 })), DeviceError, "notify_off_multiplier");
  assertThrows(() => layoutOf([]), UnsupportedError, "legacy");
});

Deno.test("2.1 a structure that reaches beyond its BAR is used as far as the BAR goes", () => {
  for (const length of [0x4000, 0x8000, 0xffff_ffff]) {
    const layout = layoutOf(USUAL.map((one) => ({ ...one, length })));
    assertEquals(layout.common, { bar: 4, offset: 0, lengthBytes: 0x4000 });
    assertEquals(layout.isr, { bar: 4, offset: 0x1001, lengthBytes: 0x2fff });
    assertEquals(layout.device, { bar: 4, offset: 0x2000, lengthBytes: 0x2000 });
    assertEquals(layout.notify, { bar: 4, offset: 0x3000, lengthBytes: 0x1000 });
  }
  // With the end of the BAR the registers of bits 40 and 41 are cut off, whatever the capability says.
  assertEquals(layoutOf(changed(1, { bar: 2, offset: 0x1000 - 60 })).common.lengthBytes, 60);
  // The last byte counts: 56 bytes of common structure are enough, 52 are not.
  assertEquals(layoutOf(changed(1, { bar: 2, offset: 0x1000 - 56 })).common.lengthBytes, 56);
  assertThrows(() => layoutOf(changed(1, { bar: 2, offset: 0x1000 - 52 })), DeviceError, "56 bytes");
  assertEquals(layoutOf(changed(2, { bar: 2, offset: 0xffe })).notify.lengthBytes, 2);
  // 1.7: a shared memory region has the size that it says, or is not there.
  const beyond = { type: 8, id: 5, bar: 2, offset: 0x800, length: 0x1000 };
  assertEquals(layoutOf([...USUAL, beyond]).sharedMemory.size, 0);
});

Deno.test("2.1 a config space that cannot be used is an error, not a device without one", () => {
  for (const wrong of [{ bar: 1 }, { offset: 0x4000 }, { offset: 0x2002 }]) {
    const error = assertThrows(() => layoutOf(changed(4, wrong)), DeviceError, "no usable device structure");
    assertEquals(error.location, { function: "f", field: "virtio_pci_cap" });
    // The first usable one counts.
    assertEquals(layoutOf([...changed(4, wrong), USUAL[2]!]).device?.offset, 0x2000);
  }
  // A reserved BAR is to be ignored, and no bytes are no config space.
  for (const none of [{ bar: 6 }, { length: 0 }]) assertEquals(layoutOf(changed(4, none)).device, undefined);
});

Deno.test("2.2 notify_off_multiplier is 0 or a power of two from 2 on", () => {
  for (const multiplier of [0, 2, 4, 4096, 2 ** 31]) {
    assertEquals(layoutOf(changed(2, { multiplier })).notifyOffMultiplier, multiplier);
  }
  for (const multiplier of [1, 3, 6, 4097, 2 ** 32 - 1]) {
    const error = assertThrows(() => layoutOf(changed(2, { multiplier })), DeviceError);
    assertEquals(error.location.field, "notify_off_multiplier");
  }
});
