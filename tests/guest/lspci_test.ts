/** `show` beside `lspci -vvv` on the configuration of all functions that the guest has, bridges and VFs among them, as the kernel and VFIO use them. */
import { assert, assertGreater } from "@std/assert";
import { LinuxHost } from "../../lib/host/linux_host.ts";
import { ConfigSpace, PciAddress } from "../../lib/pci/mod.ts";
import { compareWithLspci, whyNoLspci } from "../peers/lspci_peer.ts";
import { dumpText } from "../unit/pci/dumps.ts";
import { functions, guestTest, ID, physicalFunction } from "./guest_host.ts";
import { inGuest } from "./rig/in_guest.ts";

const why = inGuest() ? whyNoLspci() : "";

guestTest("lspci: every function of the guest prints as lspci -vvv prints it", () => {
  using host = new LinuxHost();
  const all = (): string[] => host.list().filter((one) => one.bus === "pci").map((one) => one.address);
  try {
    host.setVfCount(physicalFunction(ID.net), 2);
    host.setVfCount(physicalFunction(ID.igb), 1);
    // Of each kind of function one is on vfio-pci, where the kernel has let go of its interrupts and of its memory.
    host.bind(["rng", "blk"].map((kind) => functions(ID[kind as "rng" | "blk"])[0]!));
    assertGreater(all().length, 30);
    compareWithLspci(
      all().sort().map((address) => {
        const config = new ConfigSpace(host.readConfig(address));
        assert(config.isPresent, address);
        return { name: address, dump: dumpText(config, PciAddress.parse(address)) };
      }),
    );
  } finally {
    host.restore();
  }
}, why === "" ? {} : { unless: why });
