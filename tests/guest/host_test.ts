/** The host over the kernel's own sysfs: what it reads, refuses, changes and puts back. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { makeDirectory, openFdCount, readText } from "../../ffi/mod.ts";
import { NotFoundError, RefusedError, UsageError } from "../../lib/errors/mod.ts";
import type { PciFunctionInfo } from "../../lib/host/mod.ts";
import { LinuxHost } from "../../lib/host/linux_host.ts";
import { bringUp, ownership } from "../emulated/host/served_host.ts";
import { inGuest } from "./rig/in_guest.ts";

const TOKEN = "bd8d9d2b-5a5f-4f5a-a211-f591514ba1f3";

function guestTest(name: string, body: (host: LinuxHost) => void | Promise<void>): void {
  const ignore = !inGuest();
  Deno.test({
    name: `host: ${name}${ignore ? " (skipped: needs the guest rig)" : ""}`,
    ignore,
    sanitizeOps: true,
    sanitizeResources: true,
    fn: async () => {
      const fds = openFdCount();
      using host = new LinuxHost();
      const before = ownership(host);
      try {
        await body(host);
      } finally {
        const left = host.restore(undefined, { force: true });
        assertEquals(left.failed, []);
      }
      assertEquals(ownership(host), before, "the host is not as it was");
      assertEquals(openFdCount(), fds, "something stayed open");
    },
  });
}

function find(host: LinuxHost, vendorId: number, deviceId: number, pf = false): PciFunctionInfo {
  const found = host.list().filter((one) => one.bus === "pci").find((one) =>
    one.vendorId === vendorId && one.deviceId === deviceId && (!pf || one.sriov !== undefined)
  );
  if (found === undefined) throw new NotFoundError("no such function in this guest");
  return found;
}

const virtioPf = (host: LinuxHost): PciFunctionInfo => find(host, 0x1af4, 0x1041, true);
const igb = (host: LinuxHost): PciFunctionInfo => find(host, 0x8086, 0x10c9);
const disk = (host: LinuxHost): PciFunctionInfo => find(host, 0x1af4, 0x1042);

async function run(...words: string[]): Promise<void> {
  const [program = "", ...args] = words;
  const output = await new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "piped" })
    .output();
  if (!output.success) throw new Error(`${words.join(" ")}: ${new TextDecoder().decode(output.stderr)}`);
}

guestTest("describes PFs, their interfaces, disks and groups", (host) => {
  const pf = virtioPf(host);
  assertEquals([pf.driver, pf.driverOverride, pf.sriov?.totalVfs, pf.sriov?.numVfs], [
    "virtio-pci",
    undefined,
    3,
    0,
  ]);
  assertEquals([pf.netInterfaces.length, pf.blockDevices.length, pf.groupMembers.length], [1, 0, 0]);
  assert(pf.iommuGroup !== undefined && pf.vendorName.startsWith("Red Hat"));
  assertEquals(igb(host).driver, "igb");
  assertEquals(disk(host).blockDevices, ["vda"]);
  assertEquals(host.readConfig(pf.address).length, 4096);
  assert(host.barSizes(pf.address).some((size) => size > 0));
  const problems = host.examine().filter((one) => one.state === "problem" && one.what !== "VFIO by cdev");
  assertEquals(problems, []);
});

guestTest("1.2 bind, VFs, VF driver, restore", (host) => {
  const pf = virtioPf(host);
  host.bind(pf.address);
  const vfs = host.setVfCount(pf.address, 2);
  assertEquals(vfs, host.describe(pf.address).sriov?.vfs);
  for (const vf of vfs) {
    host.bind(vf);
    const info = host.describe(vf);
    assertEquals([info.driver, info.physicalFunction], ["vfio-pci", pf.address]);
  }
  assertEquals(host.describe(pf.address).sriov?.driversAutoprobe, false);
  assert(host.journal().some((one) => one.attribute === "sriov_numvfs" && one.before === "0"));
  assertEquals(host.restore().failed, []);
  assertEquals(host.describe(pf.address).netInterfaces.length, 1);
});

guestTest("1.2 VFs that were there come back with their drivers", (host) => {
  const { address } = igb(host);
  host.setVfCount(address, 2, { driversAutoprobe: false });
  const [first = "", second = ""] = host.describe(address).sriov?.vfs ?? [];
  host.bind(first);
  // As if it had always been so: a journal of its own begins here.
  using later = new LinuxHost({ stateDirectory: "/run/ringside-later" });
  const before = ownership(later);
  later.setVfCount(address, 4);
  later.bind(address);
  assertEquals(later.restore().failed, []);
  assertEquals(ownership(later), before);
  assertEquals([later.describe(first).driver, later.describe(second).driver], ["vfio-pci", undefined]);
});

/** Kills the bring-up at the steps whose names begin so, and restores from this process. */
async function killAt(host: LinuxHost, calls: readonly string[], steps: readonly string[]): Promise<void> {
  const before = ownership(host);
  const whole = await bringUp("linux", -1, calls);
  assertEquals([whole.signal, host.restore().failed], [null, []]);
  assertEquals(ownership(host), before);
  for (const step of steps) {
    const at = whole.steps.findIndex((line) => line.replace(/^\d+ /, "").startsWith(step));
    assert(at >= 0, `no step ${step} in\n${whole.steps.join("\n")}`);
    const killed = await bringUp("linux", at, calls);
    assertEquals([killed.signal, killed.steps.length], ["SIGKILL", at + 1]);
    const changed = JSON.stringify(ownership(host)) !== JSON.stringify(before);
    assertEquals(changed, !step.startsWith("before unbind"), step);
    assert(host.journal().length > 0 || !changed, step);
    assertEquals(host.restore().failed, [], step);
    assertEquals(ownership(host), before, step);
  }
}

