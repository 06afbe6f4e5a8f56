import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../../lib/errors/mod.ts";
import { busOf, isAddress, parseAddress, PCI, PLATFORM, sysfsDirectory } from "../../../lib/vfio/bus.ts";

Deno.test("bus: a name says on which bus a function is, and where sysfs has it", () => {
  for (
    const [text, address, bus] of [
      ["0000:01:00.0", "0000:01:00.0", PCI],
      ["01:00.0", "0000:01:00.0", PCI],
      ["10000:E1:1f.7", "10000:e1:1f.7", PCI],
      ["a003e00.virtio_mmio", "a003e00.virtio_mmio", PLATFORM],
      ["4010000000.pcie", "4010000000.pcie", PLATFORM],
      ["LNRO0005:1f", "LNRO0005:1f", PLATFORM],
      ["PNP0C0C:00", "PNP0C0C:00", PLATFORM],
      ["80860F14:00", "80860F14:00", PLATFORM],
      ["ARMHC600:100", "ARMHC600:100", PLATFORM],
      ["fd000000.clock,a+b-c", "fd000000.clock,a+b-c", PLATFORM],
      ["virtio-mmio.12", "virtio-mmio.12", PLATFORM],
    ] as const
  ) {
    assertEquals(parseAddress(text), address);
    assertEquals([isAddress(address), isAddress(text)], [true, text === address]);
    assertEquals(busOf(address), bus);
    assertEquals(sysfsDirectory(address), `${bus.devices}/${address}`);
  }
});

Deno.test("bus: what is no name of a function is a UsageError", () => {
  for (
    const text of [
      "",
      "..",
      "01:20.0",
      "0000:01:00",
      "a/b.c",
      "a003e00.",
      ".virtio_mmio",
      // Past what an address is.
      "10000000000000000.virtio_mmio",
      "eth0",
      "x\n01:00.0",
      // What the kernel makes for itself, or firmware without a place: no function.
      "serial8250",
      "pcspkr",
      "coretemp.0",
      "virtio-mmio",
      "virtio-mmio.",
      "virtio-mmio-cmdline",
      "virtio_mmio.0",
      "alarmtimer.0.auto",
      "Fixed MDIO bus.0",
      "psci",
      "ACPI0003:0",
    ]
  ) {
    assertThrows(() => parseAddress(text), UsageError, "is not a PCI address");
    assertEquals(isAddress(text), false);
  }
});
