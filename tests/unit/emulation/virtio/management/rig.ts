/**
 * A management function and a driver that knows its commands by offsets only: the independent half of these tests.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import type { DeviceKind } from "../../../../../lib/emulation/device_kind.ts";
import type { DeviceModel } from "../../../../../lib/emulation/device_model.ts";
import type { ManagementFields } from "../../../../../lib/emulation/mod.ts";
import { MANAGEMENT_KIND } from "../../../../../lib/emulation/virtio/management/kind.ts";
import type { ManagementModel } from "../../../../../lib/emulation/virtio/management/model.ts";
import { createVirtioModels, type VirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { RNG_KIND } from "../../../../../lib/emulation/virtio/rng/kind.ts";
import type { DeviceType } from "../../../../../lib/virtio/spec/device_type.ts";
import type { PciFunctionBehaviour } from "../../../../../lib/emulation/pci_function.ts";
import { FakeRing } from "../fake_client.ts";
import { FakePackedRing } from "../fake_packed_ring.ts";
import { FakeFunction } from "../fake_machine.ts";

/** VERSION_1, ACCESS_PLATFORM. */
export const RULES = 1n << 32n | 1n << 33n;
/** The two bits of the draft, at their placeholders. */
export const TRANSPT_VQ = 1n << 44n, TRANSPT_VQ_MDEV = 1n << 45n;
/** RING_PACKED, RING_RESET. */
export const PACKED = 1n << 34n, RING_RESET = 1n << 40n;
/** Virtio device ids. */
export const NET = 1, BLOCK = 2, CONSOLE = 3, ENTROPY = 4;

/** Acknowledgements, by the codes that the device's side of this library has. */
export const ACK = {
  ok: 0,
  command: 1,
  deviceId: 2,
  noDevice: 3,
  queue: 4,
  outData: 5,
  inData: 6,
  features: 7,
  config: 8,
  value: 9,
  state: 10,
  resources: 11,
  type: 12,
  notNegotiated: 13,
} as const;

/** Numbers of commands that tests name. */
export const CMD = {
  availRes: [1, 0],
  create: [2, 0],
  destroy: [2, 1],
  deviceFeatures: [3, 0],
  setFeatures: [3, 1],
  driverFeatures: [3, 2],
  setStatus: [4, 0],
  getStatus: [4, 1],
  generation: [5, 0],
  getConfig: [6, 0],
  setConfig: [6, 1],
  msiSet: [7, 0],
  msiEnable: [7, 1],
  msiMask: [7, 2],
  configMsiSet: [7, 3],
  configMsiEnable: [7, 4],
  configMsiMask: [7, 5],
  setAddress: [8, 0],
  setEnable: [9, 0],
  getEnable: [9, 1],
  setSize: [10, 0],
  getSize: [10, 1],
  getNotify: [11, 1],
  setState: [12, 0],
  getState: [12, 1],
  setAsid: [13, 1],
  reset: [14, 1],
} as const;

/** Name of a command. */
export type CommandName = keyof typeof CMD;

/** What the driver sees of an answer. */
export interface Answer {
  readonly ack: number;
  /** Used length. */
  readonly used: number;
  /** In-data that was written. */
  readonly data: Uint8Array;
}

/** Lengths of parts that are so many bytes together. */
export type Cut = (bytes: number) => readonly number[];

const CANARY = 0xa5;
const ARENA_BYTES = 1 << 16;
const GAP = 8;

/** A field of so many bytes, little-endian. */
export function le(value: number | bigint, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Number(BigInt(value) >> BigInt(8 * i) & 0xffn));
}

/** The reverse. */
export function number(bytes: Uint8Array, at = 0, length = bytes.length - at): bigint {
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[at + i]!);
  return value;
}

export const u8 = (value: number): number[] => le(value, 1);
export const u16 = (value: number): number[] => le(value, 2);
export const u32 = (value: number): number[] => le(value, 4);
export const u64 = (value: number | bigint): number[] => le(value, 8);

