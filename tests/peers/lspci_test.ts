/** `show` beside `lspci -vvv` of pciutils 3.9, on the same dumps: equal, after the differences that have a name. */
import { assert, assertEquals } from "@std/assert";
import { parseDump } from "../../lib/pci/mod.ts";
import { addressOf, DUMPS, dumpText } from "../unit/pci/dumps.ts";
import { compareWithLspci, DIFFERENCES, whyNoLspci } from "./lspci_peer.ts";

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
