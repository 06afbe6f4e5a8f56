import { assertEquals } from "@std/assert";
import type { MsiEntry } from "../../../../../lib/emulation/virtio/msi/entry.ts";
import type { ManagedDevice } from "../../../../../lib/emulation/virtio/management/managed_device.ts";
import { campaign, Random, rounds } from "../../../../random.ts";
import {
  ACK,
  aligned,
  BLOCK,
  CMD,
  type CommandName,
  ENTROPY,
  header,
  le,
  ManagementRig,
  NET,
  number,
  PACKED,
  RING_RESET,
  RULES,
  u16,
  u64,
  u8,
} from "./rig.ts"; // deno-fmt-ignore

const FRAMES = rounds(1_000_000);
const BLK_MQ = 1n << 12n, NET_MQ = 1n << 22n, CTRL_VQ = 1n << 17n;
const NAMES = Object.keys(CMD) as CommandName[];
/** Values at which fields change their meaning. */
const EDGES = [0, 1, 2, 3, 7, 8, 15, 16, 63, 64, 65, 128, 255, 256, 0x7fff, 0x8000, 0xffff] as const;

/** All that a driver can have set of a device, and what it would notice if it changed: as text, which is quick to compare. */
function stateOf(device: ManagedDevice): string {
  const { core, queueMsi, configMsi, share, id } = device;
  const msi = ({ message: { address, data }, enabled, masked, pending }: MsiEntry) =>
    `${address} ${data} ${enabled} ${masked} ${pending}`;
  const queues = core.queues.map((queue) => {
    const { index, size, enabled, addresses } = queue;
    const { available, used } = queue.state();
    return `${size} ${enabled} ${addresses} ${available} ${used} ${device.asid(index)} ${
      msi(queueMsi[index]!)
    }`;
  });
  return [id, share.virtqueues, core.status, core.driverFeatures, msi(configMsi), ...queues].join("\n");
}

function allOf({ model: { devices, resources } }: ManagementRig): string {
  return [Object.values(resources.available), ...[...devices.values()].map(stateOf)].join("\n\n");
}

