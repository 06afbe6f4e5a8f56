/** What commands come to when the VFs, the PF's session, or the PF's process goes while they are under way. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { AdminCommandError, type VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { exchangePolled } from "../../../drivers/net/virtio/exchange.ts";
import { readLegacyVfIdentity } from "../../../drivers/net/virtio/legacy_vf_identity.ts";
import { TestFrames } from "../../../drivers/net/virtio/test_frames.ts";
import {
  ClosedError,
  DeviceError,
  PeerGoneError,
  RingsideError,
  UsageError,
} from "../../../lib/errors/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { ConfigAccess, REGION } from "../../../lib/vfio/mod.ts";
import type { LegacyRegisterAccess } from "../../../lib/virtio/mod.ts";
import { LegacyAdminTransport } from "../../../lib/virtio/transport/pci_legacy_admin.ts";
import { GroupHost, PF, vfAddress } from "./group_host.ts";

const SRIOV_CONTROL = 0x148 + 8;
const VFS = 16;

/** Keeps commands under way until told to end, whatever becomes of them. */
class Flow {
  readonly errors: unknown[] = [];
  answered = 0;
  underWay = 0;
  #going = true;
  readonly #ends: Promise<void>[];

  /** @param each so many loops for each VF */
  constructor(admin: VirtioAdmin, vfs: number, each: number) {
    this.#ends = Array.from({ length: vfs * each }, (_, i) => this.#loop(admin, i % vfs));
  }

  async #loop(admin: VirtioAdmin, vf: number): Promise<void> {
    const { legacyAsync } = admin.member(vf);
    while (this.#going) {
      this.underWay++;
      try {
        assertEquals(await legacyAsync.readDevice(5, 1), vf + 1);
        this.answered++;
      } catch (error) {
        this.errors.push(error);
        // What fails at once must not keep the event loop from everything else.
        await new Promise((resolve) => setTimeout(resolve, 1));
      } finally {
        this.underWay--;
      }
    }
  }

  /** Until so many more were answered. */
  async go(answers: number): Promise<void> {
    const until = this.answered + answers;
    while (this.answered < until) await new Promise((resolve) => setTimeout(resolve, 0));
  }

  /** Ends it, and waits for what is under way. */
  async end(): Promise<void> {
    this.#going = false;
    await Promise.all(this.#ends);
  }
}

async function allAnswer(admin: VirtioAdmin, vfs: number): Promise<void> {
  const found = await Promise.all(
    Array.from({ length: vfs }, (_, vf) => readLegacyVfIdentity(admin.member(vf).legacyAsync)),
  );
  assertEquals(
    found.map(({ mac }) => mac),
    found.map((_, vf) => `52:54:00:01:00:${(vf + 1).toString(16).padStart(2, "0")}`),
  );
}

for (const adminQueues of [1, 4]) {
  for (const knows of [false, true]) {
    Deno.test(`N-3.7 VFs removed under hundreds of commands, ${adminQueues} queues, ${knows ? "their number asked for" : "not asked for"}: clear errors, and all of it works again`, async () => {
      await using group = await GroupHost.start(VFS, { adminQueues });
      const { host } = group;
      const sysfs = group.use(new SocketSysfs(`${group.served.directory}/host.sock`, 20_000));
      const vfCount = () => Number(sysfs.readText(`/sys/bus/pci/devices/${PF}/sriov_numvfs`));
      // With several queues hundreds are at the device, else they wait for their member's turn.
      const pipelined = adminQueues > 1;
      const admin = await group.admin({
        timeoutMs: 20_000,
        ...(knows ? { vfCount } : {}),
        ...(pipelined ? { memberOrder: "pipelined", depth: 128 } : {}),
      });
      const flow = new Flow(admin, VFS, 20);
      for (let round = 0; round < 3; round++) {
        await flow.go(300);
        assert(flow.underWay >= 300, `${flow.underWay} commands under way`);
        const { outstanding } = admin.admin.queues;
        assert(outstanding >= (pipelined ? 100 : 1), `${outstanding} at the device`);
        assertEquals(host.setVfCount(PF, 0), []);
        const { length } = flow.errors;
        while (flow.errors.length < length + 300) await new Promise((resolve) => setTimeout(resolve, 1));
        assertEquals(host.setVfCount(PF, VFS).length, VFS);
      }
      await flow.go(300);
      await flow.end();
      assertEquals([flow.underWay, admin.admin.queues.outstanding], [0, 0]);
      const said = new Set<string>();
      for (const error of flow.errors) {
        if (error instanceof AdminCommandError) {
          said.add(error.qualifierName);
          assertEquals([error.opcodeName, error.groupName], ["LEGACY_DEV_CFG_READ", "sriov"]);
          assert(error.message.includes(`member ${error.memberId}`) && error.hint !== "", error.message);
        } else if (error instanceof UsageError && error.message.includes("VF Enable is clear (N-3.7)")) {
          said.add("N-3.7");
        } else throw error;
      }
      assert(said.has(knows ? "N-3.7" : "INVALID_GROUP"), [...said].join());
      said.delete("INVALID_GROUP");
      said.delete("INVALID_MEMBER");
      said.delete("N-3.7");
      assertEquals([...said], []);
      // LIST_USE outlives VFs that go and come: nothing has to be begun again.
      await allAnswer(admin, VFS);
      assertEquals(await group.stop(), []);
    });
  }
}

