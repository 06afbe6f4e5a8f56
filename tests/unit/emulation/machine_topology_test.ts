import { assert, assertEquals, assertThrows } from "@std/assert";
import { defaultTopology, parseTopology, readTopology, TopologyError } from "../../../lib/emulation/mod.ts";
import { vfAddress } from "../../../lib/emulation/topology.ts";
import { vfMac } from "../../../lib/emulation/virtio/net/mac_address.ts";
import { NET_KIND } from "../../../lib/emulation/virtio/net/kind.ts";
import { RNG_KIND } from "../../../lib/emulation/virtio/rng/kind.ts";

const net = { address: "0000:01:00.0", kind: "virtio-net" };

Deno.test("a topology that cannot be names the field", () => {
  const cases: [unknown, string][] = [
    [3, "top level"],
    [{}, "functions"],
    [{ functions: [] }, "functions"],
    [{ functions: [net], extra: 1 }, "extra"],
    [{ functions: [net, 7] }, "functions[1]"],
    [{ functions: [{ ...net, speed: 9 }] }, "functions[0].speed"],
    [{ functions: [{ kind: "virtio-net" }] }, "functions[0].address"],
    [{ functions: [{ ...net, address: "01:20.0" }] }, "functions[0].address"],
    [{ functions: [{ ...net, kind: "virtio-tea" }] }, "functions[0].kind"],
    [{ functions: [{ ...net, totalVfs: 65536 }] }, "functions[0].totalVfs"],
    [{ functions: [{ ...net, totalVfs: 1.5 }] }, "functions[0].totalVfs"],
    [{ functions: [{ ...net, mac: "52:54:00" }] }, "functions[0].mac"],
    [{ functions: [{ ...net, mac: "01:00:5e:00:00:01" }] }, "functions[0].mac"],
    [{ functions: [{ ...net, mtu: 67 }] }, "functions[0].mtu"],
    [{ functions: [{ ...net, queueSize: 0 }] }, "functions[0].queueSize"],
    [{ functions: [{ ...net, queueSize: 32769 }] }, "functions[0].queueSize"],
    [{ functions: [{ ...net, profile: "mmio-v3" }] }, "functions[0].profile"],
    [{ functions: [{ ...net, quirks: ["any"] }] }, "functions[0].quirks[0]"],
    [{ functions: [{ ...net, usedBatches: 1 }] }, "functions[0].usedBatches"],
    [{ functions: [{ ...net, switch: "a b" }] }, "functions[0].switch"],
    [{ functions: [{ ...net, driver: "e1000" }] }, "functions[0].driver"],
    [{ functions: [{ ...net, featuresOff: ["mrg"] }] }, "functions[0].featuresOff[0]"],
    [{ functions: [{ ...net, hostUse: ["two\nlines"] }] }, "functions[0].hostUse[0]"],
    [
      { functions: [{ address: "02:00.0", kind: "virtio-rng", mac: "52:54:00:00:00:01" }] },
      "functions[0].mac",
    ],
    [{ functions: [net, { ...net, totalVfs: 0 }] }, "functions[1].address"],
    [{ functions: [net, { address: "01:00.3", kind: "virtio-rng" }] }, "functions[0].totalVfs"],
    [{ functions: [{ ...net, address: "ff:1f.6" }] }, "functions[0].totalVfs"],
  ];
  for (const [value, field] of cases) {
    const error = assertThrows(() => readTopology(value, [NET_KIND, RNG_KIND]), TopologyError);
    assertEquals(error.field, field, error.message);
    assert(error.message.includes(field));
  }
  assertEquals(assertThrows(() => parseTopology("{"), TopologyError).field, "text");
});

Deno.test("defaults: four VFs on a network PF, none elsewhere, a MAC address of its own", () => {
  const [pf, rng, management, platform] = defaultTopology().functions;
  assertEquals([platform!.kind, platform!.driver, platform!.mmio], [
    "virtio-rng",
    "virtio-mmio",
    { form: "modern" },
  ]);
  assertEquals([management!.kind, management!.switch, management!.totalVfs], ["virtio-management", "s0", 0]);
  assertEquals([pf!.totalVfs, pf!.firstVfOffset, pf!.vfStride, pf!.driver], [4, 1, 1, "virtio-pci"]);
  assertEquals(pf!.switch, "s0");
  assertEquals([rng!.totalVfs, rng!.mac, rng!.switch], [0, undefined, undefined]);
  const two = readTopology({
    functions: [{ ...net, totalVfs: 0 }, { ...net, address: "02:00.0", totalVfs: 0 }],
  });
  assert(two.functions[0]!.mac !== two.functions[1]!.mac);
});

Deno.test("functions are sorted by address, and driver null means none", () => {
  const { functions } = readTopology({
    functions: [{ ...net, address: "03:00.0", driver: null }, { ...net, address: "2:01:00.0".slice(2) }],
  });
  assertEquals(functions.map((one) => one.address), ["0000:01:00.0", "0000:03:00.0"]);
  assertEquals(functions[1]!.driver, null);
});

Deno.test("VF addresses follow First VF Offset and VF Stride over device numbers, MAC addresses count on", () => {
  const pf = readTopology({ functions: [{ ...net, totalVfs: 3, firstVfOffset: 6, vfStride: 2 }] })
    .functions[0]!;
  assertEquals([0, 1, 2].map((index) => vfAddress(pf, index)), [
    "0000:01:00.6",
    "0000:01:01.0",
    "0000:01:01.2",
  ]);
  assertEquals(vfMac("52:54:00:00:00:ff", 0), "52:54:00:00:01:00");
});
