import { assert, assertEquals } from "@std/assert";
import { RingsideError } from "../../../../lib/errors/mod.ts";
import type { Host } from "../../../../lib/host/host.ts";
import { fixture } from "../fixture.ts";
import { Crash, type FakeDriver, type FakeFunction } from "../sysfs/memory_sysfs.ts";
import { campaign, Random, rounds } from "../../../random.ts";

const CASES = rounds(3000);

const DRIVERS: readonly FakeDriver[] = [
  { name: "igb", ids: [0x10c9], sriov: true, isHostDriver: true },
  { name: "igbvf", ids: [0x10ca], isHostDriver: true },
  { name: "virtio-pci", ids: [0x1041], sriov: true, isHostDriver: true },
  { name: "vfio-pci", sriov: true },
  { name: "pci-stub" },
  { name: "refuses", takes: () => false },
  { name: "few-vfs", sriov: true, maxVfs: 1 },
];

function randomPf(
  random: Random,
  address: string,
  device: number,
  vfDevice: number,
  net: string,
): FakeFunction {
  const driver = random.pick(["igb", "virtio-pci", "vfio-pci", "pci-stub", ""]);
  const override = random.pick(["", "", driver, "vfio-pci"]);
  const numVfs = ["igb", "virtio-pci", "vfio-pci"].includes(driver) ? random.pick([0, 0, 1, 3]) : 0;
  const autoprobe = random.fraction() < 0.5;
  return { address, device, net, driver, override, sriov: { totalVfs: 4, vfDevice, numVfs, autoprobe } };
}

/** Any state that a host may be found in, VFs included. */
function randomHost(random: Random): ReturnType<typeof fixture> {
  const made = fixture({
    drivers: DRIVERS,
    functions: [
      randomPf(random, "0000:01:00.0", 0x10c9, 0x10ca, "ethA"),
      randomPf(random, "0000:02:00.0", 0x1041, 0x1041, "ethB"),
      {
        address: "0000:03:00.0",
        device: 0x1041,
        driver: random.pick(["", "virtio-pci", "vfio-pci"]),
        override: random.pick(["", "pci-stub"]),
      },
    ],
  });
  for (const address of made.sysfs.addresses.filter((name) => /:10\./.test(name))) {
    made.sysfs.set(address, {
      driver: random.pick(["", "igbvf", "vfio-pci", "pci-stub"]),
      override: random.pick(["", "vfio-pci", "igbvf"]),
    });
  }
  return made;
}

function randomCall(random: Random, host: Host, addresses: readonly string[]): void {
  const address = random.pick(addresses);
  const chance = random.fraction();
  if (chance < 0.45) {
    const driver = random.pick(DRIVERS).name;
    host.bind(address, random.fraction() < 0.5 ? {} : { driver });
  } else if (chance < 0.9) {
    const pf = random.pick(["0000:01:00.0", "0000:02:00.0"]);
    const options = random.fraction() < 0.6 ? {} : { driversAutoprobe: random.fraction() < 0.5 };
    host.setVfCount(pf, random.below(6), options);
  } else {
    host.restore(address);
  }
}

/** Runs `work` and lets the process die at its `at`-th step. @returns true when it died. */
function dieAt(
  made: ReturnType<typeof fixture>,
  at: number,
  tearAt: number | undefined,
  work: (host: Host) => void,
): boolean {
  let step = 0;
  using host = made.another({
    onStep: (name) => {
      if (step++ !== at) return;
      if (tearAt !== undefined && name === "before journal append") {
        made.store.tearAt = tearAt;
        made.sysfs.frozen = true;
        return;
      }
      made.sysfs.frozen = made.store.frozen = true;
      throw new Crash();
    },
  });
  try {
    work(host);
    // A restore reports what failed instead of throwing.
    return made.sysfs.frozen;
  } catch (error) {
    if (!made.sysfs.frozen) throw error;
    return true;
  } finally {
    made.sysfs.frozen = made.store.frozen = false;
    made.store.tearAt = undefined;
  }
}

function tolerate(work: () => void, frozen: () => boolean): void {
  try {
    work();
  } catch (error) {
    // A refused or failed call is part of the game; a dead process is not to go on.
    if (frozen() || !(error instanceof RingsideError)) throw error;
  }
}

Deno.test(campaign("1.5 random calls, death at a random step, restore: the tree is as it was", () => {
  let died = 0;
  let changed = 0;
  let diedInRestore = 0;
  for (let seed = 1; seed <= CASES; seed++) {
    const random = new Random(seed);
    using made = randomHost(random);
    const { sysfs, store } = made;
    const before = sysfs.snapshot();
    const calls = 1 + random.below(5);
    const at = random.below(40);
    const tearAt = random.fraction() < 0.3 ? random.below(400) : undefined;
    const dead = dieAt(made, at, tearAt, (host) => {
      for (let i = 0; i < calls; i++) {
        tolerate(() => randomCall(random, host, sysfs.addresses), () => sysfs.frozen);
      }
    });
    if (dead) died++;
    if (sysfs.snapshot() !== before) changed++;
    for (let attempt = 0; attempt < 2; attempt++) {
      if (dieAt(made, random.below(20), undefined, (host) => void host.restore())) diedInRestore++;
    }
    const report = made.host.restore();
    assertEquals(report.failed, [], `seed ${seed}`);
    assertEquals(sysfs.snapshot(), before, `seed ${seed}`);
    assertEquals(made.host.journal(), [], `seed ${seed}`);
    // All that may be left is a line that was torn before its change was begun.
    assert(!store.text.includes("\n"), `seed ${seed}: ${store.text}`);
    assertEquals(sysfs.violations, [], `seed ${seed}`);
    const writes = sysfs.writes.length;
    assertEquals(made.host.restore(), { done: [], unchanged: [], failed: [] });
    assertEquals(sysfs.writes.length, writes, "a second restore writes nothing");
  }
  // Else the cases above would not say anything.
  assert(
    died > CASES / 4 && changed > CASES / 4 && diedInRestore > CASES / 10,
    `${died} ${changed} ${diedInRestore}`,
  );
}));

Deno.test(campaign("1.5 a call that fails half-way leaves the tree and the journal as they were", () => {
  let failed = 0;
  for (let seed = 1; seed <= CASES; seed++) {
    const random = new Random(seed ^ 0x5eed);
    using made = randomHost(random);
    tolerate(() => randomCall(random, made.host, made.sysfs.addresses), () => false);
    const before = made.sysfs.snapshot();
    const journal = made.host.journal();
    try {
      randomCall(random, made.host, made.sysfs.addresses);
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
      failed++;
      assertEquals(made.sysfs.snapshot(), before, `seed ${seed}: ${error.message}`);
      assertEquals(made.host.journal(), journal, `seed ${seed}: ${error.message}`);
    }
  }
  assert(failed > CASES / 10, `${failed}`);
}));
