/** The driver's side of a transport virtqueue against replies that cannot be trusted. */
import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../../drivers/blk/virtio_blk.ts";
import {
  type ManagedDevice,
  ManagementCommandError,
  ManagementTimeoutError,
  TVQ_TIGHT_HEADER,
  VirtioManagement,
  type VirtioManagementOptions,
} from "../../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../../drivers/rng/virtio_rng.ts";
import { openFdCount } from "../../../../ffi/mod.ts";
import { ClosedError, DeviceError, RingsideError } from "../../../../lib/errors/mod.ts";
import { checkQueueState, type QueueState } from "../../../../lib/virtio/spec/queue_state.ts";
import type { ManagedTransport } from "../../../../lib/virtio/transport/managed.ts";
import { campaign, Random, rounds } from "../../../random.ts";
import { bytes, FakeManagement } from "./fake_management.ts";
import { HostileAnswers, plausible } from "./hostile_answers.ts";
import { ManagedModel } from "./managed_model.ts";
import { TestAreas, TestMsi } from "./test_areas.ts";

const CALLS = rounds(1_000_000);
const DRIVEN = rounds(400_000);
const VERSION_1 = 1n << 32n;
/** Of commands; what is held is given up after it. */
const TIMEOUT_MS = 2;

/** The device is honest here, but this machine may not be quick enough for the short time that commands have. */
async function patiently<T>(act: () => T | Promise<T>): Promise<T> {
  for (let tries = 1;; tries++) {
    try {
      return await act();
    } catch (error) {
      if (!(error instanceof ManagementTimeoutError) || tries === 1000) throw error;
    }
  }
}

/** Notes how calls end. Only errors of this library may come, and they say of whom they are. */
class Outcomes {
  readonly counts = new Map<string, number>();
  /** Something was not as it should be that may be the ring's fault. */
  suspect = false;

  note(name: string): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
  }

  error(error: unknown): void {
    if (!(error instanceof RingsideError)) throw error;
    this.note(error.name);
    if (error instanceof DeviceError) {
      const { function: whose, field } = error.location;
      assert(whose?.startsWith("fake 0") && field !== undefined, error.message);
      if (!(error instanceof ManagementCommandError)) this.suspect = true;
    }
  }

  require(least: number, names: readonly string[]): void {
    for (const name of names) {
      assert((this.counts.get(name) ?? 0) > least, `${name}: ${[...this.counts]}, ${least} wanted`);
    }
  }
}

function isU(value: number, bits: number): void {
  assert(Number.isInteger(value) && value >= 0 && value < 2 ** bits, `${value} in ${bits} bits`);
}

function isU64(value: bigint): void {
  assert(typeof value === "bigint" && value >= 0n && value < 1n << 64n);
}

/** Its own error would pass for one of a call. */
function isState(state: QueueState, size: number): void {
  try {
    checkQueueState(state, size);
  } catch (error) {
    throw new Error(`a state that cannot be was given: ${JSON.stringify(state)} of ${size}`, {
      cause: error,
    });
  }
}

/** What is known of a device's MSIs: what failed must not have changed it. */
function msiOf(device: ManagedDevice): string {
  const { configMsi } = device;
  return [0, 1, 7].map((queue) => device.queueMsi(queue)).concat(configMsi)
    .map(({ address, data, enabled, masked }) => `${address} ${data} ${enabled} ${masked}`).join("\n");
}

