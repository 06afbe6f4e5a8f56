/** `show` beside `lspci -vvv` of pciutils 3.9, on the same dumps: equal, after the differences that have a name. */
import { assert, assertEquals } from "@std/assert";
import { LinuxHost } from "../../lib/host/linux_host.ts";
import { ConfigSpace, parseDump, PciAddress } from "../../lib/pci/mod.ts";
import { addressOf, DUMPS, dumpText } from "../unit/pci/dumps.ts";
import { compareWithLspci, DIFFERENCES, type NamedDump, whyNoLspci } from "./lspci_peer.ts";

const why = whyNoLspci();

Deno.test({
  name: `lspci: ${DUMPS.length} dumps print as lspci -vvv prints them${
    why === "" ? "" : ` (skipped: ${why})`
  }`,
  ignore: why !== "",
  fn: () => {
    assert(DUMPS.length >= 30);
    const met = compareWithLspci(DUMPS.map(({ name, config }, index) => {
      const dump = dumpText(config, addressOf(index));
      const [read] = parseDump(new TextEncoder().encode(dump));
      assertEquals(read!.config.bytes, config.bytes, name);
      return { name, dump };
    }));
    assertEquals(
      DIFFERENCES.filter((one) => !met.has(one)).map((one) => one.what),
      [],
      "no dump shows these any more",
    );
  },
});

/** As much as this user may read of them. */
function machineDumps(): NamedDump[] {
  using host = new LinuxHost();
  const found = host.list().filter(({ bus }) => bus === "pci").map(({ address }) => address).sort();
  return found.map((address) => ({
    name: address,
    dump: dumpText(new ConfigSpace(host.readConfig(address)), PciAddress.parse(address)),
  }));
}

const machine = why === "" ? machineDumps() : [];
const lack = why !== "" ? why : machine.length === 0 ? "no PCI functions" : "";

Deno.test({
  name: `lspci: the functions of this machine print as lspci -vvv prints them${
    lack === "" ? "" : ` (skipped: ${lack})`
  }`,
  ignore: lack !== "",
  fn: () => void compareWithLspci(machine),
});
