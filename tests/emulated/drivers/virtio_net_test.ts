import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { FrameBurst, VirtioNet, type VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import {
  ClosedError,
  DeviceError,
  TimeoutError,
  UnsupportedError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { campaign, rounds } from "../../random.ts";
import { testFrame } from "../../unit/virtio/model_net.ts";
import { TopologyHost } from "./topology_host.ts";

const PF = "0000:01:00.0";

/** A frame from one to another, padded with bytes that are known. */
function frame(to: Uint8Array, from: Uint8Array, length: number, serial: number): Uint8Array<ArrayBuffer> {
  const bytes = testFrame(length, serial);
  bytes.set(to);
  bytes.set(from, 6);
  bytes.set([0x88, 0xb5], 12);
  new DataView(bytes.buffer).setUint32(14, serial);
  return bytes;
}

/** Two VFs of one PF, opened; `use` is run with their drivers. The device side must have nothing to complain of. */
async function withVfs(
  options: VirtioNetOptions,
  use: (a: VirtioNet, b: VirtioNet, pf: TopologyHost) => Promise<void>,
  topology: Record<string, unknown> = {},
): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings];
  await using served = await TopologyHost.start([
    { address: PF, kind: "virtio-net", totalVfs: 2, switch: "s0", ...topology },
  ]);
  served.host.bind(PF);
  const [first, second] = served.host.setVfCount(PF, 2) as [string, string];
  {
    using one = served.reach(first);
    using two = served.reach(second);
    await using a = await VirtioNet.open(one.transport, options);
    await using b = await VirtioNet.open(two.transport, options);
    await use(a, b, served);
  }
  assertEquals(await served.stop(), []);
  assertEquals([openFdCount(), mappingCount().mappings], before);
}

/** Sends `count` frames both ways in bursts by polling; every byte is compared. */
async function exchange(a: VirtioNet, b: VirtioNet, count: number): Promise<void> {
  const burst = new FrameBurst(32);
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const [tx, rx] = [from.tx[0]!, to.rx[0]!];
    const expected = frame(to.mac, from.mac, 600, 0);
    let sent = 0;
    let received = 0;
    let idle = 0;
    while (received < count) {
      // Never more on the way than there are receive buffers: an embedded switch drops what it cannot deliver.
      while (sent < count && sent - received < 64) {
        const slot = tx.reserve();
        if (slot < 0) break;
        const length = 60 + sent % 541;
        const bytes = tx.frame(slot);
        bytes.set(expected.subarray(0, length));
        new DataView(bytes.buffer, bytes.byteOffset).setUint32(14, sent);
        tx.send(slot, length);
        sent++;
      }
      tx.flush();
      const n = rx.receiveBurst(burst);
      for (let i = 0; i < n; i++) {
        assertEquals(burst.first[i + 1]! - burst.first[i]!, 1);
        const [slot, offset, length] = [burst.slots[i]!, burst.offsets[i]!, burst.lengths[i]!];
        const bytes = rx.views[slot]!.subarray(offset, offset + length);
        if (length !== 60 + received % 541) throw new Error(`frame ${received} has ${length} bytes`);
        if (new DataView(bytes.buffer, bytes.byteOffset).getUint32(14) !== received) {
          throw new Error(`frame ${received} is out of order`);
        }
        for (let at = 0; at < length; at++) {
          if ((at < 14 || at >= 18) && bytes[at] !== expected[at]) {
            throw new Error(`frame ${received}, byte ${at}`);
          }
        }
        received++;
      }
      rx.recycle(burst);
      idle = n === 0 ? idle + 1 : 0;
      if (idle > 100) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (idle > 10_000) throw new Error(`${received} of ${sent} frames arrived`);
      }
    }
  }
}

Deno.test("VF to VF by polling: 4,000 frames each way, every byte compared, no violation seen by the devices", async () => {
  await withVfs({ interrupts: "none" }, async (a, b) => {
    assertEquals([a.interruptKind, b.interruptKind], ["none", "none"]);
    assert(a.macText !== b.macText);
    await exchange(a, b, 4000);
    assertEquals(a.statistics().received.frames, 4000);
    assertEquals(b.statistics().received.frames, 4000);
    assertEquals(a.statistics().interrupts, 0);
  });
});

Deno.test("rings at their simplest: no event index, no indirect tables, no mergeable buffers, wrapping 16 descriptors", async () => {
  const options = { interrupts: "none", eventIndex: false, indirect: false, mergeable: false } as const;
  await withVfs(options, async (a, b) => {
    assertEquals(a.featureNames.filter((name) => /EVENT_IDX|INDIRECT|MRG/.test(name)), []);
    await exchange(a, b, 500);
  });
});