/** One command of a device, synchronous or not; its result is checked. */
async function command(random: Random, device: ManagedDevice): Promise<void> {
  const { now } = device;
  const queue = random.pick([0, 1, 7]);
  const size = random.pick([16, 64, 100]);
  switch (random.below(22)) {
    case 0:
      return isU64(now.features());
    case 1:
      return now.setDriverFeatures(BigInt(random.next()) << 20n);
    case 2:
      return isU64(now.driverFeatures());
    case 3:
      return now.setStatus(random.pick([0, 0, 1, 3, 11, 15]));
    case 4:
      return isU(now.status(), 8);
    case 5:
      return isU(await device.generation(), 8);
    case 6: {
      const length = random.below(random.below(20) === 0 ? 3000 : 70);
      return assertEquals(now.readConfig(random.below(64), length).length, length);
    }
    case 7:
      return now.writeConfig(random.below(64), random.bytes(random.below(200)));
    case 8:
      return now.setQueueMsi(queue, { address: BigInt(random.next()), data: random.next() });
    case 9:
      return now.enableQueueMsi(queue, random.below(2) === 0);
    case 10:
      return await device.maskQueueMsi(queue, random.below(2) === 0);
    case 11:
      return now.setConfigMsi({ address: BigInt(random.next()), data: random.next() });
    case 12:
      return random.below(2) === 0
        ? now.enableConfigMsi(random.below(2) === 0)
        : now.maskConfigMsi(random.below(2) === 0);
    case 13:
      return now.setQueueAreas(queue, { descriptorArea: 1n << 63n, driverArea: 4096n, deviceArea: 0n });
    case 14:
      return now.enableQueue(queue, random.below(2) === 0);
    case 15:
      return assertEquals(typeof now.queueEnabled(queue), "boolean");
    case 16:
      return random.below(2) === 0 ? now.setQueueSize(queue, size) : isU(now.queueSize(queue), 16);
    case 17: {
      const { address, sizeBytes } = now.notifyArea(queue);
      isU64(address);
      return isU64(sizeBytes);
    }
    case 18: {
      const layout = random.pick(["split", "packed"] as const);
      const state = now.queueState(queue, layout, size);
      return isState(state, size);
    }
    case 19:
      return now.setQueueState(queue, { layout: "split", availableIndex: random.below(0x10000) }, 64);
    case 20:
      return now.setQueueAsid(queue, random.below(2));
    default:
      return await device.resetQueue(queue);
  }
}

/** A management device that is driven, with everything that may happen to it. */
async function callsSession(
  random: Random,
  wanted: number,
  outcomes: Outcomes,
): Promise<[number, number, number]> {
  const tight = random.below(2) === 0;
  const device = new FakeManagement(undefined, { tight });
  const options: VirtioManagementOptions = {
    timeoutMs: TIMEOUT_MS,
    depth: random.pick([1, 8, 32]),
    layout: random.pick(["aligned", "packed"]),
    interrupts: "none",
    ...(tight ? { header: TVQ_TIGHT_HEADER } : {}),
  };
  let lastId = 0n;
  const alive = () => management.devices.map(({ id }) => id);
  const nextId = () => {
    const odd = random.below(10);
    if (odd === 0) return random.pick([0n, (1n << 64n) - 1n]);
    return odd === 1 && alive().length > 0 ? random.pick(alive()) : ++lastId;
  };
  const answers = new HostileAnswers(random, plausible(random, tight ? 1 : 8, nextId), tight);
  device.answer = answers.answer;
  const management = await patiently(() => VirtioManagement.open(device.transport, options));
  let broken = 0, sent = 0;

  const one = async (isAlone = false): Promise<void> => {
    const { devices } = management;
    const what = devices.length === 0 ? 0 : random.below(devices.length > 20 ? 30 : 60);
    if (what === 0) {
      const before = alive();
      const request = { type: random.below(5), features: VERSION_1, config: random.bytes(random.below(80)) };
      const made = random.below(2) === 0 ? management.createNow(request) : await management.create(request);
      assert(made.id !== 0n && !(isAlone && before.includes(made.id)));
      // Ids are those of one device each, whoever else was creating or destroying.
      assert(made.destroyed || management.devices.includes(made), `device ${made.id} is lost`);
    } else if (what === 1) {
      const { minQueues, maxQueues, queues, devices } = await management.resources();
      for (const value of [minQueues, maxQueues, queues, devices]) isU(value, 16);
      assert(minQueues <= maxQueues);
    } else if (what === 2 || what === 3) {
      const target = random.pick(devices);
      try {
        if (what === 2) management.destroyNow(target.id);
        else await management.destroy(target.id);
      } catch (error) {
        // What the device refused is there still, unless another call had it destroyed meanwhile.
        if (isAlone) assertEquals(target.destroyed, false);
        throw error;
      }
      assertEquals([target.destroyed, management.devices.includes(target)], [true, false]);
    } else if (what < 6) {
      const inBytes = random.below(random.below(10) === 0 ? 5000 : 64);
      const reply = management.executeNow({
        deviceId: BigInt(random.next()) << BigInt(random.below(33)),
        class: random.below(20),
        command: random.below(8),
        out: random.bytes(random.below(300)),
        inBytes,
      });
      assert(reply.length <= inBytes);
    } else {
      const target = random.pick(devices);
      await command(random, target);
    }
  };

  /** Alone, so that nothing else changes what is known. */
  const alone = async (): Promise<void> => {
    const before = management.devices.map((one) => [one, msiOf(one)] as const);
    const ids = alive();
    try {
      await one(true);
    } catch (error) {
      assertEquals(alive(), ids, "what failed changes nothing that is known");
      for (const [device, msi] of before) assertEquals(msiOf(device), msi);
      throw error;
    }
  };

  while (sent < wanted) {
    answers.oneIn = random.pick([2, 2, 5]);
    answers.heldOneIn = 1500;
    device.seen.length = 0;
    const batch = random.below(20) === 0 ? Array.from({ length: 10 }, () => one()) : [alone()];
    const lie = random.below(400) === 0;
    if (lie) answers.breakRing(device, random.below(64));
    for (const result of await Promise.allSettled(batch)) {
      if (result.status === "rejected") outcomes.error(result.reason);
      else outcomes.note("value");
    }
    sent += device.seen.length;
    answers.releaseSome(device);
    const { sent: all, succeeded, failed } = management.statistics;
    assert(succeeded + failed >= all - 1 - batch.length, "every command that was sent has ended");
    if (!lie && !outcomes.suspect && random.below(2500) > 0) continue;
    outcomes.suspect = false;
    const ringBroken = isBroken(management);
    if (ringBroken) broken++;
    if (!ringBroken && !lie && random.below(10) > 0) continue;
    device.held.length = 0;
    [answers.oneIn, answers.heldOneIn] = [Infinity, Infinity];
    const before = management.devices;
    await patiently(() => management.reset());
    // the devices are gone, and calls of them say so.
    assertEquals(management.devices, []);
    for (const gone of before) {
      assert(gone.destroyed);
      await gone.status().then(() => assert(false), (error) => assert(error instanceof ClosedError));
    }
    assertEquals((await patiently(() => management.resources())).queues, 64);
  }
  management.close();
  await management.settled;
  assertEquals(device.transport.iommu.mapped.length, 0);
  device.transport.close();
  return [sent, broken, answers.changed];
}