/** A driver that knows the commands, and gets most of them nearly right. */
class Hostile {
  readonly rig: ManagementRig;
  readonly random: Random;
  /** Commands by the acknowledgement that they had; −1: there was no room for one. */
  readonly counts = new Map<number, number>();
  /** Commands so far. */
  frames = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
    this.rig = new ManagementRig({ virtqueues: 24, minQueues: 2, maxQueues: 9, devices: 5 });
  }

  #edge(): number {
    const { random } = this;
    return random.below(3) === 0 ? random.next() : random.pick(EDGES);
  }

  /** One that exists, mostly. */
  #device(): bigint {
    const { random, rig } = this;
    const ids = [...rig.model.devices.keys()];
    const some = random.below(12);
    if (some === 0) return 0n;
    if (some === 1) return BigInt(this.#edge()) << BigInt(random.below(33));
    return ids.length === 0 ? 1n : random.pick(ids);
  }

  #out(name: CommandName): number[] {
    const { random } = this;
    const queue = random.below(4) === 0 ? this.#edge() & 0xffff : random.below(3);
    const address = BigInt(this.#edge()) << BigInt(4 * random.below(9));
    switch (name) {
      case "create": {
        const [type, features] = random.pick(
          [
            [ENTROPY, 0n],
            [BLOCK, BLK_MQ],
            [NET, NET_MQ | CTRL_VQ],
            [NET, 0n],
            [this.#edge(), 0n],
          ] as const,
        );
        const more = random.below(4) === 0 ? 1n << BigInt(random.below(64)) : 0n;
        const config = random.below(3) === 0 ? random.bytes(random.below(300)) : [
          ...u64(random.below(4096)),
          ...le(random.below(5), 2),
          ...new Array(24).fill(0),
          ...u16(random.below(6)),
        ];
        return aligned.attribute(type, RULES | RING_RESET | PACKED | features ^ more, [...config]);
      }
      case "setFeatures":
        return u64(
          random.below(4) === 0
            ? BigInt(random.next()) << 12n
            : RULES | random.pick([0n, PACKED, RING_RESET]),
        );
      case "setStatus":
        return u8(random.pick([0, 1, 3, 11, 11, 15, 15, this.#edge() & 0xff]));
      case "getConfig":
      case "setConfig":
        return aligned.span(
          random.below(3) === 0 ? this.#edge() : random.below(64),
          random.pick([0, 1, 2, 4, 8, this.#edge()]),
          [...random.bytes(random.below(70))],
        ); // deno-fmt-ignore
      case "msiSet":
        return aligned.msi(queue, random.pick([0xfee0_0000n, address & ~3n, address]), this.#edge());
      case "configMsiSet":
        return aligned.configMsi(random.pick([0xfee0_0000n, address & ~3n, address]), this.#edge());
      case "configMsiEnable":
      case "configMsiMask":
        return u8(random.below(3));
      case "msiEnable":
      case "msiMask":
      case "setEnable":
        return aligned.byte(queue, random.below(20) === 0 ? this.#edge() & 0xff : random.below(2));
      case "setAddress": {
        const base = this.rig.fn.client.at(random.below(1 << 15) * 16);
        return random.below(3) === 0
          ? aligned.areas(queue, address, address + 4096n, address + 8192n)
          : aligned.areas(queue, base, base + 4096n, base + 8192n);
      }
      case "setSize":
        return aligned.word(queue, random.below(2) === 0 ? 2 ** random.below(8) : this.#edge() & 0xffff);
      case "setState":
        return aligned.state(queue, ...Array.from({ length: random.pick([1, 4]) }, () => random.pick(EDGES)));
      case "setAsid":
        return aligned.asid(queue, random.pick([0, 1, this.#edge()]));
      case "getEnable":
      case "getSize":
      case "getNotify":
      case "getState":
      case "reset":
        return u16(queue);
      default:
        return [];
    }
  }

  /** In up to six parts, wherever: in the middle of a header, an acknowledgement, or a field. */
  #cut(bytes: number): number[] {
    const cuts = Array.from({ length: this.random.below(6) }, () => this.random.below(bytes + 1));
    const at = [...new Set([0, ...cuts, bytes])].sort((a, b) => a - b);
    return at.slice(1).map((end, i) => end - at[i]!);
  }

  /** One command, and what must be true after it. */
  step(): void {
    const { random, rig } = this;
    const alive = rig.model.devices.size;
    let name = random.pick(NAMES);
    // So that there are devices most of the time.
    if (random.below(alive === 0 ? 2 : 20) === 0) name = "create";
    else if (name === "destroy" && random.below(alive) < 2) name = "setStatus";
    const [ofClass, command] = random.below(30) === 0 ? [random.below(20), random.below(8)] : CMD[name];
    const device = name === "availRes" || name === "create"
      ? (random.below(15) === 0 ? this.#device() : 0n)
      : this.#device();
    let readable = [...header(ofClass, command, device), ...this.#out(name)];
    if (random.below(8) === 0) readable = readable.slice(0, random.below(readable.length + 1));
    if (random.below(8) === 0) readable[random.below(readable.length || 1)] = random.below(256);
    const writable = random.below(8) === 0 ? random.below(24) : 80;
    // There is no chain without a descriptor.
    if (readable.length + writable === 0) return;
    const before = allOf(rig);
    const { ack, used } = random.below(3) === 0
      ? rig.raw(readable, writable, (bytes) => this.#cut(bytes))
      : rig.raw(readable, writable);
    if (writable < 8) {
      assertEquals([used, allOf(rig)], [writable, before], "no room to answer: not carried out");
    } else if (ack !== ACK.ok) {
      assertEquals(used, 8, "A-4.35");
      assertEquals(allOf(rig), before, `ERR leaves no trace (ack ${ack}, ${name})`);
    }
    this.frames++;
    this.counts.set(writable < 8 ? -1 : ack, (this.counts.get(writable < 8 ? -1 : ack) ?? 0) + 1);
    const { limits, available } = rig.model.resources;
    const devices = [...rig.model.devices.values()];
    const taken = devices.reduce((sum, { share }) => sum + share.virtqueues, 0);
    assertEquals(available.num_avail_vqs, limits.virtqueues - taken);
    assertEquals(
      taken <= limits.virtqueues && devices.length <= limits.devices,
      true,
      "no more is given than there is",
    );
    assertEquals(
      available.num_avail_mdev,
      Math.min(limits.devices - devices.length, Math.floor(available.num_avail_vqs / 2)),
    );
    assertEquals(rig.fn.status, 15, "a managed device's driver cannot stop the management device");
    if (rig.fn.port.reports.length > 64) rig.fn.port.reports.length = 0;
  }
}

Deno.test(
  campaign(
    `${FRAMES} hostile commands: every one is answered, ERR leaves no trace, and nothing is lost from the accounts`,
    () => {
      const each = 2500;
      const counts = new Map<number, number>();
      for (let done = 0, seed = 1; done < FRAMES; done += each, seed++) {
        const hostile = new Hostile(seed);
        try {
          while (hostile.frames < each) hostile.step();
          const { rig } = hostile;
          for (const id of rig.model.devices.keys()) assertEquals(rig.ack("destroy", id), ACK.ok);
          assertEquals(rig.resources, [24, 2, 9, 5]);
          for (const [ack, count] of hostile.counts) counts.set(ack, (counts.get(ack) ?? 0) + count);
        } finally {
          hostile.rig[Symbol.dispose]();
        }
      }
      // Each frame has its answer.
      assertEquals([...counts.values()].reduce((sum, count) => sum + count, 0), FRAMES);
      // It gets somewhere: more than a quarter is carried out, and every reason to refuse occurs.
      assertEquals((counts.get(ACK.ok) ?? 0) > FRAMES / 4, true, `${[...counts]}`);
      for (const [name, ack] of Object.entries(ACK)) {
        if (name !== "notNegotiated") assertEquals((counts.get(ack) ?? 0) > 0, true, name);
      }
    },
  ),
);

Deno.test("a device that was put into any state by any driver is as new after its reset", () => {
  const hostile = new Hostile(77);
  using rig = hostile.rig;
  for (let round = 0; round < 30; round++) {
    for (let i = 0; i < 100; i++) hostile.step();
    for (const [id, device] of rig.model.devices) {
      rig.ok("setStatus", id, u8(0));
      assertEquals([
        device.core.status,
        device.core.driverFeatures,
        device.configMsi.enabled,
        device.configMsi.masked,
      ], [0, 0n, false, false]); // deno-fmt-ignore
      for (const { index, maxSize } of device.core.queues) {
        assertEquals(Number(number(rig.ok("getSize", id, u16(index)))), maxSize);
        assertEquals([...rig.ok("getEnable", id, u16(index))], [0]);
        assertEquals([...rig.ok("getState", id, u16(index))], [0, 0]);
        const { queueMsi, core } = device;
        assertEquals([queueMsi[index]!.enabled, queueMsi[index]!.masked, device.asid(index), core.queues[index]!.descriptorArea], [false, false, 0, 0n]); // deno-fmt-ignore
      }
    }
  }
});