guestTest("1.3 kill -9 in the middle of bring-up of a virtio-net PF, then restore", async (host) => {
  const { address } = virtioPf(host);
  await killAt(host, [`bind=${address}`, `sriov=${address},2`], [
    "before unbind",
    "after unbind",
    "after driver_override",
    "after probe",
    "after sriov_drivers_autoprobe",
    "after sriov_numvfs",
  ]);
});

guestTest("1.3 kill -9 in the middle of bring-up of VFs of an igb PF, then restore", async (host) => {
  const { address } = igb(host);
  host.setVfCount(address, 1);
  const [vf = ""] = host.describe(address).sriov?.vfs ?? [];
  host.setVfCount(address, 0);
  assertEquals(host.restore().failed, []);
  const calls = [`sriov=${address},2`, `bind=${vf}`, `bind=${address}`];
  await killAt(host, calls, [
    `after sriov_numvfs ${address} 2`,
    `after driver_override ${vf}`,
    `before sriov_numvfs ${address} 0`,
    `after unbind ${address}`,
    `after driver_override ${address}`,
  ]);
});

/** Mounts the disk, or swaps on it where the guest's kernel has no file system for disks. */
async function whileUsed(disk: string, body: (use: string) => void): Promise<void> {
  const mounts = readText("/proc/filesystems").includes("\text4\n");
  makeDirectory("/tmp/mounted");
  await run(...(mounts ? ["/sbin/mkfs.ext4", "-q", "-F", disk] : ["/sbin/mkswap", disk]));
  await run(...(mounts ? ["mount", disk, "/tmp/mounted"] : ["/sbin/swapon", disk]));
  try {
    body(mounts ? "is mounted on /tmp/mounted" : "is swapped on");
  } finally {
    await run(...(mounts ? ["umount", disk] : ["/sbin/swapoff", disk]));
  }
}

guestTest("1.8 refuses what the host uses: an address, the default route, a disk", async (host) => {
  const { address, netInterfaces: [name = ""] } = igb(host);
  const before = ownership(host);
  await run("ip", "addr", "add", "192.0.2.1/24", "dev", name);
  assertThrows(() => host.bind(address), RefusedError, `${name} of ${address} has the address 192.0.2.1`);
  await run("ip", "link", "set", name, "up");
  await run("ip", "route", "add", "default", "via", "192.0.2.254");
  assertThrows(() => host.bind(address), RefusedError, "carries the default route");
  await run("ip", "link", "set", name, "down");
  await run("ip", "addr", "flush", "dev", name);
  await whileUsed("/dev/vda", (use) => {
    assertThrows(
      () => host.bind(disk(host).address),
      RefusedError,
      `disk vda of ${disk(host).address} ${use}`,
    );
  });
  assertEquals(ownership(host), before);
  host.bind(disk(host).address);
  assertEquals(host.describe(disk(host).address).driver, "vfio-pci");
});

guestTest("1.8 other refusals change nothing", (host) => {
  const { address } = virtioPf(host);
  const before = ownership(host);
  assertThrows(() => host.setVfCount(address, 4), UsageError, "TotalVFs is 3");
  assertThrows(() => host.bind(address, { driver: "virtio-vfio-pci" }), NotFoundError);
  assertThrows(() => host.bind(address, { driver: "no-such-driver" }), NotFoundError, "no-such-driver");
  assertThrows(() => host.open(address), UsageError, "is bound to virtio-pci");
  // Its probe takes no network function: what was there comes back.
  assertThrows(() => host.bind(address, { driver: "igb" }), Error, "igb did not take the function");
  assertEquals(ownership(host), before);
  assertEquals(host.journal(), []);
});

guestTest("1.2 open takes the lock; a VF needs the token that its PF was opened with", (host) => {
  const { address } = virtioPf(host);
  host.bind(address);
  using pf = host.open(address, { vfToken: TOKEN });
  const [vf = ""] = host.setVfCount(address, 1);
  assertThrows(() => host.open(vf), RefusedError, "VF token");
  using device = host.open(vf, { vfToken: TOKEN });
  assertEquals([device.name, host.describe(vf).heldBy !== undefined], [vf, true]);
  assertThrows(() => host.setVfCount(address, 0), RefusedError, "in use");
  assert(host.restore().failed.every((one) => one.error instanceof RefusedError));
  assertEquals(host.describe(vf).driver, "vfio-pci");
  device.close();
  pf.close();
});