/** The same error twice means that the queue is broken. */
function isBroken(management: VirtioManagement): boolean {
  const errors = [0, 1].map(() => {
    try {
      return management.executeNow({ deviceId: 1n << 60n, class: 99, command: 0 });
    } catch (error) {
      return error;
    }
  });
  return errors[0] instanceof DeviceError && errors[0] === errors[1];
}

Deno.test(campaign(
  `${CALLS} commands to a hostile management device: values in range or typed errors, no hang, and a reset always helps`,
  async () => {
    const outcomes = new Outcomes();
    let sent = 0, broken = 0, changed = 0;
    for (let seed = 1; sent < CALLS; seed++) {
      const [more, breaks, changes] = await callsSession(
        new Random(seed),
        Math.min(CALLS - sent, 10_000),
        outcomes,
      );
      sent += more;
      broken += breaks;
      changed += changes;
    }
    assert(changed > sent / 3, `${changed} of ${sent} answers were hostile`);
    assert(broken > sent / 5000, `the ring broke ${broken} times`);
    const names = ["value", "DeviceError", "ManagementCommandError", "ManagementTimeoutError"];
    outcomes.require(sent / 20_000, names);
  },
));

const DRIVERS = { 1: VirtioNet, 2: VirtioBlk, 4: VirtioRng } as const;
const TYPES = [1, 2, 4] as const;

/** What a driver or its user does with a transport. */
async function use(random: Random, transport: ManagedTransport, driver: { reset(): unknown }): Promise<void> {
  const queue = random.pick([0, 0, 1, 2, 5]);
  switch (random.below(12)) {
    case 0:
      return isU(transport.readStatus(), 8);
    case 1:
      return isU64(transport.readDeviceFeatures());
    case 2:
      return isU(transport.readConfig(random.below(16), random.pick([1, 2, 4])), 32);
    case 3:
      return isU(transport.configGeneration(), 8);
    case 4: {
      const { size, enabled } = transport.queueView(queue);
      isU(size, 16);
      return assertEquals(typeof enabled, "boolean");
    }
    case 5:
      return transport.resetQueue(queue);
    case 6:
      transport.disableQueue(queue);
      return isState(transport.queueState.read(queue, "split", 16), 16);
    case 7:
      return transport.queueState.write(
        queue,
        { layout: "split", availableIndex: random.below(0x10000) },
        16,
      );
    case 8:
      return transport.doorbell(queue).ring(0, 0);
    case 9:
      return transport.setQueueVector(queue, random.pick([0, 1, null]));
    case 10:
      return isU(transport.queueCount, 11);
    default:
      return void await driver.reset();
  }
}

