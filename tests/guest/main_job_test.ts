/** What the main job of the demo is made of, and more, on QEMU's own functions behind kernel VFIO. */
import { assert, assertEquals, assertGreater, assertRejects, assertThrows } from "@std/assert";
import { VirtioNet } from "../../drivers/net/virtio_net.ts";
import { TestFrames } from "../../drivers/net/virtio/test_frames.ts";
import { RefusedError, TimeoutError, UnsupportedError } from "../../lib/errors/mod.ts";
import type { LinuxHost } from "../../lib/host/linux_host.ts";
import { InterruptSet, IRQ } from "../../lib/vfio/mod.ts";
import { FEATURE } from "../../lib/virtio/spec/mod.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { anyPathTest, functions, ID, type KernelPath, pathTest, physicalFunction } from "./guest_host.ts";
import { bothWays, drive } from "./net_pair.ts";

const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
/** The PF and two VFs on vfio-pci, all open. Closed with the stack; the caller restores the host. */
function openVfs(host: LinuxHost, path: KernelPath, stack: AsyncDisposableStack) {
  const pf = physicalFunction(ID.net);
  host.bind(pf);
  const options = { path, vfToken: TOKEN };
  const owner = stack.use(host.open(pf, options));
  const vfs = host.setVfCount(pf, 2);
  for (const vf of vfs) host.bind(vf);
  const devices = vfs.map((vf) => stack.use(host.open(vf, options)));
  const transports = devices.map((device) => stack.use(PciModernTransport.open(device)));
  return { owner, devices, transports };
}

pathTest("a VF is refused without its PF's token, and the error says so", async (host, path) => {
  const pf = physicalFunction(ID.net);
  host.bind(pf);
  using _owner = host.open(pf, { path, vfToken: TOKEN });
  const [vf = ""] = host.setVfCount(pf, 1);
  host.bind(vf);
  const without = assertThrows(() => host.open(vf, { path }), RefusedError, "VF token is needed");
  assert(without.message.includes(vf) && without.message.includes(pf), without.message);
  assert(without.hint.includes("vfToken"), without.hint);
  const other = { path, vfToken: "3f2504e0-4f89-41d3-9a0c-0305e82c3301" };
  assertThrows(() => host.open(vf, other), RefusedError, "the VF token is not the one");
  using device = host.open(vf, { path, vfToken: TOKEN });
  using transport = PciModernTransport.open(device);
  await using net = await VirtioNet.open(transport);
  assertEquals(net.interruptKind, "msix");
});

pathTest("frames both ways, a function reset in between, and again", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { devices, transports } = openVfs(host, path, stack);
  const [a, b] = await drive(transports, stack);
  await bothWays(a, b, 500, 50);
  // The function forgets everything under the driver's feet, interrupts and rings included.
  devices[1]!.reset();
  assertEquals(transports[1]!.readStatus(), 0);
  await b.reset();
  await bothWays(a, b, 500, 50);
  // And both at once, each opened anew.
  for (const net of [a, b]) net.close();
  for (const device of devices) device.reset();
  await using again = new AsyncDisposableStack();
  const [c, d] = await drive(transports, again);
  await bothWays(c, d, 500, 50);
});

pathTest("the PF itself sends to its VF and receives from it", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { owner, transports } = openVfs(host, path, stack);
  const [a, b] = await drive([stack.use(PciModernTransport.open(owner)), transports[0]!], stack);
  await bothWays(a, b, 200, 20);
});

anyPathTest("every mix of event index, indirect descriptors and mergeable buffers", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { transports } = openVfs(host, path, stack);
  for (let mix = 0; mix < 8; mix++) {
    const options = { eventIndex: (mix & 1) !== 0, indirect: (mix & 2) !== 0, mergeable: (mix & 4) !== 0 };
    await using nets = new AsyncDisposableStack();
    const [a, b] = await drive(transports, nets, { ...options, queueSize: 64 });
    for (const net of [a, b]) {
      assertEquals({
        eventIndex: (net.features & FEATURE.EVENT_IDX) !== 0n,
        indirect: (net.features & FEATURE.INDIRECT_DESC) !== 0n,
        mergeable: net.featureNames.some((name) => name.includes("MRG_RXBUF")),
      }, options);
    }
    await bothWays(a, b, 200, 20);
    // The control queue is what indirect descriptors are used for.
    await a.setPromiscuous(true);
  }
});

