/** The 82576, its PF and its VFs, by our drivers and by Linux's, on kernel VFIO. */
import { assert, assertEquals, assertGreaterOrEqual, assertRejects, assertThrows } from "@std/assert";
import { FrameBurst, Igb } from "../../drivers/net/igb/igb.ts";
import { IgbVf } from "../../drivers/net/igb/igbvf.ts";
import type { VirtioNet } from "../../drivers/net/virtio_net.ts";
import { RefusedError, UsageError } from "../../lib/errors/mod.ts";
import { anyPathTest, ID, netInterface, pathTest, physicalFunction } from "./guest_host.ts";
import { FRAMES, LINK_MS, partner, pfAndVfs, run } from "./igb_rig.ts";
import { bothWays } from "./net_pair.ts";

anyPathTest(
  "igb: the PF and a virtio-net function, frames both ways, polled and by MSI-X",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const address = physicalFunction(ID.igb);
    host.bind(address);
    const igb = stack.use(
      await Igb.open(stack.use(host.open(address, { path })), { wait: "eventfd" }),
    );
    const net = await partner(host, path, stack);
    const changes: boolean[] = [];
    igb.onLinkChange((up) => changes.push(up));
    assert(await igb.waitLink(LINK_MS));
    assertEquals(changes, [true]);
    assertEquals(igb.macText.slice(0, 11), "52:54:00:00");
    await bothWays(igb, net, FRAMES, FRAMES / 10);
    const { received, transmitted } = igb.statistics();
    const hardware = igb.hardwareStatistics();
    assertEquals([hardware.received, hardware.transmitted], [received.frames, transmitted.frames]);
    assertEquals(hardware.receivedBytes, BigInt(received.bytes + 4 * received.frames));
  },
);

pathTest("igb: PF and VF by these drivers, to each other and to virtio-net", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { pf, devices } = await pfAndVfs(host, path, 2, stack);
  const [a, b] = [
    stack.use(await IgbVf.open(devices[0]!, { wait: "eventfd" })),
    stack.use(await IgbVf.open(devices[1]!, { wait: "eventfd" })),
  ];
  // Nobody has waited for frames yet: these are the mailboxes'.
  assertGreaterOrEqual(pf.interrupts, 4);
  const net = await partner(host, path, stack);
  for (const one of [pf, a, b]) assert(await one.waitLink(LINK_MS));
  assertEquals(pf.vfStates.map(({ mac }) => mac), [a.mac, b.mac]);
  await bothWays(a, b, FRAMES, FRAMES / 10);
  await bothWays(pf, a, FRAMES, FRAMES / 10);
  await bothWays(b, net, FRAMES, FRAMES / 10);
  // VFs see the PF's link go down and up.
  const changes = [a, b].map((vf) => {
    const seen: boolean[] = [];
    vf.onLinkChange((up) => seen.push(up));
    return seen;
  });
  await pf.restartLink();
  for (const vf of [a, b]) vf.service();
  assertEquals([pf.linkUp, ...changes], [false, [false], [false]]);
  for (const one of [pf, a, b]) assert(await one.waitLink(LINK_MS));
  assertEquals(changes, [[false, true], [false, true]]);
  await bothWays(a, b, 50, 0);
});

pathTest(
  "igb: a PF by Linux's igb, VFs by these drivers, to each other and to virtio-net",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const address = physicalFunction(ID.igb);
    const link = netInterface(address);
    await run("ip", "link", "set", link, "up");
    stack.defer(() => run("ip", "link", "set", link, "down"));
    const vfs = host.setVfCount(address, 2);
    const nets: IgbVf[] = [];
    for (const vf of vfs) {
      host.bind(vf);
      nets.push(stack.use(await IgbVf.open(stack.use(host.open(vf, { path })), { wait: "eventfd" })));
    }
    const [a, b] = nets as [IgbVf, IgbVf];
    const net = await partner(host, path, stack);
    for (const one of nets) assert(await one.waitLink(LINK_MS));
    await bothWays(a, b, FRAMES, FRAMES / 10);
    await bothWays(b, net, FRAMES, FRAMES / 10);
    await a.setMac(Uint8Array.of(2, 0, 0, 0, 0x82, 0x57));
    await bothWays(a, b, 50, 0);
    // The PF does as it is asked: what it refuses is an error, and the VF goes on.
    await assertRejects(() => a.ask([0x77]), RefusedError);
    await bothWays(a, b, 50, 0);
  },
);

/** A frame of its own number, to `to`, with what is wanted behind the addresses. */
function frameTo(to: Uint8Array, behind: readonly number[], number: number): Uint8Array {
  const frame = new Uint8Array(100);
  frame.set(to);
  frame.set([2, 0, 0, 0, 0, 0x77, ...behind], 6);
  frame[99] = number;
  return frame;
}