/** Opens a driver over a managed device, uses it, and closes it. */
async function driverSession(
  random: Random,
  management: VirtioManagement,
  answers: HostileAnswers,
  managed: ManagedDevice,
  outcomes: Outcomes,
): Promise<void> {
  answers.oneIn = random.pick([Infinity, 100, 30, 10, 3]);
  answers.heldOneIn = random.pick([Infinity, 300]);
  using transport = management.openTransport(managed.id) as ManagedTransport;
  const Driver = DRIVERS[managed.type as typeof TYPES[number]];
  const options = {
    interrupts: random.pick(["auto", "msix", "none"] as const),
    resetTimeoutMs: 2,
    queueSize: 16,
    ...(managed.type === 2 ? { depth: 4 } : {}),
  };
  try {
    const driver = await Driver.open(transport, options as never);
    outcomes.note(`open ${Driver.name}`);
    try {
      for (let i = random.below(12); i > 0; i--) {
        try {
          await use(random, transport, driver);
          outcomes.note("used");
        } catch (error) {
          outcomes.error(error);
        }
      }
    } finally {
      driver.close();
      await driver.settled;
    }
  } catch (error) {
    outcomes.error(error);
  }
}

Deno.test(campaign(
  `${DRIVEN} commands of drivers over managed devices that are hostile: typed errors, nothing left mapped, allotted or open`,
  async () => {
    const random = new Random(0x7171);
    const outcomes = new Outcomes();
    let models = new Map<bigint, ManagedModel>();
    let lastId = 0n;
    const device = new FakeManagement();
    const answers = new HostileAnswers(random, (command) => {
      if (command.is === "2.0") return { data: bytes([8, ++lastId]) };
      return models.get(command.deviceId)?.answer(command) ?? { ack: 3 };
    }, false);
    device.answer = answers.answer;
    const msi = new TestMsi(), notifyAreas = new TestAreas();
    const { available } = msi;
    const management = await patiently(() =>
      VirtioManagement.open(device.transport, {
        timeoutMs: TIMEOUT_MS,
        interrupts: "none",
        msi,
        notifyAreas,
      })
    );
    const mapped = device.transport.iommu.mapped.length, fds = openFdCount();
    let sent = 0;
    while (sent < DRIVEN) {
      device.seen.length = 0;
      [answers.oneIn, answers.heldOneIn] = [Infinity, Infinity];
      while (device.held.length > 0) answers.releaseOne(device);
      if (management.devices.length === 0) {
        models = new Map();
        for (const type of TYPES) {
          const { id } = await patiently(() => management.create({ type, features: VERSION_1 }));
          models.set(id, new ManagedModel());
        }
      }
      const managed = random.pick(management.devices);
      const model = new ManagedModel();
      // Long enough for every type; of a block device it says 4096 sectors.
      model.config = random.below(3) === 0 ? random.bytes(64) : new Uint8Array(64).fill(16, 1, 2);
      if (random.below(4) === 0) model.features |= 1n << BigInt(random.below(64));
      models.set(managed.id, model);
      await driverSession(random, management, answers, managed, outcomes);
      sent += device.seen.length;
      assertEquals(device.transport.iommu.mapped.length, mapped, "memory of a driver that is closed");
      assertEquals([msi.available, openFdCount()], [available, fds], "messages and their eventfds");
      if (random.below(200) === 0 || isLost(management, device, answers)) {
        device.held.length = 0;
        [answers.oneIn, answers.heldOneIn] = [Infinity, Infinity];
        await patiently(() => management.reset());
        outcomes.note("reset");
      }
    }
    outcomes.require(sent / 20_000, [
      ...Object.values(DRIVERS).map(({ name }) => `open ${name}`),
      ...["used", "DeviceError", "ManagementCommandError", "ManagementTimeoutError", "UnsupportedError"],
    ]);
    management.close();
    await management.settled;
    assertEquals(device.transport.iommu.mapped.length, 0);
    device.transport.close();
  },
));

/** A command that is not answered to the end holds its device's line: released, all goes on; a broken ring does not. */
function isLost(management: VirtioManagement, device: FakeManagement, answers: HostileAnswers): boolean {
  while (device.held.length > 0) answers.releaseOne(device);
  return isBroken(management);
}