anyPathTest("frames over several small mergeable buffers", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { transports } = openVfs(host, path, stack);
  {
    await using nets = new AsyncDisposableStack();
    // Six buffers a frame, one frame on its way.
    const [a, b] = await drive(transports, nets, { bufferBytes: 256 });
    await bothWays(a, b, 0, 50);
  }
  // Two buffers a frame, and never more frames on their way than the queue has buffers for.
  const [a, b] = await drive(transports, stack, { bufferBytes: 600 });
  await bothWays(a, b, 500, 0, 1100);
});

pathTest(
  "control queue: promiscuous, MAC table, own MAC; no INTx on a VF, no queue pairs without MQ",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const { transports } = openVfs(host, path, stack);
    const [a, b] = await drive(transports, stack);
    const foreign = Uint8Array.of(0x02, 0, 0, 0, 0xbe, 0xef);
    const group = Uint8Array.of(0x01, 0, 0x5e, 0, 0, 0x2a);
    const arrives = async (to: Uint8Array): Promise<boolean> => {
      const stream = new TestFrames(to, a.mac, 60, 60);
      const frame = new Uint8Array(60);
      stream.fill(7, frame);
      assert(a.send(frame));
      // A frame for the function itself follows, so that "did not arrive" is no matter of time.
      const marker = new TestFrames(b.mac, a.mac, 61, 61);
      const last = new Uint8Array(61);
      marker.fill(8, last);
      assert(a.send(last));
      let seen = false;
      for (;;) {
        const got = await b.receive(5000);
        if (got === undefined) throw new TimeoutError("the frame for the function itself did not arrive");
        if (got.length === 61) return seen;
        if (stream.isOurs(got, 0, got.length)) {
          assertEquals(got, frame);
          seen = true;
        }
      }
    };
    // QEMU's device starts promiscuous until a driver that has CTRL_RX says otherwise.
    await b.setPromiscuous(false);
    assertEquals([await arrives(foreign), await arrives(group)], [false, false]);
    await b.setPromiscuous(true);
    assertEquals([await arrives(foreign), await arrives(group)], [true, true]);
    await b.setPromiscuous(false);
    await b.setMacTable([foreign], [group]);
    assertEquals([await arrives(foreign), await arrives(group)], [true, true]);
    await b.setMacTable([], []);
    assertEquals([await arrives(foreign), await arrives(group)], [false, false]);
    await b.setAllMulticast(true);
    assertEquals([await arrives(foreign), await arrives(group)], [false, true]);
    await b.setAllMulticast(false);
    await b.setMac(foreign);
    assertEquals(b.mac, foreign);
    assertEquals(await arrives(foreign), true);
    const pairs = b.maxQueuePairs;
    assertEquals(pairs, 1, "a hub's port is one queue pair");
    await assertRejects(() => b.setQueuePairs(1), UnsupportedError, "MQ was not negotiated");
  },
);

pathTest("igb as a PF on vfio-pci: VFs, their token, MSI-X of PF and VF, reset", (host, path) => {
  const pf = physicalFunction(ID.igb);
  host.bind(pf);
  using owner = host.open(pf, { path, vfToken: TOKEN });
  const vfs = host.setVfCount(pf, 2);
  assertEquals(vfs.length, 2);
  for (const vf of vfs) host.bind(vf);
  assertThrows(() => host.open(vfs[1]!, { path }), RefusedError, "VF token");
  using vf = host.open(vfs[1]!, { path, vfToken: TOKEN });
  for (const device of [owner, vf]) {
    const { count } = device.irqInfo(IRQ.msix);
    assertGreater(count, 1);
    using interrupts = new InterruptSet(device);
    const eventFds = interrupts.enable("msix", count);
    for (let vector = 0; vector < count; vector++) {
      interrupts.fire(vector);
      assertEquals(eventFds.map((one) => one.take()), eventFds.map((_, index) => index === vector ? 1 : 0));
    }
  }
  vf.reset();
  assertEquals(host.describe(vfs[1]!).physicalFunction, pf);
  assertEquals(functions(ID.igb), [pf]);
});