Deno.test("VF to VF by MSI-X: every frame is waited for asleep", async () => {
  await withVfs({ interrupts: "msix", wait: "eventfd" }, async (a, b) => {
    for (let serial = 0; serial < 200; serial++) {
      const bytes = frame(b.mac, a.mac, 60 + serial, serial);
      const received = b.receive(10_000);
      assertEquals(a.send(bytes), true);
      assertEquals(await received, bytes);
    }
    assert(b.statistics().interrupts >= 100, `${b.statistics().interrupts} interrupts`);
    assertEquals(b.waitReceiveBlocking(5), false);
  });
});

Deno.test("INTx: shared by queues and config, acknowledged through the ISR", async () => {
  await using served = await TopologyHost.start([
    { address: "0000:01:00.0", kind: "virtio-net", totalVfs: 0, switch: "s0" },
    { address: "0000:02:00.0", kind: "virtio-net", totalVfs: 0, switch: "s0" },
  ]);
  {
    using one = served.reach("0000:01:00.0");
    using two = served.reach("0000:02:00.0");
    if (one.transport.interruptCount("intx") === 0) return; // A VF has none; a PF may lack it.
    const options = { interrupts: "intx", wait: "eventfd" } as const;
    await using a = await VirtioNet.open(one.transport, options);
    await using b = await VirtioNet.open(two.transport, options);
    for (let serial = 0; serial < 50; serial++) {
      const bytes = frame(a.mac, b.mac, 100, serial);
      const received = a.receive(10_000);
      b.send(bytes);
      assertEquals(await received, bytes);
    }
    assert(a.statistics().interrupts > 0);
    await a.setPromiscuous(true);
  }
  assertEquals(await served.stop(), []);
});

Deno.test("MRG_RXBUF: frames of 1514 bytes over buffers of 256", async () => {
  await withVfs({ bufferBytes: 256, queueSize: 64 }, async (a, b) => {
    for (let serial = 0; serial < 50; serial++) {
      const bytes = frame(b.mac, a.mac, 1514 - serial, serial);
      a.send(bytes);
      assertEquals(await b.receive(10_000), bytes);
    }
  });
});

Deno.test("a large MTU: frames of 9014 bytes, whole or in parts", async () => {
  for (const mergeable of [true, false]) {
    await withVfs({ mergeable }, async (a, b) => {
      assertEquals(a.mtu, 9000);
      const bytes = frame(b.mac, a.mac, 9014, 1);
      a.send(bytes);
      assertEquals(await b.receive(10_000), bytes);
      assertThrows(() => a.send(new Uint8Array(9015)), UsageError);
    }, { mtu: 9000 });
  }
});