Deno.test("N-3.7 quiet: VFs are removed and enabled with no command outstanding, so that none fails", async () => {
  await using group = await GroupHost.start(VFS, { adminQueues: 2 });
  const admin = await group.admin();
  const flow = new Flow(admin, VFS, 20);
  for (let round = 0; round < 3; round++) {
    await flow.go(300);
    await admin.admin.quiet(() => {
      assertEquals(admin.admin.queues.outstanding, 0);
      group.host.setVfCount(PF, 0);
      group.host.setVfCount(PF, VFS);
    });
  }
  await flow.go(300);
  await flow.end();
  assertEquals(flow.errors, []);
  assertEquals(await group.stop(), []);
});

Deno.test("N-3.13 the PF is reset under hundreds of commands: they end, LIST_USE is sent again, and VFs answer", async () => {
  await using group = await GroupHost.start(VFS, { adminQueues: 4 });
  const admin = await group.admin();
  const flow = new Flow(admin, VFS, 20);
  for (let round = 0; round < 3; round++) {
    await flow.go(300);
    const { length } = flow.errors;
    const { underWay } = flow;
    await admin.reset();
    await flow.go(300);
    // Those that were under way, and those that came while there were no queues.
    assert(flow.errors.length >= length + underWay, `${flow.errors.length - length} of ${underWay} ended`);
  }
  await flow.end();
  for (const error of flow.errors) assert(error instanceof ClosedError, `${error}`);
  await allAnswer(admin, VFS);
  assertEquals(await group.stop(), []);
});

Deno.test("a VF that vanishes under the driver of its legacy interface: clear errors, and its place can be driven again", async () => {
  await using group = await GroupHost.start(2);
  const admin = await group.admin();
  {
    using pfRegisters = new DisposableStack();
    const legacyDevice = pfRegisters.use(group.host.open(vfAddress(0)));
    const modern = pfRegisters.use(group.served.reach(vfAddress(1)));
    const { legacy } = admin.member(0);
    using transport = LegacyAdminTransport.open(legacyDevice, legacy, { owner: group.pf.device });
    await using net = await VirtioNet.open(transport, { interrupts: "msix", wait: "eventfd" });
    await using peer = await VirtioNet.open(modern.transport, { interrupts: "none" });
    const frames = new TestFrames(peer.mac, net.mac, 60, 1514);
    assertEquals((await exchangePolled(net, peer, frames, 500)).frames, 500);
    const waiting = net.waitReceive(20_000).then(() => undefined, (error) => error);
    group.pf.device.writeRegion(REGION.config, SRIOV_CONTROL, Uint8Array.of(0, 0));
    const gone = assertThrows(() => transport.readStatus(), AdminCommandError);
    assertEquals([gone.qualifierName, gone.memberId], ["INVALID_GROUP", 1n]);
    assertThrows(() => legacyDevice.readRegion(REGION.config, 0, new Uint8Array(4)), PeerGoneError);
    await assertRejects(() => net.setPromiscuous(true), RingsideError);
    net.close();
    await net.settled;
    assert((await waiting) === undefined || (await waiting) instanceof RingsideError);
  }
  assertEquals(group.host.describe(PF).sriov!.vfs, []);
  assertEquals(group.host.setVfCount(PF, 2).length, 2);
  using legacyDevice = group.host.open(vfAddress(0));
  using transport = LegacyAdminTransport.open(legacyDevice, admin.member(0).legacy, {
    owner: group.pf.device,
  });
  await using net = await VirtioNet.open(transport, { interrupts: "msix" });
  await using peer = await VirtioNet.open(group.vf(1).transport, { interrupts: "none" });
  const frames = new TestFrames(net.mac, peer.mac, 60, 1514);
  assertEquals((await exchangePolled(peer, net, frames, 500)).frames, 500);
});

Deno.test("commands that fail for a while: the VF is kept from DMA by a reset that could not be, and works after one that could", async () => {
  await using group = await GroupHost.start(2);
  const admin = await group.admin();
  const { legacy } = admin.member(0);
  let broken = false;
  const checked = <A extends unknown[], R>(access: (...args: A) => R) => (...args: A): R => {
    if (broken) throw new DeviceError("out of reach", { function: legacy.name });
    return access(...args);
  };
  const registers: LegacyRegisterAccess = {
    name: legacy.name,
    readCommon: checked((offset, width) => legacy.readCommon(offset, width)),
    writeCommon: checked((offset, width, value) => legacy.writeCommon(offset, width, value)),
    readDevice: checked((offset, width) => legacy.readDevice(offset, width)),
    writeDevice: checked((offset, width, value) => legacy.writeDevice(offset, width, value)),
    notifyAreas: () => legacy.notifyAreas(),
  };
  const device = group.use(group.host.open(vfAddress(0)));
  const transport = group.use(LegacyAdminTransport.open(device, registers));
  const busMaster = () => (new ConfigAccess(device).read16(4) & 4) !== 0;
  const peer = group.use(await VirtioNet.open(group.vf(1).transport, { interrupts: "none" }));
  const net = group.use(await VirtioNet.open(transport, { interrupts: "none" }));
  const frames = new TestFrames(net.mac, peer.mac, 60, 1514);
  assertEquals((await exchangePolled(peer, net, frames, 300)).frames, 300);
  broken = true;
  await assertRejects(() => net.reset(), DeviceError, "out of reach");
  // Its rings are gone: without this the device would look for them.
  assertEquals(busMaster(), false);
  assert(peer.send(new Uint8Array(60)));
  await new Promise((resolve) => setTimeout(resolve, 50));
  broken = false;
  await net.reset();
  assertEquals(busMaster(), true);
  assertEquals((await exchangePolled(peer, net, frames, 300)).frames, 300);
  net.close();
  peer.close();
  assertEquals(await group.stop(), []);
});
