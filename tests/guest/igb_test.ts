/** The 82576, its PF and its VFs, by our drivers and by Linux's, on kernel VFIO. */
import { assert, assertEquals, assertGreaterOrEqual, assertRejects } from "@std/assert";
import { Igb } from "../../drivers/net/igb/igb.ts";
import { IgbVf } from "../../drivers/net/igb/igbvf.ts";
import { VirtioNet } from "../../drivers/net/virtio_net.ts";
import { RefusedError } from "../../lib/errors/mod.ts";
import type { LinuxHost } from "../../lib/host/linux_host.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { anyPathTest, ID, type KernelPath, netInterface, pathTest, physicalFunction } from "./guest_host.ts";
import { bothWays } from "./net_pair.ts";

const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";
/** `RINGSIDE_IGB_FRAMES=100000` is the whole campaign. */
const FRAMES = Number(Deno.env.get("RINGSIDE_IGB_FRAMES") ?? 500);
const LINK_MS = 10_000;

/** The virtio-net function on the same hub. */
async function partner(host: LinuxHost, path: KernelPath, stack: AsyncDisposableStack): Promise<VirtioNet> {
  const address = physicalFunction(ID.net);
  host.bind(address);
  const transport = stack.use(PciModernTransport.open(stack.use(host.open(address, { path }))));
  return stack.use(await VirtioNet.open(transport, { wait: "eventfd" }));
}

/** Our PF with VFs, served, and these opened by VFIO. */
async function pfAndVfs(host: LinuxHost, path: KernelPath, vfs: number, stack: AsyncDisposableStack) {
  const address = physicalFunction(ID.igb);
  host.bind(address);
  const options = { path, vfToken: TOKEN };
  const owner = stack.use(host.open(address, options));
  const pf = stack.use(await Igb.open(owner, { vfs, wait: "eventfd" }));
  const serving = pf.serveVfs();
  stack.defer(async () => {
    pf.close();
    await serving;
  });
  const addresses = host.setVfCount(address, vfs);
  for (const vf of addresses) host.bind(vf);
  return { pf, addresses, devices: addresses.map((vf) => stack.use(host.open(vf, options))) };
}

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

/** @throws Error with what it says, when it fails */
async function run(command: string, ...args: string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command(command, { args, stdout: "null" }).output();
  if (!success) throw new Error(`${command} ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}