Deno.test("NOTIFICATION_DATA: 32-bit doorbells with the available index", async () => {
  await withVfs({}, async (a, b) => {
    assert(a.featureNames.includes("VIRTIO_F_NOTIFICATION_DATA"));
    await exchange(a, b, 1000);
  }, { featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"] });
});

Deno.test("control queue: promiscuous mode, the MAC table and the own address decide what is received", async () => {
  await withVfs({}, async (a, b) => {
    const strange = Uint8Array.of(2, 0x99, 0, 0, 0, 1);
    const group = Uint8Array.of(1, 0, 0x5e, 0, 0, 7);
    const arrives = async (to: Uint8Array) => {
      a.send(frame(to, a.mac, 80, 1));
      // What follows is always for b: it tells that the frame before was not.
      a.send(frame(b.mac, a.mac, 90, 2));
      const first = await b.receive(10_000);
      if (first?.length === 80) await b.receive(10_000);
      return first?.length === 80;
    };
    // What a device does with unfiltered frames before the first filter command is its own; set it.
    await b.setPromiscuous(false);
    await b.setAllMulticast(false);
    await b.setMacTable([], []);
    assertEquals(await arrives(strange), false);
    await b.setPromiscuous(true);
    assertEquals(await arrives(strange), true);
    await b.setPromiscuous(false);
    await b.setMacTable([strange], [group]);
    assertEquals([await arrives(strange), await arrives(group)], [true, true]);
    await b.setMacTable([]);
    assertEquals([await arrives(strange), await arrives(group)], [false, false]);
    await b.setAllMulticast(true);
    assertEquals(await arrives(group), true);
    await b.setMac(strange);
    assertEquals(b.mac, strange);
    assertEquals(await arrives(strange), true);
  });
});

Deno.test("queue pairs: several, switched on by command; more than there are is refused before anything happens", async () => {
  await withVfs({ queuePairs: 2, interrupts: "msix" }, async (a, b) => {
    assertEquals([a.rx.length, a.tx.length], [2, 2]);
    for (let serial = 0; serial < 40; serial++) {
      const pair = serial % 2;
      const tx = a.tx[pair]!;
      const slot = tx.reserve();
      const bytes = frame(b.mac, a.mac, 200, serial);
      tx.frame(slot).set(bytes);
      tx.send(slot, bytes.length);
      tx.flush();
      assertEquals(await b.receive(10_000), bytes);
    }
    await b.setQueuePairs(1);
    a.send(frame(b.mac, a.mac, 60, 3));
    assertEquals((await b.receive(10_000))?.length, 60);
    a.close();
    await assertRejects(() => VirtioNet.open(a.transport, { queuePairs: 65 }), UnsupportedError);
  }, { queuePairs: 2 });
});

Deno.test("without a control queue: commands are UnsupportedErrors, frames go", async () => {
  await withVfs({}, async (a, b) => {
    await assertRejects(() => a.setPromiscuous(true), UnsupportedError);
    await exchange(a, b, 200);
  }, { featuresOff: ["VIRTIO_NET_F_CTRL_VQ"] });
});

/** Two functions on one switch, the first of which lies. */
async function withLiar(lie: string, use: (served: TopologyHost) => Promise<void>): Promise<void> {
  const before = [openFdCount(), mappingCount().mappings];
  await using served = await TopologyHost.start([
    { address: "0000:01:00.0", kind: "virtio-net", totalVfs: 0, switch: "s0", lie },
    { address: "0000:02:00.0", kind: "virtio-net", totalVfs: 0, switch: "s0" },
  ]);
  await use(served);
  await served.stop();
  assertEquals([openFdCount(), mappingCount().mappings], before);
}

for (
  const [lie, field] of [
    ["used-id-out-of-range", "used.id"],
    ["used-length-over", "used.len"],
    ["used-twice", "used.id"],
    ["used-index-jump", "used.idx"],
    ["used-index-back", "used.idx"],
  ] as const
) {
  Deno.test(`lie ${lie}: a DeviceError that names queue and field; after reset the driver goes on`, async () => {
    await withLiar(`${lie}:20`, async (served) => {
      using liar = served.reach("0000:01:00.0");
      using honest = served.reach("0000:02:00.0");
      // Only a split ring has an index to lie with.
      await using a = await VirtioNet.open(liar.transport, { packed: field !== "used.idx" });
      await using b = await VirtioNet.open(honest.transport);
      let caught: unknown;
      for (let serial = 0; serial < 60 && caught === undefined; serial++) {
        b.send(frame(a.mac, b.mac, 100, serial));
        try {
          await a.receive(1000);
        } catch (error) {
          caught = error;
        }
      }
      if (!(caught instanceof DeviceError)) throw new Error(`caught ${caught}`);
      assertEquals(caught.location, { function: "0000:01:00.0", queue: 0, field });
      await a.reset();
      for (let serial = 0; serial < 100; serial++) {
        const bytes = frame(a.mac, b.mac, 100, serial);
        b.send(bytes);
        assertEquals(await a.receive(10_000), bytes);
      }
      assertEquals(a.statistics().resets, 1);
    });
  });
}

for (
  const [lie, type, text] of [
    ["generation-never-settles", DeviceError, "config_generation"],
    ["features-ok-refused", DeviceError, "FEATURES_OK"],
    ["queue-size-zero", UnsupportedError, "has no queue 0"],
    ["queue-size-odd", DeviceError, "queue_size"],
    ["queue-enable-ignored", DeviceError, "queue_enable"],
    ["vector-refused", DeviceError, "config_msix_vector"],
    ["doorbell-past-structure", DeviceError, "queue_notify_off"],
    ["version-1-missing", UnsupportedError, "VIRTIO_F_VERSION_1"],
  ] as const
) {
  Deno.test(`lie ${lie}: open fails with ${type.name} and leaves nothing behind`, async () => {
    await withLiar(lie, async (served) => {
      using liar = served.reach("0000:01:00.0");
      // An odd size is one only of a split ring.
      const options = { packed: lie !== "queue-size-odd" };
      const error = await assertRejects(() => VirtioNet.open(liar.transport, options), type, text);
      assert(error.message.includes("0000:01:00.0"), error.message);
      assertEquals(liar.device.dma.usage.labels, []);
      if (lie === "vector-refused") {
        await using net = await VirtioNet.open(liar.transport, { interrupts: "none" });
        assertEquals(net.interruptKind, "none");
      }
    });
  });
}

Deno.test("lie doorbell-out-of-bar: the transport does not open", async () => {
  await withLiar("doorbell-out-of-bar", (served) => {
    const error = assertThrows(() => served.reach("0000:01:00.0"), DeviceError, "notify");
    assert(error.message.includes("outside BAR"), error.message);
    return Promise.resolve();
  });
});

Deno.test("lie reset-never-finishes: TimeoutError, and a later reset goes on", async () => {
  await withLiar("reset-never-finishes:3", async (served) => {
    using liar = served.reach("0000:01:00.0");
    using honest = served.reach("0000:02:00.0");
    await using b = await VirtioNet.open(honest.transport);
    const options = { resetTimeoutMs: 100 };
    // Which reset is the lying one is the device's business: one of the first few.
    let timeouts = 0;
    let a: VirtioNet | undefined;
    for (let attempt = 0; attempt < 10 && timeouts === 0; attempt++) {
      try {
        a ??= await VirtioNet.open(liar.transport, options);
        await a.reset();
      } catch (error) {
        if (!(error instanceof TimeoutError)) throw error;
        assert(error.message.includes("0000:01:00.0"));
        timeouts++;
      }
    }
    assertEquals(timeouts, 1);
    if (a === undefined) a = await VirtioNet.open(liar.transport, options);
    else await a.reset();
    await using net = a;
    b.send(frame(net.mac, b.mac, 100, 1));
    assertEquals((await net.receive(10_000))?.length, 100);
  });
});

Deno.test("after close of driver, transport or function: errors from every call, dead views, no crash", async () => {
  for (const what of ["net", "transport", "device", "host"] as const) {
    await using served = await TopologyHost.start([
      { address: "0000:01:00.0", kind: "virtio-net", totalVfs: 0, switch: "s0" },
    ]);
    using reached = served.reach("0000:01:00.0");
    const net = await VirtioNet.open(reached.transport);
    const { rx: [rx], tx: [tx] } = net;
    const slot = tx!.reserve();
    const view = tx!.frame(slot);
    const wait = net.receive(60_000);
    wait.catch(() => {});
    if (what === "net") net.close();
    else if (what === "transport") reached.transport.close();
    else if (what === "device") reached.device.close();
    else await served.stop();
    if (what === "host") {
      // The other process is gone, the memory is still ours: what needs an answer fails, the rest only finds nothing.
      await assertRejects(() => net.reset());
      await assertRejects(() => net.setPromiscuous(true));
    } else {
      if (what !== "transport") assertEquals(view.length, 0);
      for (
        const call of [
          () => net.send(testFrame(60)),
          () => net.receiveBurst(new FrameBurst(1)),
          () => net.waitReceiveBlocking(1),
          () => net.service(),
          () => net.rx,
        ]
      ) assertThrows(call, ClosedError);
      await assertRejects(() => net.receive(10), ClosedError);
      await assertRejects(() => net.reset(), ClosedError);
      if (what !== "transport") {
        assertThrows(() => rx!.receiveBurst(new FrameBurst(1)), ClosedError);
        assertThrows(() => tx!.send(slot, 60), ClosedError);
        assertThrows(() => tx!.reserve(), ClosedError);
      }
    }
    net.close();
    await wait.then(() => {}, () => {});
    await net.settled;
    assertEquals(view.length, 0);
    assertEquals(view[0], undefined);
  }
});

const CYCLES = rounds(1000);
Deno.test(campaign(`${CYCLES} open and close cycles leak no descriptor, no mapping, no IOVA`, async () => {
  await using served = await TopologyHost.start([
    { address: "0000:01:00.0", kind: "virtio-net", totalVfs: 0, switch: "s0" },
  ]);
  const cycle = async () => {
    using reached = served.reach("0000:01:00.0");
    {
      await using net = await VirtioNet.open(reached.transport);
      net.send(testFrame(60));
    }
    assertEquals(reached.device.dma.usage.allocations, 0);
  };
  await cycle();
  const before = [openFdCount(), mappingCount().mappings, mappingCount().bytes];
  for (let i = 0; i < CYCLES; i++) await cycle();
  assertEquals([openFdCount(), mappingCount().mappings, mappingCount().bytes], before);
}));
