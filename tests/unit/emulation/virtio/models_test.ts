import { assert, assertEquals, assertThrows } from "@std/assert";
import { NotFoundError, UsageError } from "../../../../lib/errors/mod.ts";
import { createVirtioModels } from "../../../../lib/emulation/virtio/models.ts";
import { NET_KIND } from "../../../../lib/emulation/virtio/net/kind.ts";
import { NetModel } from "../../../../lib/emulation/virtio/net/model.ts";
import { NetSwitch } from "../../../../lib/emulation/virtio/net/switch.ts";
import { PciView } from "../../../../lib/emulation/virtio/views/pci/view.ts";
import { LyingPciView } from "../../../../lib/emulation/virtio/lies/registers.ts";
import { FEATURE, NET_FEATURE } from "../../../../lib/virtio/spec/mod.ts";
import { FakeFunction } from "./fake_machine.ts";
import { mac } from "./fake_nic.ts";

Deno.test("kinds, and what cannot be made", () => {
  const models = createVirtioModels();
  assertEquals(models.kinds.map(({ name }) => name), [
    "virtio-net",
    "virtio-rng",
    "virtio-blk",
    "virtio-console",
    "virtio-ism",
    "virtio-management",
  ]);
  const address = "0000:01:00.0";
  assertThrows(() => models.createBehaviour("virtio-toaster", { address }), UsageError, "virtio-toaster");
  assertThrows(() => models.createBehaviour("virtio-net", { address }), UsageError, "needs a MAC address");
  assertThrows(
    () => models.createBehaviour("virtio-net", { address, mac: mac(1), featuresOff: ["VIRTIO_NET_F_TOAST"] }),
    UsageError,
    "has no feature VIRTIO_NET_F_TOAST",
  );
  assertThrows(
    () => models.createBehaviour("virtio-rng", { address, featuresOn: ["VIRTIO_F_RING_PACKED"] }),
    UsageError,
    "only VIRTIO_F_NOTIFICATION_DATA",
  );
  assertThrows(
    () => models.createBehaviour("virtio-rng", { address, lie: "all-is-well" }),
    UsageError,
    "all-is-well",
  );
});

Deno.test("features by name; SR_IOV for a PF with VFs only", () => {
  const models = createVirtioModels();
  const offered = (options: object) => {
    using fn = new FakeFunction(
      models.createBehaviour("virtio-net", { address: "0000:01:00.0", mac: mac(1), ...options }),
    );
    return fn.offered;
  };
  assertEquals(offered({}) & FEATURE.SR_IOV, 0n);
  assertEquals(offered({ totalVfs: 4 }) & FEATURE.SR_IOV, FEATURE.SR_IOV);
  assertEquals(offered({ totalVfs: 4, vfIndex: 0 }) & FEATURE.SR_IOV, 0n);
  const off = offered({ featuresOff: ["VIRTIO_NET_F_MQ", "VIRTIO_F_EVENT_IDX"] });
  assertEquals(off & (NET_FEATURE.MQ | FEATURE.EVENT_IDX), 0n);
  assertEquals(off & FEATURE.INDIRECT_DESC, FEATURE.INDIRECT_DESC);
  const on = offered({ featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"] });
  assertEquals(on & FEATURE.NOTIFICATION_DATA, FEATURE.NOTIFICATION_DATA);
});

Deno.test("functions join the switch of their name when they connect and leave it when they close", () => {
  const models = createVirtioModels();
  const net = models.of(NET_KIND);
  const make = (n: number, switchName?: string) =>
    models.createBehaviour("virtio-net", {
      address: `0000:01:00.${n}`,
      mac: mac(n),
      ...(switchName === undefined ? {} : { switch: switchName }),
    });
  const second = make(2), first = make(1), apart = make(3, "s1");
  assertEquals(net.reports.switch(), [], "nothing shared before connect");
  using b = new FakeFunction(second, "0000:01:00.2");
  using _a = new FakeFunction(first, "0000:01:00.1");
  using _c = new FakeFunction(apart, "0000:01:00.3");
  assertEquals(net.reports.switch().map((one) => [one.switch, one.function, one.mac]), [
    ["s0", "0000:01:00.1", mac(1)],
    ["s0", "0000:01:00.2", mac(2)],
    ["s1", "0000:01:00.3", mac(3)],
  ]);
  net.setLink("0000:01:00.2", false);
  assertEquals(b.read(0x2006, 2), 0);
  assertEquals(net.portStats("0000:01:00.2").framesIn, 0);
  assertThrows(() => net.setLink("0000:09:00.0", true), NotFoundError, "0000:09:00.0");
  b.behaviour.close();
  b.behaviour.close();
  assertEquals(net.reports.switch().length, 2);
});

Deno.test("a behaviour that was never connected owns nothing and can be closed", () => {
  const models = createVirtioModels();
  for (const { name: kind } of models.kinds) {
    for (const lie of [undefined, "used-twice", "queue-size-zero"]) {
      const one = models.createBehaviour(kind, {
        address: "0000:01:00.0",
        mac: mac(1),
        sizeBytes: 512,
        ...(lie ? { lie } : {}),
      });
      assertEquals(one instanceof LyingPciView, lie === "queue-size-zero");
      assertEquals(one.doorbells(4).length, 0);
      assert(one.bars.every((bar) => Number.isInteger(Math.log2(bar.sizeBytes))));
      one.close();
    }
  }
});

Deno.test("netInterface says what sysfs shows", () => {
  const models = createVirtioModels();
  const net = models.createBehaviour("virtio-net", { address: "0000:01:00.0", mac: mac(4), mtu: 9000 });
  assertEquals(net.netInterface, { mac: mac(4), mtu: 9000 });
  assertEquals(models.createBehaviour("virtio-rng", { address: "0000:01:00.0" }).netInterface, undefined);
});

Deno.test("many queue pairs: doorbells, vectors and MSI-X table still fit their BARs", () => {
  const net = new NetSwitch("s0");
  for (const queuePairs of [1, 64, 200, 512]) {
    const one = new PciView(new NetModel(net, { mac: mac(1), queuePairs, queueSize: 2 }));
    const queues = 2 * queuePairs + 1;
    const bar = (index: number) => one.bars.find((bar) => bar.index === index)!.sizeBytes;
    assertEquals(one.msix!.vectors, queues + 1);
    assert(bar(4) >= 0x3000 + 4 * queues);
    assert(one.msix!.pendingBits.offset >= 16 * (queues + 1));
    assert(bar(1) >= one.msix!.pendingBits.offset + 8 * Math.ceil((queues + 1) / 64));
  }
});
