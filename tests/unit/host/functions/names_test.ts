import { assertEquals } from "@std/assert";
import { replaceFile } from "../../../../ffi/mod.ts";
import { PciIdsNames } from "../../../../lib/host/functions/names.ts";
import { TemporaryDirectory } from "../temporary.ts";

Deno.test("names: from the first file that is there, else built in, else the numbers", () => {
  using directory = new TemporaryDirectory();
  const path = `${directory.path}/pci.ids`;
  const text =
    "8086  Intel of the file\n\t10c9  NIC of the file\nC 02  Network\n\t00  Ethernet of the file\n";
  replaceFile(path, new TextEncoder().encode(text) as Uint8Array<ArrayBuffer>);
  const names = new PciIdsNames([`${directory.path}/none`, path]);
  assertEquals(names.namesOf(0x8086, 0x10c9, 0x020000), {
    vendorName: "Intel of the file",
    deviceName: "NIC of the file",
    className: "Ethernet of the file",
  });
  assertEquals(names.namesOf(0x8086, 0x10ca, 0x020000).deviceName, "82576 Virtual Function");
  assertEquals(names.namesOf(0xfffe, 0x1, 0xfe0000), {
    vendorName: "vendor fffe",
    deviceName: "device 0001",
    className: "class fe0000",
  });
  assertEquals(new PciIdsNames([]).namesOf(0x8086, 0x10c9, 0x020000).vendorName, "Intel Corporation");
});
