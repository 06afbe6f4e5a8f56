/** A thousand VFs on one PF, served by another process. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { openFdCount, readDirectory, readText, SyscallError } from "../../../ffi/mod.ts";
import {
  ExhaustedError,
  PeerGoneError,
  RefusedError,
  RemovalRequestedError,
  RingsideError,
} from "../../../lib/errors/mod.ts";
import type { Host } from "../../../lib/host/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { PciAddress } from "../../../lib/pci/address.ts";
import { REGION } from "../../../lib/vfio/device.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { onlyInFull } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const PF = "0000:01:00.0";
const COUNT = 1000;
const PF_ID = PciAddress.parse(PF).routingId;
const VFS = Array.from({ length: COUNT }, (_, i) => PciAddress.fromRoutingId(PF_ID + 1 + i).toString());
const NUM_VFS = `/sys/bus/pci/devices/${PF}/sriov_numvfs`;
const SRIOV_CONTROL = 0x148 + 8;
const DEVICES = "/sys/bus/pci/devices";
const HOLD = new URL("./hold_rng.ts", import.meta.url).pathname;
/** First, last of a bus, first and second of the next, last. */
const SAMPLE = [0, 254, 255, 256, COUNT - 1];

function start(openFiles?: number): Promise<TopologyHost> {
  return TopologyHost.start(
    [{ address: PF, kind: "virtio-rng", totalVfs: 1024 }],
    openFiles === undefined ? { alone: true } : { openFiles },
  );
}

/** Everything of the host that bring-up may change. */
function stateOf(host: Host, sysfs: SocketSysfs): unknown {
  const links = [
    "/sys/class/net",
    DEVICES,
    "/sys/bus/pci/drivers/vfio-pci",
    "/sys/bus/pci/drivers/virtio-pci",
  ];
  return {
    functions: host.list(),
    links: links.map((path) => [...sysfs.links(path)]),
    groups: sysfs.list("/sys/kernel/iommu_groups"),
    pf: [...sysfs.links(`${DEVICES}/${PF}`)],
    ports: sysfs.readText("/ringside/switch"),
    queues: sysfs.list("/ringside/queues"),
  };
}

function sockets(directory: string): string[] {
  return readDirectory(directory).map(({ name }) => name).filter((name) => name.endsWith(".sock"));
}

Deno.test("a thousand VFs: enabled, listed, a sample driven, a client killed, refused while in use, removed; nothing left", async () => {
  await using served = await start();
  const { host, directory, pid } = served;
  using sysfs = new SocketSysfs(`${directory}/host.sock`, 20_000);
  const before = stateOf(host, sysfs);
  const holds = await settledHoldings(pid);
  const fds = openFdCount();

  host.bind(PF);
  assertEquals(host.setVfCount(PF, COUNT), VFS);
  const listed = host.list();
  assertEquals(listed.map((one) => one.address), [PF, ...VFS]);
  assertEquals(listed.filter((one) => one.driver !== "vfio-pci"), []);
  assertEquals(listed[0]!.sriov?.vfs, VFS);
  assertEquals(
    listed.slice(1).filter((one) => one.physicalFunction !== PF || one.groupMembers.length > 0),
    [],
  );
  assertEquals(new Set(listed.map((one) => one.iommuGroup)).size, COUNT + 1);
  assertEquals(sockets(directory), [PF, ...VFS, "host"].map((name) => `${name}.sock`).sort());
  assertEquals(openFdCount(), fds);

  {
    // All but the sample are open and idle.
    using idle = new DisposableStack();
    for (const vf of VFS.slice(300, 400)) idle.use(host.open(vf));
    await using sample = new AsyncDisposableStack();
    const drivers = SAMPLE.slice(0, -1).map((i) => {
      const reached = sample.use(served.reach(VFS[i]!));
      return sample.use(
        VirtioRng.open(reached.transport, {
          interrupts: i % 2 === 0 ? "msix" : "none",
          wait: i % 2 === 0 ? "eventfd" : "poll",
        }),
      );
    });
    const seen = new Set<string>();
    const drive = async (): Promise<void> => {
      for (const rng of drivers) seen.add((await rng.read(1000)).join());
    };
    for (let round = 0; round < 20; round++) await drive();
    assertEquals(seen.size, 20 * drivers.length);

    // The client of the last VF dies in the middle of its work.
    const last = VFS[COUNT - 1]!;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "--allow-ffi", HOLD, directory, last],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = child.stdout.getReader();
    assertEquals(new TextDecoder().decode((await reader.read()).value), "driving\n");
    assertThrows(() => host.setVfCount(PF, 0), RefusedError);
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
    await drive();
    {
      using reached = served.reach(last);
      await using rng = VirtioRng.open(reached.transport, { interrupts: "msix" });
      assertEquals((await rng.read(1000)).length, 1000);
    }
    await drive();
    // One of this process's own VFs keeps the count from being changed too, and neither attempt did anything.
    assertThrows(() => host.setVfCount(PF, 10), RefusedError);
    await drive();
    // Who asks the kernel itself is refused while the first of them is used, whose driver is asked to let go.
    const busy = assertThrows(() => sysfs.writeText(NUM_VFS, "0"), SyscallError);
    assertEquals(busy.code, "EBUSY");
    assertEquals(sysfs.readText(NUM_VFS), `${COUNT}`);
    await assertRejects(async () => {
      for (;;) await drive();
    }, RemovalRequestedError);
  }
  assertEquals(host.setVfCount(PF, 0), []);
  assertEquals(sockets(directory), [`${PF}.sock`, "host.sock"].sort());
  const { failed } = host.restore();
  assertEquals([failed, host.journal()], [[], []]);
  assertEquals(stateOf(host, sysfs), before);
  assertEquals(sysfs.readText("/ringside/violations"), "");
  assertEquals(openFdCount(), fds);
  assertNothingLeft(await settledHoldings(pid), holds, "of the embedded host");
});