const EXPERIMENTAL = [0x88, 0xb5];
const inVlan = (vlan: number) => [0x81, 0, vlan >> 8, vlan & 0xff, ...EXPERIMENTAL];
/** IPv4 and UDP, from a port. */
const fromPort = (port: number) => [
  ...[8, 0, 0x45, 0, 0, 86, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
  ...[port >> 8, port & 0xff, 0, 9, 0, 66, 0, 0],
];

/** Sends frames, then one that is known to arrive. @returns numbers of those that came before it */
async function arrivals(from: VirtioNet, to: Igb, frames: readonly Uint8Array[]): Promise<number[]> {
  const LAST = 255;
  for (const frame of [...frames, frameTo(to.mac, EXPERIMENTAL, LAST)]) assert(from.send(frame));
  const numbers: number[] = [];
  for (;;) {
    const frame = await to.receive(LINK_MS);
    if (frame === undefined) throw new Error(`the last frame did not come, after ${numbers}`);
    if (frame[99] === LAST) return numbers;
    numbers.push(frame[99]!);
  }
}

anyPathTest(
  "igb: polled without interrupts, two pairs by RSS, VLANs, promiscuous, and the same after a reset",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const address = physicalFunction(ID.igb);
    host.bind(address);
    const device = stack.use(host.open(address, { path }));
    const net = await partner(host, path, stack);
    {
      await using igb = await Igb.open(device, { interrupts: "none", queuePairs: 2 });
      assert(await igb.waitLink(LINK_MS));
      const { mac } = igb;
      for (let round = 0; round < 2; round++) {
        const ports = Array.from({ length: 64 }, (_, port) => frameTo(mac, fromPort(1000 + port), port));
        const byPair = [0, 0];
        for (const frame of ports) assert(net.send(frame));
        const seen = new Set<number>();
        for (const deadline = performance.now() + LINK_MS; seen.size < 64 && performance.now() < deadline;) {
          igb.rx.forEach((queue, pair) => {
            const burst = new FrameBurst(32);
            const copy = new Uint8Array(igb.maxFrameBytes);
            for (let got = queue.receiveBurst(burst); got > 0; got = queue.receiveBurst(burst)) {
              for (let at = 0; at < got; at++) {
                const length = queue.copyFrame(burst, at, copy), number = copy[99]!;
                assertEquals(copy.subarray(0, length), ports[number]);
                seen.add(number);
                byPair[pair]!++;
              }
              queue.recycle(burst);
            }
          });
        }
        assertEquals([seen.size, byPair[0]! + byPair[1]!], [64, 64]);
        // By a hash: so many in one only would be a wonder.
        assert(byPair[0]! > 8 && byPair[1]! > 8, `${byPair}`);

        const foreign = frameTo(Uint8Array.of(2, 0, 0, 0, 0, 0x99), EXPERIMENTAL, 1);
        assertEquals(await arrivals(net, igb, [foreign]), []);
        await igb.setPromiscuous(true);
        assertEquals(await arrivals(net, igb, [foreign]), [1]);
        if (round === 0) await igb.reset();
        assertEquals(await arrivals(net, igb, [foreign]), [1], "after a reset, too");
        await igb.setPromiscuous(false);
        assertEquals(await arrivals(net, igb, [foreign]), []);
      }
      assertEquals(igb.statistics().resets, 1);
    }
    await using igb = await Igb.open(device, { wait: "eventfd" });
    assert(await igb.waitLink(LINK_MS));
    const tagged = [5, 6, 0x123].map((vlan, at) => frameTo(igb.mac, inVlan(vlan), at));
    assertEquals(await arrivals(net, igb, tagged), [0, 1, 2]);
    igb.setVlan(5, true);
    igb.setVlan(0x123, true);
    assertEquals(await arrivals(net, igb, tagged), [0, 2]);
    await igb.reset();
    assertEquals(await arrivals(net, igb, tagged), [0, 2]);
    igb.setVlan(5, false);
    assertEquals(await arrivals(net, igb, tagged), [2]);
    assertThrows(() => igb.setVlan(4096, true), UsageError);
    await igb.restartLink();
    assert(await igb.waitLink(LINK_MS));
    assertEquals(await arrivals(net, igb, tagged), [2]);
  },
);

anyPathTest(
  "igb: long frames in several buffers, a VF that hears of its PF's reset and begins anew, VLANs and groups of a VF",
  async (host, path) => {
    await using stack = new AsyncDisposableStack();
    const { pf, devices } = await pfAndVfs(host, path, 1, stack, { mtu: 9000 });
    const [device] = devices;
    const vf = stack.use(await IgbVf.open(device!, { wait: "eventfd", mtu: 9000 }));
    for (const one of [pf, vf]) assert(await one.waitLink(LINK_MS));
    await bothWays(pf, vf, 100, 10, 9014);
    await pf.reset();
    assertEquals(vf.pfReady, false);
    await vf.reset();
    for (const one of [pf, vf]) assert(await one.waitLink(LINK_MS));
    await bothWays(pf, vf, 100, 10, 9014);
    assertEquals([pf.statistics().resets, vf.statistics().resets], [1, 1]);

    const last = frameTo(vf.mac, EXPERIMENTAL, 255);
    const comes = async (frame: Uint8Array) => {
      for (const one of [frame, last]) assert(pf.send(one));
      const numbers: number[] = [];
      for (let got = await vf.receive(LINK_MS); got !== undefined; got = await vf.receive(LINK_MS)) {
        if (got[99] === 255) return numbers.length === 1;
        numbers.push(got[99]!);
      }
      throw new Error("the last frame did not come");
    };
    const tagged = frameTo(vf.mac, inVlan(7), 1);
    assertEquals(await comes(tagged), false);
    await vf.setVlan(7, true);
    assertEquals(await comes(tagged), true);
    await vf.setVlan(7, false);
    assertEquals(await comes(tagged), false);
    const group = Uint8Array.of(1, 0, 0x5e, 1, 2, 3);
    assertEquals(await comes(frameTo(group, EXPERIMENTAL, 2)), false);
    await vf.setMulticast([group]);
    assertEquals(await comes(frameTo(group, EXPERIMENTAL, 2)), true);
    await vf.setMulticast([]);
  },
);
