/** Each lie of administration queues, over vfio-user: what the caller gets, and that the queue goes on. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  AdminCommandError,
  AdminTimeoutError,
  VirtioAdmin,
  type VirtioAdminOptions,
} from "../../../drivers/admin/virtio_admin.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { exchangePolled } from "../../../drivers/net/virtio/exchange.ts";
import { readLegacyVfIdentity } from "../../../drivers/net/virtio/legacy_vf_identity.ts";
import { TestFrames } from "../../../drivers/net/virtio/test_frames.ts";
import { DeviceError } from "../../../lib/errors/mod.ts";
import { ADMIN_OPCODE, ADMIN_QUALIFIER, ADMIN_STATUS } from "../../../lib/virtio/spec/admin.ts";
import { LegacyAdminTransport } from "../../../lib/virtio/transport/pci_legacy_admin.ts";
import { type Reached, TopologyHost } from "../drivers/topology_host.ts";
import { GroupHost } from "./group_host.ts";

/** What a PF that lies is tried with. */
interface Liar {
  readonly admin: VirtioAdmin;
  readonly served: TopologyHost;
  readonly pf: Reached;
  readonly vfs: readonly string[];
  /** Identities of all VFs, and a synchronous read: whether queue and members go on. */
  readonly goesOn: () => Promise<void>;
}

interface Case {
  readonly lie: string;
  readonly options?: VirtioAdminOptions;
  readonly adminQueues?: number;
  readonly use: (liar: Liar) => Promise<void>;
}

const VFS = 3;
const address = (bus: number) => `0000:${bus.toString(16).padStart(2, "0")}:00.0`;

/** One host with a PF for each lie; its devices must have nothing to say about their driver. */
async function withLies(cases: readonly Case[]): Promise<void> {
  await using served = await TopologyHost.start(
    cases.map(({ lie, adminQueues = 1 }, i) => ({
      address: address(i + 1),
      kind: "virtio-net",
      totalVfs: VFS,
      queuePairs: 1,
      switch: "s0",
      lie,
      adminQueues,
    })),
  );
  for (const [i, { options, use }] of cases.entries()) {
    using pf = served.reach(address(i + 1));
    const vfs = served.host.setVfCount(address(i + 1), VFS);
    await using admin = await VirtioAdmin.open(pf.transport, options);
    const mac = (vf: number) => `52:54:00:${(i + 1).toString(16).padStart(2, "0")}:00:0${vf + 1}`;
    const goesOn = async () => {
      const found = await Promise.all(
        vfs.map((_, vf) => readLegacyVfIdentity(admin.member(vf).legacyAsync)),
      );
      assertEquals(found.map((one) => one.mac), vfs.map((_, vf) => mac(vf)));
      assertEquals(admin.member(1).legacy.readDevice(5, 1), 2);
    };
    await use({ admin, served, pf, vfs, goesOn });
  }
  assertEquals(await served.stop(), []);
}

Deno.test("N-3.5 admin-eagain: repeated until the device is ready, or an error that says how often", async () => {
  await withLies([{
    lie: "admin-eagain:5",
    use: async ({ admin, goesOn }) => {
      assertEquals(admin.admin.statistics.retried, 5, "already of LIST_QUERY");
      await goesOn();
    },
  }, {
    lie: "admin-eagain:100@DEV_MODE_SET",
    options: { retries: 3 },
    use: async ({ admin, goesOn }) => {
      const error = await assertRejects(() => admin.member(1).setMode(true), AdminCommandError);
      assertEquals([error.statusName, error.qualifierName, error.attempts], ["EAGAIN", "TRYAGAIN", 4]);
      assertEquals([error.opcodeName, error.memberId], ["DEV_MODE_SET", 2n]);
      await goesOn();
    },
  }]);
});

Deno.test("admin-status: every status and qualifier, reserved ones too, is an error with both names; the queue goes on", async () => {
  const { EINVAL } = ADMIN_STATUS;
  const { NORESOURCE } = ADMIN_QUALIFIER;
  const cases: [number, string, number, string][] = [
    ...Object.entries(ADMIN_STATUS).filter(([name]) => name !== "OK" && name !== "EAGAIN")
      .map(([name, status]): [number, string, number, string] => [status, name, NORESOURCE, "NORESOURCE"]),
    ...Object.entries(ADMIN_QUALIFIER)
      .map(([name, qualifier]): [number, string, number, string] => [EINVAL, "EINVAL", qualifier, name]),
    [99, "EINVAL", 77, "INVALID_COMMAND"],
  ];
  await withLies(cases.map(([status, statusName, qualifier, qualifierName]) => ({
    lie: `admin-status:${status}:${qualifier}@LEGACY_DEV_CFG_WRITE`,
    use: async ({ admin, goesOn }) => {
      const error = assertThrows(() => admin.member(1).legacy.writeDevice(0, 1, 2), AdminCommandError);
      assertEquals(
        [
          error.status,
          error.statusName,
          error.qualifier,
          error.qualifierName,
          error.opcodeName,
          error.memberId,
        ],
        [status, statusName, qualifier, qualifierName, "LEGACY_DEV_CFG_WRITE", 2n],
      );
      await goesOn();
    },
  })));
});

