import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { exchangePolled } from "../../../drivers/net/virtio/exchange.ts";
import { readLegacyVfIdentity } from "../../../drivers/net/virtio/legacy_vf_identity.ts";
import { TestFrames } from "../../../drivers/net/virtio/test_frames.ts";
import { UnixSocket } from "../../../ffi/mod.ts";
import { RingsideError } from "../../../lib/errors/mod.ts";
import { LegacyAdminTransport } from "../../../lib/virtio/transport/pci_legacy_admin.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { ownership } from "../host/served_host.ts";
import { PF, vfAddress } from "./group_host.ts";
import { RemoteRegisters } from "./register_wire.ts";

const SCRIPT = new URL("./pf_process.ts", import.meta.url).pathname;

/** The PF's driver in a process of its own. */
async function startPf(directory: string, path: string) {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", SCRIPT, directory, path],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const reader = child.stdout.getReader();
  const { value } = await reader.read();
  const socket = UnixSocket.connect(path, 20_000);
  return {
    areas: JSON.parse(new TextDecoder().decode(value)),
    socket,
    kill: async () => {
      child.kill("SIGKILL");
      const { signal } = await child.status;
      await reader.cancel();
      return signal;
    },
  };
}

Deno.test("kill -9 of the PF's process while another one drives a VF through its legacy interface", async () => {
  await using served = await TopologyHost.start([
    { address: PF, kind: "virtio-net", totalVfs: 2, queuePairs: 1, switch: "s0" },
  ]);
  const before = ownership(served.host);
  const pf = await startPf(served.directory, `${served.directory}/registers-1`);
  {
    using device = served.host.open(vfAddress(0));
    using modern = served.reach(vfAddress(1));
    using transport = LegacyAdminTransport.open(device, new RemoteRegisters(pf.socket, 0, pf.areas));
    await using net = await VirtioNet.open(transport, { interrupts: "msix", wait: "eventfd" });
    await using peer = await VirtioNet.open(modern.transport, { interrupts: "none" });
    const exchange = async (from: VirtioNet, to: VirtioNet) => {
      const frames = new TestFrames(to.mac, from.mac, 60, 1514);
      return (await exchangePolled(from, to, frames, 1000)).frames;
    };
    assertEquals([await exchange(net, peer), await exchange(peer, net)], [1000, 1000]);

    assertEquals(await pf.kill(), "SIGKILL");
    // Registers are out of reach, and every access says so; frames need none of them, and their device is still there.
    assertThrows(() => transport.readStatus(), RingsideError);
    assertEquals(served.host.describe(PF).sriov!.vfs, [vfAddress(0), vfAddress(1)]);
    assertEquals([await exchange(net, peer), await exchange(peer, net)], [1000, 1000]);
    await assertRejects(() => net.reset(), RingsideError);
    net.close();
    await net.settled;
    pf.socket.close();
  }
  {
    // Whoever opens the PF next goes on: VFs are there, and answer.
    using reached = served.reach(PF);
    await using admin = await VirtioAdmin.open(reached.transport);
    assertEquals((await readLegacyVfIdentity(admin.member(0).legacyAsync)).mac, "52:54:00:01:00:01");
    using device = served.host.open(vfAddress(0));
    using transport = LegacyAdminTransport.open(device, admin.member(0).legacy);
    assertEquals(transport.readStatus(), 0, "its client has gone, so it is reset");
    await using net = await VirtioNet.open(transport, { interrupts: "msix" });
    assertEquals(net.macText, "52:54:00:01:00:01");
  }
  assertEquals(served.host.restore().failed, []);
  assertEquals(ownership(served.host), before);
  assert(served.host.journal().length === 0);
  assertEquals(await served.stop(), []);
});