/** What the commands carry, in the aligned layout, by their offsets (reference 4.3). */
export const aligned = {
  attribute: (type: number, features: bigint, config: readonly number[] = []) => [
    ...u32(type),
    ...u32(0),
    ...u64(features),
    ...config,
  ],
  span: (
    offset: number,
    size: number,
    data: readonly number[] = [],
  ) => [...u32(offset), ...u32(size), ...data],
  msi: (queue: number, address: bigint, data: number) => [
    ...u16(queue),
    ...le(0, 6),
    ...u64(address),
    ...u32(data),
    ...u32(0),
  ],
  configMsi: (address: bigint, data: number) => [...u64(address), ...u32(data), ...u32(0)],
  byte: (queue: number, value: number) => [...u16(queue), value, ...le(0, 5)],
  word: (queue: number, value: number) => [...u16(queue), ...u16(value), ...u32(0)],
  areas: (queue: number, descriptor: bigint, device: bigint, driver: bigint) => [
    ...u16(queue),
    ...le(0, 6),
    ...u64(descriptor),
    ...u64(device),
    ...u64(driver),
  ],
  state: (queue: number, ...words: readonly number[]) => {
    const fields = [queue, ...words].flatMap(u16);
    return [...fields, ...le(0, 8 * Math.ceil(fields.length / 8) - fields.length)];
  },
  asid: (queue: number, asid: number) => [...u16(queue), ...u16(0), ...u32(asid)],
};

/** What a rig differs in from the default. */
export interface RigOptions extends ManagementFields {
  /** Features that the management device's driver accepts; default: both bits and what must be. */
  readonly accepted?: bigint;
  /** Of the machine; default: one of its own. */
  readonly models?: VirtioModels;
  /** Another address than 01:00.0. */
  readonly address?: string;
  /** Features of the management device that are not offered. */
  readonly featuresOff?: readonly string[];
  /** A lie of the management device. */
  readonly lie?: string;
  /** Features of the management device that are offered on demand. */
  readonly featuresOn?: readonly string[];
}

/** The function and its driver. Rings of managed devices lie in the same memory. */
export class ManagementRig implements Disposable {
  readonly models: VirtioModels;
  readonly model: ManagementModel;
  readonly fn: FakeFunction;
  readonly #arena: number;
  readonly #accepted: bigint;

  constructor({ accepted, models, address = "0000:01:00.0", ...own }: RigOptions = {}) {
    this.models = models ?? createVirtioModels();
    const front: PciFunctionBehaviour = this.models.createBehaviour("virtio-management", { address, ...own });
    this.fn = new FakeFunction(front, address, 4 << 20);
    this.fn.port.msixEnabled = true;
    this.model = this.models.of(MANAGEMENT_KIND).at(address)!;
    this.#arena = this.fn.client.allocate(ARENA_BYTES);
    this.#accepted = accepted ?? RULES | TRANSPT_VQ | TRANSPT_VQ_MDEV;
    this.start();
  }

