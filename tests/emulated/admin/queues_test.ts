import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioNet, type VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import { AdminCommandError, type AdminMember, type GroupOwner } from "../../../drivers/admin/virtio_admin.ts";
import { exchangeByInterrupt, exchangePolled } from "../../../drivers/net/virtio/exchange.ts";
import { readLegacyVfIdentity } from "../../../drivers/net/virtio/legacy_vf_identity.ts";
import { TestFrames } from "../../../drivers/net/virtio/test_frames.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { ADMIN_GROUP, ADMIN_OPCODE, DEV_PART } from "../../../lib/virtio/spec/admin.ts";
import { GroupHost, PF, vfAddress } from "./group_host.ts";

const MACS = (vf: number) => `52:54:00:01:00:${(vf + 1).toString(16).padStart(2, "0")}`;

/** What a PF's driver does all day: asks who its VFs are, stops, saves and resumes one. @returns rounds */
async function administer(admin: GroupOwner, vfs: number, until: () => boolean): Promise<number> {
  let rounds = 0;
  const members = Array.from({ length: vfs }, (_, vf) => admin.member(vf));
  const one = async (member: AdminMember) => {
    const identity = await readLegacyVfIdentity(member.legacyAsync);
    assertEquals([identity.mac, identity.mtu, identity.queueSizes], [MACS(member.vf), 1500, [256, 256, 256]]);
  };
  while (!until()) {
    await Promise.all(members.map(one));
    const last = members[vfs - 1]!;
    await last.setMode(true);
    const parts = await last.saveParts();
    assert(parts.some(({ type }) => type === DEV_PART.DEV_FEATURES));
    await last.setMode(false);
    // In this thread, while the others' answers are on their way.
    const others = one(members[1]!);
    assertEquals(members[2]!.legacy.readDevice(5, 1), 3);
    await others;
    rounds++;
  }
  return rounds;
}

for (const packed of [false, true]) {
  for (const interrupts of ["msix", "none"] as const) {
    Deno.test(`a PF that carries frames and administers its VFs: ${packed ? "packed" : "split"}, ${interrupts}`, async () => {
      await using group = await GroupHost.start(4);
      const options: VirtioNetOptions = {
        packed,
        interrupts,
        wait: interrupts === "none" ? "poll" : "eventfd",
      };
      await using net = await VirtioNet.open(group.pf.transport, { ...options, admin: true });
      await using peer = await VirtioNet.open(group.vf(0).transport, options);
      let exchanging = true;
      const count = interrupts === "none" ? 20_000 : 5000;
      const traffic = async () => {
        try {
          for (const [from, to] of [[net, peer], [peer, net]] as const) {
            const frames = new TestFrames(to.mac, from.mac, 60, 1514);
            const polled = await exchangePolled(from, to, frames, count);
            assertEquals(polled.frames, count);
            if (interrupts === "none") continue;
            const before = to.statistics().interrupts;
            assertEquals((await exchangeByInterrupt(from, to, frames, 200)).frames, 200);
            assert(to.statistics().interrupts > before);
          }
        } finally {
          exchanging = false;
        }
      };
      const [, rounds] = await Promise.all([
        traffic(),
        administer(net.admin, 4, () => !exchanging),
      ]);
      assert(rounds > 0);
      assertEquals(net.admin.statistics.failed, 0);
      await net.reset();
      const frames = new TestFrames(net.mac, peer.mac, 60, 200);
      assertEquals((await exchangePolled(peer, net, frames, 100)).frames, 100);
      assertEquals((await readLegacyVfIdentity(net.admin.member(3).legacyAsync)).mac, MACS(3));
      net.close();
      peer.close();
      await Promise.all([net.settled, peer.settled]);
      assertEquals(await group.stop(), []);
    });
  }
}

