import { assert, assertEquals } from "@std/assert";
import type { ManagedDevice, VirtioManagement } from "../../../../drivers/management/virtio_management.ts";
import { DeviceError, RingsideError } from "../../../../lib/errors/mod.ts";
import { VirtioDevice } from "../../../../lib/virtio/device.ts";
import { campaign, Random, rounds } from "../../../random.ts";
import { bytes, type FakeAnswer, opened, type SeenCommand } from "./fake_management.ts";
import { ManagedModel } from "./managed_model.ts";

const COMMANDS = rounds(1_000_000);
const BRING_UPS = rounds(20_000);
/** Commands from one reset of the management device to the next. */
const LIFE = 5000;

const WIDE = [0n, 1n, 2n ** 63n, 2n ** 64n - 1n];

/** Every call that reads something of an answer, with what cannot come of it. */
const CALLS: readonly ((device: ManagedDevice, management: VirtioManagement, random: Random) => boolean)[] = [
  ({ now }) => now.features() < 1n << 64n,
  ({ now }) => now.driverFeatures() < 1n << 64n,
  ({ now }) => now.status() <= 0xff,
  ({ now }) => now.generation() <= 0xff,
  ({ now }, _, random) => {
    const size = random.below(40);
    return now.readConfig(random.below(300), size).length === size;
  },
  ({ now }, _, random) => now.writeConfig(random.below(300), random.bytes(random.below(20))) === undefined,
  ({ now }) => typeof now.queueEnabled(3) === "boolean",
  ({ now }) => now.queueSize(3) <= 0xffff,
  ({ now }) => now.notifyArea(3).sizeBytes < 1n << 64n,
  ({ now }) => {
    const state = now.queueState(3, "split", 8);
    return state.layout === "split" && state.availableIndex <= 0xffff;
  },
  ({ now }) => {
    const state = now.queueState(3, "packed", 8);
    return state.layout === "packed" && state.availableSlot < 8 && state.usedSlot < 8 && state.usedWrap <= 1;
  },
  ({ now }) => now.maskQueueMsi(3, true) === undefined,
  ({ now }) => now.setQueueAsid(3, 0) === undefined,
  (_, management) => {
    const { minQueues, maxQueues } = management.resourcesNow();
    return minQueues <= maxQueues;
  },
  (_, management) => {
    const { id } = management.createNow({ type: 4, features: 0n });
    // Else there would be thousands.
    management.execute({ deviceId: id, class: 2, command: 1 }).catch(() => {});
    return id !== 0n && id !== 7n;
  },
];

/** An answer of whatever length, of bytes that are likely to mean something. */
function anything(random: Random, { writable }: SeenCommand): FakeAnswer {
  const room = writable - 8;
  const data = random.below(4) === 0
    ? bytes([8, random.pick(WIDE)], [8, random.pick(WIDE)])
    : random.bytes(random.below(room + 9));
  const ack = random.below(3) === 0 ? random.below(256) : 0;
  // Less than was written, or more; but no more than there is room for, which ends everything.
  const used = random.below(4) === 0 ? random.below(writable + 1) : Math.min(writable, 8 + data.length);
  return { ack, data: data.subarray(0, room), used };
}

Deno.test(campaign(`${COMMANDS} commands answered with anything: typed errors, or what can be`, async () => {
  await using fixture = await opened();
  const { device, management } = fixture;
  const random = new Random(0x7a11);
  let managed = fixture.managed, succeeded = 0;
  for (let sent = 0; sent < COMMANDS; sent++) {
    device.answer = (command) => anything(random, command);
    device.seen.length = 0;
    try {
      assert(random.pick(CALLS)(managed, management, random), "a value that cannot be");
      succeeded++;
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
    }
    if (sent % LIFE !== LIFE - 1) continue;
    // More than there is room for: the ring is broken. Then all of it begins again.
    device.answer = () => ({ used: 0x1_0000 });
    let broken: unknown;
    try {
      managed.now.status();
    } catch (error) {
      broken = error;
    }
    assert(broken instanceof DeviceError, `${broken}`);
    device.answer = () => ({ data: bytes([8, 7n]) });
    await management.reset();
    managed = await management.create({ type: 1, features: 0n });
  }
  assert(succeeded > COMMANDS / 10 && succeeded < COMMANDS, `${succeeded} of ${COMMANDS} succeeded`);
  device.answer = () => ({ data: bytes([1, 15]) });
  assertEquals(await managed.status(), 15);
}));

Deno.test(
  campaign(
    `${BRING_UPS} bring-ups of a managed device, some answers of which are anything: it comes up, or fails with a typed error`,
    async () => {
      const random = new Random(0xb0b);
      const model = new ManagedModel();
      const area = { kind: "access", write: () => {} } as const;
      await using fixture = await opened(model.answer, { notifyAreas: { doorbell: () => area } });
      const { device, management } = fixture;
      let up = 0;
      for (let round = 0; round < BRING_UPS; round++) {
        // Some rounds are honest.
        const oneIn = random.pick([0, 5, 20, 100]);
        device.answer = (command) =>
          oneIn > 0 && random.below(oneIn) === 0 ? anything(random, command) : model.answer(command);
        device.seen.length = 0;
        const transport = management.openTransport(7n);
        const driven = new VirtioDevice(transport, { resetTimeoutMs: 2 });
        try {
          driven.negotiate();
          driven.createQueue(0, { size: 8 });
          driven.createQueue(1, { size: 8 });
          driven.driverOk();
          driven.readConsistent(() => transport.readConfig(0, 4));
          up++;
        } catch (error) {
          if (!(error instanceof RingsideError)) throw error;
        }
        driven.close();
        transport.close();
      }
      assert(up >= BRING_UPS / 8 && up < BRING_UPS, `${up} of ${BRING_UPS} came up`);
    },
  ),
);