  /** Reset and DRIVER_OK with the transport virtqueue. */
  start(): void {
    this.fn.bringUp(this.#accepted, [0], 64);
  }

  /**
   * One command, with a header of 16 bytes and an acknowledgement of 8. @param cut lengths of the descriptors that so many bytes are in; default: one each
   * way
   */
  raw(readable: ArrayLike<number>, writable: number, cut: Cut = (bytes) => bytes > 0 ? [bytes] : []): Answer {
    const { client } = this.fn;
    const at = this.#arena;
    const answer = at + readable.length + GAP;
    client.bytes.set(Array.from(readable), at);
    client.bytes.fill(CANARY, answer, answer + writable + GAP);
    const ring = this.fn.rings.get(0)!;
    const parts = ([[at, readable.length, false], [answer, writable, true]] as const).flatMap(
      ([from, bytes, write]) => {
        let next = from;
        return cut(bytes).map((length) => {
          const iova = client.at(next);
          next += length;
          return { iova, length, write };
        });
      },
    );
    const head = ring.add(parts);
    ring.publish();
    this.fn.notify(0);
    this.fn.run();
    const [used, more] = ring.takeUsed();
    assertEquals([used?.id, more], [head, undefined], "one answer");
    const { length } = used!;
    const bytes = client.bytes.slice(answer, answer + writable + GAP);
    for (let i = length; i < bytes.length; i++) {
      if (bytes[i] !== CANARY) throw new Error(`byte ${i} was written, the used length is ${length}`);
    }
    return { ack: bytes[0]!, used: length, data: bytes.slice(Math.min(8, length), length) };
  }

  /** A command by its name. @param room for in-data: more than any needs */
  command(name: CommandName, device: bigint | number = 0, out: readonly number[] = [], room = 64): Answer {
    const [ofClass, number] = CMD[name];
    return this.raw([...header(ofClass, number, device), ...out], 8 + room);
  }

  /** The same; it must succeed. @returns in-data */
  ok(name: CommandName, device: bigint | number = 0, out: readonly number[] = [], room = 64): Uint8Array {
    const { ack, data } = this.command(name, device, out, room);
    if (ack !== 0) throw new Error(`${name}: ack ${ack}: ${this.fn.port.take().join("; ")}`);
    return data;
  }

  /** Acknowledgement alone, and that there is no in-data with any but OK. */
  ack(name: CommandName, device: bigint | number = 0, out: readonly number[] = [], room = 64): number {
    const { ack, used } = this.command(name, device, out, room);
    if (ack !== 0) assertEquals(used, 8, "A-4.35");
    return ack;
  }

  /** A device; it must succeed. @returns its id */
  create(type: number, features = RULES, config: readonly number[] = []): bigint {
    return number(this.ok("create", 0, aligned.attribute(type, features, config)));
  }

  /** AVAIL_RES: num_avail_vqs, min_mdev_vqs, max_mdev_vqs, num_avail_mdev. */
  get resources(): number[] {
    const data = this.ok("availRes");
    return [0, 2, 4, 6].map((at) => Number(number(data, at, 2)));
  }

  status(device: bigint): number {
    return this.ok("getStatus", device)[0]!;
  }

  /** Reset to FEATURES_OK. */
  negotiate(device: bigint, features = RULES): void {
    for (const status of [0, 1, 3]) this.ok("setStatus", device, u8(status));
    this.ok("setFeatures", device, u64(features));
    this.ok("setStatus", device, u8(11));
    assertEquals(this.status(device), 11, "FEATURES_OK");
  }

  /** Size and areas of a queue. */
  program(device: bigint, queue: number, ring: FakeRing | FakePackedRing): void {
    const { descriptorArea, deviceArea, driverArea } = ring.setup();
    this.ok("setSize", device, aligned.word(queue, ring.size));
    this.ok("setAddress", device, aligned.areas(queue, descriptorArea, deviceArea, driverArea));
  }

  /** Programs and enables a queue. */
  enable(device: bigint, queue: number, ring: FakeRing = new FakeRing(this.fn.client, 16)): FakeRing {
    this.program(device, queue, ring);
    this.ok("setEnable", device, aligned.byte(queue, 1));
    return ring;
  }

  /** Programs and enables a packed queue. */
  enablePacked(device: bigint, queue: number): FakePackedRing {
    const ring = new FakePackedRing(this.fn.client, 16);
    this.program(device, queue, ring);
    this.ok("setEnable", device, aligned.byte(queue, 1));
    return ring;
  }

  /** An entropy device that runs, with its queue. */
  entropy(features = RULES): { id: bigint; ring: FakeRing } {
    const id = this.create(ENTROPY, features);
    this.negotiate(id, features);
    const ring = this.enable(id, 0);
    this.ok("setStatus", id, u8(15));
    return { id, ring };
  }

  /** Offers a buffer to an entropy device and lets it work. @returns bytes that it gave */
  draw(ring: FakeRing, length = 32): number {
    const at = this.fn.client.allocate(length);
    ring.add([{ iova: this.fn.client.at(at), length, write: true }]);
    ring.publish();
    // The same as a doorbell: the device looks when something happens to it.
    for (const device of this.model.devices.values()) device.wake();
    this.fn.run();
    return ring.takeUsed().reduce((sum, used) => sum + used.length, 0);
  }

  /** What was reported since the last call, by rule. */
  rules(): string[] {
    return this.fn.port.reports.splice(0).map(({ rule }) => rule);
  }

  [Symbol.dispose](): void {
    this.fn[Symbol.dispose]();
  }
}

/** Virtio device id of what `rigWith` adds. */
export const OWN_TYPE = 58;
const OWN: DeviceType = { id: OWN_TYPE, prefix: "", featureBits: {}, config: {} };

/** A rig whose management device can create a device of the test's own besides, of type `OWN_TYPE`. */
export function rigWith(model: () => DeviceModel, options: RigOptions = {}): ManagementRig {
  const kind: DeviceKind = {
    name: "own",
    type: OWN,
    fields: {},
    managed: () => ({}),
    devices: () => ({ model }),
  };
  return new ManagementRig({ ...options, models: createVirtioModels([MANAGEMENT_KIND, RNG_KIND, kind]) });
}

/** device_id le64, class le16, command le16, 4 reserved (reference 4.2). */
export function header(ofClass: number, command: number, device: bigint | number): number[] {
  return [...u64(device), ...u16(ofClass), ...u16(command), ...u32(0)];
}