Deno.test("4 administration queues: each has its share, a member's commands stay in order, and one thread reads as many", async () => {
  for (const memberOrder of ["serial", "pipelined"] as const) {
    await using group = await GroupHost.start(8, { adminQueues: 4 });
    const admin = await group.admin({ adminQueues: 4, packed: false, memberOrder });
    assertEquals(admin.queueNumbers, [3, 4, 5, 6]);
    const { sent } = admin.admin.statistics;
    // `queue_select` keeps what was written last, so a wrong order is seen.
    const commands = Array.from({ length: 8 }, (_, vf) => {
      const { legacyAsync } = admin.member(vf);
      return Array.from({ length: 40 }, async (_, i) => {
        const write = legacyAsync.writeCommon(14, 2, i);
        const read = legacyAsync.readCommon(14, 2);
        await write;
        assertEquals(await read, i, `member ${vf + 1}, ${memberOrder}`);
      });
    }).flat();
    await Promise.all(commands);
    assertEquals(admin.admin.statistics.sent - sent, 2 * 8 * 40);
    const used = group.devicePlaces().slice(3).map(({ slot }) => slot);
    assertEquals(used.length, 4);
    assert(used.every((one) => one > 20), `answers by queue: ${used}`);
    assertEquals(used.reduce((sum, one) => sum + one, 0), admin.admin.statistics.sent);
    for (let vf = 0; vf < 8; vf++) assertEquals(admin.member(vf).legacy.readDevice(5, 1), vf + 1);
    assertEquals(await group.stop(), []);
  }
});

Deno.test("N-3.7 opened before there are VFs, with and without knowing their number; members answer once they are there", async () => {
  for (const knows of [true, false]) {
    await using group = await GroupHost.start(0, { totalVfs: 3 });
    const vfCount = () => group.host.describe(PF).sriov!.numVfs;
    const admin = await group.admin(knows ? { vfCount } : {});
    assertEquals([admin.self.used === null, admin.sriov.used === null], [false, true]);
    await assertRejects(
      () => admin.member(0).legacyAsync.readCommon(0, 4),
      knows ? UsageError : AdminCommandError,
      knows ? "while VF Enable is clear (N-3.7)" : "INVALID_GROUP",
    );
    await admin.admin.quiet(() => void group.host.setVfCount(PF, 3));
    assertEquals((await readLegacyVfIdentity(admin.member(2).legacyAsync)).mac, MACS(2));
    const error = await assertRejects(() => admin.member(3).legacyAsync.readCommon(0, 4));
    assert(knows ? error instanceof UsageError : error instanceof AdminCommandError, `${error}`);
    assertEquals(await group.stop(), []);
  }
});

Deno.test("N-3.1 N-3.13 after a reset nothing is legal before LIST_USE, which the driver sends again by itself", async () => {
  await using group = await GroupHost.start(2);
  const admin = await group.admin({ lists: "manual" });
  const used = [ADMIN_OPCODE.LIST_QUERY, ADMIN_OPCODE.LIST_USE, ADMIN_OPCODE.LEGACY_COMMON_CFG_READ];
  const byHand = {
    opcode: ADMIN_OPCODE.LEGACY_COMMON_CFG_READ,
    groupType: ADMIN_GROUP.sriov,
    memberId: 1n,
    data: new Uint8Array(8),
    resultBytes: 4,
  };
  const refused = async () => {
    assertThrows(() => admin.member(0).legacy.readCommon(0, 4), UsageError, "before LIST_USE (N-3.1)");
    const error = await assertRejects(() => admin.admin.execute(byHand), AdminCommandError);
    assertEquals([error.statusName, error.qualifierName, error.field], [
      "EINVAL",
      "INVALID_OPCODE",
      "opcode",
    ]);
  };
  await refused();
  await admin.sriov.listUse(used);
  const features = admin.member(0).legacy.readCommon(0, 4);
  assert(features !== 0);
  await admin.reset();
  await refused();
  await admin.sriov.listUse(used);
  assertEquals(admin.member(0).legacy.readCommon(0, 4), features);
  admin.close();

  using automatic = await group.admin();
  await automatic.sriov.listUse(used);
  await automatic.reset();
  assertEquals(automatic.sriov.used, new Set(used));
  assertEquals(automatic.member(0).legacy.readCommon(0, 4), features);
  assertThrows(() => automatic.member(0).legacy.readDevice(0, 1), UsageError, "LIST_USE did not include it");
  automatic.close();
  const violations = await group.stop();
  assertEquals(violations.map(({ rule, queue }) => [rule, queue]), [["N-3.1", 3], ["N-3.1", 3]]);
  assertEquals(vfAddress(0), "0000:01:00.1");
});
