import { assert, assertEquals, assertThrows } from "@std/assert";
import { PeerGoneError, RefusedError, UsageError } from "../../../lib/errors/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { bringUp, ownership, ServedHost } from "./served_host.ts";
import { campaign, rounds } from "../../random.ts";

const PF = "0000:01:00.0";
const VF = "0000:01:00.1";
const RNG = "0000:02:00.0";
const PLATFORM_RNG = "a003e00.virtio_mmio";
const DEVICES = "/sys/bus/pci/devices";

/** Kills the bring-up at each of its steps; after each, this process restores. */
async function killAtEachStep(served: ServedHost, calls: readonly string[], atLeast: number): Promise<void> {
  using host = served.connect();
  const before = ownership(host);
  const whole = await bringUp(served.directory, -1, calls);
  assertEquals(whole.signal, null);
  assert(whole.steps.length >= atLeast, whole.steps.join("\n"));
  const after = ownership(host);
  assert(JSON.stringify(after) !== JSON.stringify(before), "the bring-up changed nothing");
  assertEquals(host.restore().failed, []);
  assertEquals(ownership(host), before);
  let changed = 0;
  // Each death is a process: every fifth step in an ordinary run.
  const apart = 5 / rounds(5);
  for (let at = 0; at < whole.steps.length; at += apart) {
    const killed = await bringUp(served.directory, at, calls);
    assertEquals(killed.signal, "SIGKILL", whole.steps[at]);
    assertEquals(killed.steps, whole.steps.slice(0, at + 1));
    if (JSON.stringify(ownership(host)) !== JSON.stringify(before)) changed++;
    assertEquals(host.restore().failed, [], whole.steps[at]);
    assertEquals(ownership(host), before, `killed at step ${whole.steps[at]}`);
    assertEquals(host.journal(), [], whole.steps[at]);
  }
  assert(
    changed >= Math.floor(whole.steps.length / apart / 2),
    `${changed} of ${whole.steps.length} deaths left a change`,
  );
}

Deno.test(campaign("1.3 kill -9 at each step of bring-up, then restore from another process", async () => {
  await using served = await ServedHost.start();
  await killAtEachStep(served, [`bind=${PF}`, `sriov=${PF},2`, `bind=${VF}`, `bind=${RNG}`], 20);
}));

Deno.test(campaign("1.3 kill -9 at each step, on a host whose PF had VFs of different owners", async () => {
  await using served = await ServedHost.start();
  {
    using sysfs = new SocketSysfs(`${served.directory}/host.sock`);
    sysfs.writeText(`${DEVICES}/${PF}/sriov_numvfs`, "2");
    sysfs.writeText("/sys/bus/pci/drivers/virtio-pci/unbind", VF);
    sysfs.writeText(`${DEVICES}/${VF}/driver_override`, "pci-stub");
    sysfs.writeText("/sys/bus/pci/drivers_probe", VF);
  }
  await killAtEachStep(served, [`bind=${VF}`, `sriov=${PF},3`, `bind=${PF}`], 18);
}));

Deno.test(
  campaign("1.3 kill -9 at each step of a platform device's bring-up, beside a function's", async () => {
    await using served = await ServedHost.start();
    await killAtEachStep(served, [`bind=${PLATFORM_RNG}`, `bind=${RNG}`], 8);
  }),
);

Deno.test("a function that one process has open is not bound, restored or opened by another", async () => {
  await using served = await ServedHost.start();
  using host = served.connect();
  host.bind(RNG);
  const device = host.open(RNG);
  assertEquals([device.name, device.path], [RNG, "vfio-user"]);
  const error = await bringUp(served.directory, -1, [`bind=${RNG},pci-stub`]).catch((error) => error);
  assert(`${error}`.includes(`${RNG} is in use by pid ${Deno.pid}`), `${error}`);
  using other = openHost(served.directory);
  assert(other.describe(RNG).heldBy?.startsWith(`pid ${Deno.pid} `));
  assert(other.restore().failed.every((one) => one.error instanceof RefusedError));
  assertEquals(other.describe(RNG).driver, "vfio-pci");
  device.close();
  assertEquals(other.restore().failed, []);
  assertEquals(other.describe(RNG).driver, "virtio-pci");
});

Deno.test("1.8 an emulated host: what it refuses, what it finds, and that it says when it is gone", async () => {
  await using served = await ServedHost.start();
  using host = served.connect();
  const before = ownership(host);
  assertThrows(() => host.setVfCount(PF, 5), UsageError, "TotalVFs is 4");
  assertThrows(() => host.open(PF), UsageError, "is bound to virtio-pci");
  assertEquals(ownership(host), before);
  assert(host.examine().every((one) => one.state !== "problem"));
  served.child.kill("SIGKILL");
  await served.status;
  assertThrows(() => host.list(), PeerGoneError);
  assertThrows(() => openHost(served.directory), PeerGoneError, "has ended");
  const error = assertThrows(
    () => openHost(`${served.directory}/nothing`),
    Error,
    "is not the directory of an emulated host",
  );
  assert("hint" in error && `${error.hint}`.includes("ringside emulate"));
});