Deno.test(
  onlyInFull(
    "VF Enable cleared under a thousand VFs and their clients: each sees its peer go, and the machine goes on",
    async () => {
      await using served = await start();
      const { host } = served;
      host.bind(PF);
      {
        await using stack = new AsyncDisposableStack();
        const pf = stack.use(host.open(PF));
        host.setVfCount(PF, COUNT);
        const devices = SAMPLE.map((i) => stack.use(host.open(VFS[i]!)));
        const reached = stack.use(served.reach(VFS[500]!));
        const rng = stack.use(VirtioRng.open(reached.transport, { interrupts: "msix", timeoutMs: 2000 }));
        await rng.read(100);
        pf.writeRegion(REGION.config, SRIOV_CONTROL, Uint8Array.of(0, 0));
        for (const device of devices) {
          assertThrows(() => device.readRegion(REGION.config, 0, new Uint8Array(4)), PeerGoneError);
        }
        await assertRejects(() => rng.read(100), RingsideError);
        assertThrows(() => reached.transport.readStatus(), PeerGoneError);
        assertEquals(host.list().map((one) => one.address), [PF]);
        assertEquals(sockets(served.directory), [`${PF}.sock`, "host.sock"].sort());
        const id = new Uint8Array(4);
        pf.readRegion(REGION.config, 0, id);
        assertEquals([...id], [0xf4, 0x1a, 0x44, 0x10]);
      }
      host.setVfCount(PF, 3);
      {
        using reached = served.reach(VFS[2]!);
        await using rng = VirtioRng.open(reached.transport, { interrupts: "msix" });
        assertEquals((await rng.read(100)).length, 100);
      }
      assertEquals(host.restore().failed, []);
    },
  ),
);

Deno.test("more VFs than the host's process has descriptors for: ExhaustedError, VF Enable clear, and fewer VFs fit", async () => {
  await using served = await start(300);
  const { host, directory } = served;
  using sysfs = new SocketSysfs(`${directory}/host.sock`, 20_000);
  const before = stateOf(host, sysfs);
  host.bind(PF);
  const error = assertThrows(() => host.setVfCount(PF, COUNT), ExhaustedError);
  assert(error.message.includes(PF) && error.message.includes(`${COUNT} VFs`), error.message);
  assert(error.hint.includes("its limit is 300") && error.hint.includes("ulimit -n"), error.hint);
  assertEquals(sysfs.readText(NUM_VFS), "0");
  assertEquals(sysfs.readBytes(`${DEVICES}/${PF}/config`)[SRIOV_CONTROL]! & 1, 0);
  assertEquals(host.list().map((one) => one.address), [PF]);
  assertEquals(
    host.journal().map((one) => one.attribute).sort(),
    ["driver", "driver_override"],
    "of the bind",
  );
  assertEquals(host.setVfCount(PF, 200).length, 200);
  {
    // Clients for whom no descriptors are left are told so or turned away, and nobody else suffers.
    using stack = new DisposableStack();
    let opened = 0;
    for (const vf of VFS.slice(0, 200)) {
      try {
        stack.use(host.open(vf));
        opened++;
      } catch (error) {
        assert(error instanceof RingsideError, String(error));
      }
    }
    assert(opened > 10 && opened < 200, `${opened}`);
    assertEquals(host.list().length, 201);
  }
  assertEquals(
    await (async () => {
      using reached = served.reach(VFS[199]!);
      await using rng = VirtioRng.open(reached.transport, { interrupts: "msix" });
      return (await rng.read(100)).length;
    })(),
    100,
  );
  assertEquals(host.setVfCount(PF, 0), []);
  assertEquals(host.restore().failed, []);
  assertEquals(stateOf(host, sysfs), before);
  assert(readText(`/proc/${served.pid}/limits`).includes("300"));
});