Deno.test("admin-garbage: each answer is an error of a type or a value, whatever the device writes; the queue goes on", async () => {
  await withLies([{
    lie: "admin-garbage:77@LEGACY_COMMON_CFG_READ",
    adminQueues: 2,
    use: async ({ admin }) => {
      const seen = new Set<string>();
      const ask = async (i: number) => {
        try {
          await admin.member(i % VFS).legacyAsync.readCommon(0, 4);
          seen.add("value");
        } catch (error) {
          if (!(error instanceof DeviceError)) throw error;
          seen.add(error.name);
        }
      };
      await Promise.all(Array.from({ length: 300 }, (_, i) => ask(i)));
      assert(seen.has("AdminCommandError"), [...seen].join());
      assertEquals(admin.admin.queues.outstanding, 0);
      for (let vf = 0; vf < VFS; vf++) assertEquals(admin.member(vf).legacy.readDevice(5, 1), vf + 1);
    },
  }]);
});

Deno.test("N-3.4 admin-short: without a whole status an answer is none, and what is missing of a result is zero", async () => {
  await withLies([
    ...[0, 1, 7].map((bytes): Case => ({
      lie: `admin-short:${bytes}@LEGACY_COMMON_CFG_READ`,
      use: async ({ admin }) => {
        const error = assertThrows(() => admin.member(1).legacy.readCommon(0, 4), DeviceError);
        assert(!(error instanceof AdminCommandError), `${error}`);
        await assertRejects(() => admin.member(0).legacyAsync.readCommon(0, 4), DeviceError);
        assertEquals(admin.member(1).legacy.readDevice(5, 1), 2);
      },
    })),
    {
      lie: "admin-short:10@LEGACY_COMMON_CFG_READ",
      use: ({ admin }) => {
        const { legacy } = admin.member(1);
        assertEquals(legacy.readCommon(0, 4), legacy.readCommon(0, 2));
        assertEquals(legacy.readDevice(5, 1), 2);
        return Promise.resolve();
      },
    },
  ]);
});

Deno.test("admin-silence: AdminTimeoutError, other members go on, and after a reset this one does, too", async () => {
  await withLies([{
    lie: "admin-silence:0@DEV_MODE_SET",
    // In order, nothing behind a command that is never answered could be.
    options: { timeoutMs: 200, inOrder: false },
    use: async ({ admin, goesOn }) => {
      const stop = admin.member(1).setMode(true);
      const behind = admin.member(1).legacyAsync.readCommon(0, 4);
      const others = () => {
        for (const vf of [0, 2]) assertEquals(admin.member(vf).legacy.readDevice(5, 1), vf + 1);
      };
      others();
      const [error, second] = await Promise.all([
        assertRejects(() => stop, AdminTimeoutError, "was not answered in 200 ms"),
        assertRejects(() => behind, AdminTimeoutError, "could not be sent in 200 ms"),
      ]);
      assertEquals([error.opcode, error.memberId, error.queue], [ADMIN_OPCODE.DEV_MODE_SET, 2n, 3]);
      assertEquals([second.memberId, second.queue], [2n, undefined]);
      others();
      assertEquals(admin.admin.queues.outstanding, 1);
      await admin.reset();
      assertEquals(admin.admin.queues.outstanding, 0);
      await goesOn();
    },
  }]);
  // Nothing at all is answered: not even opening it succeeds, and nothing is left of it.
  await using group = await GroupHost.start(1, { lie: "admin-silence" });
  await assertRejects(
    () => group.admin({ timeoutMs: 100 }),
    AdminTimeoutError,
    "LIST_QUERY of the self group",
  );
  assertEquals(await group.stop(), []);
});

Deno.test("N-3.6 admin-late: answers that overtake each other find their commands, and members keep their order", async () => {
  await withLies((["serial", "pipelined"] as const).map((memberOrder) => ({
    lie: "admin-late:4",
    options: { adminQueues: 4, memberOrder },
    adminQueues: 4,
    use: async ({ admin, goesOn }) => {
      const order: number[][] = [[], [], []];
      await Promise.all(Array.from({ length: 90 }, async (_, i) => {
        const { legacyAsync } = admin.member(i % VFS);
        const write = legacyAsync.writeCommon(14, 2, i);
        assertEquals(await legacyAsync.readCommon(14, 2), i);
        await write;
        order[i % VFS]!.push(i);
      }));
      for (const one of order) assertEquals(one, one.toSorted((a, b) => a - b));
      await goesOn();
    },
  })));
});

Deno.test("admin-list-long and N-3.17 admin-notify-wild: opcodes that nobody knows and addresses that cannot be are not used", async () => {
  await withLies([{
    lie: "admin-list-long:32",
    use: async ({ admin, goesOn }) => {
      assert(admin.sriov.supported!.has(32 * 64 - 1) && admin.sriov.supported!.has(64));
      assertEquals([...admin.sriov.used!].filter((opcode) => opcode > ADMIN_OPCODE.DEV_MODE_SET), []);
      await goesOn();
    },
  }, {
    lie: "admin-notify-wild",
    use: async ({ admin, served, pf, vfs }) => {
      const areas = admin.member(0).legacy.notifyAreas();
      assertEquals(areas.map(({ whose, bar, offset }) => [whose, bar, offset]), [["member", 4, 2 ** 40]]);
      using device = served.host.open(vfs[0]!);
      using transport = LegacyAdminTransport.open(device, admin.member(0).legacy, { owner: pf.device });
      assertEquals(transport.notifyPlace, null);
      await using net = await VirtioNet.open(transport, { interrupts: "none" });
      using modern = served.reach(vfs[1]!);
      await using peer = await VirtioNet.open(modern.transport, { interrupts: "none" });
      for (const [from, to] of [[net, peer], [peer, net]] as const) {
        const frames = new TestFrames(to.mac, from.mac, 60, 1514);
        assertEquals((await exchangePolled(from, to, frames, 500)).frames, 500);
      }
    },
  }]);
});
