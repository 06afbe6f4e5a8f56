/**
 * A PF with administration queues, a driver that knows frames by their offsets only, and members that are register files.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { AdminController } from "../../../../../lib/emulation/virtio/admin/controller.ts";
import { ADMIN_FAMILY, LyingAdminController } from "../../../../../lib/emulation/virtio/lies/admin.ts";
import { parseLie } from "../../../../../lib/emulation/virtio/lies/lie.ts";
import type { GroupPlace } from "../../../../../lib/emulation/virtio/admin/engine.ts";
import type {
  GroupMember,
  MemberLegacy,
  MemberParts,
} from "../../../../../lib/emulation/virtio/admin/handler.ts";
import { PciView } from "../../../../../lib/emulation/virtio/views/pci/view.ts";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import type { DevicePart } from "../../../../../lib/virtio/spec/device_parts.ts";
import { FakeFunction } from "../fake_machine.ts";

/** VERSION_1, ACCESS_PLATFORM, SR_IOV, ADMIN_VQ. */
export const FEATURES: bigint = 1n << 32n | 1n << 33n | 1n << 37n | 1n << 41n;
/** Where the legacy common registers begin and end, the last two with MSI-X only. */
export const COMMON_FIELDS: readonly (readonly [number, number])[] = [
  [0, 4],
  [4, 8],
  [8, 12],
  [12, 14],
  [14, 16],
  [16, 18],
  [18, 19],
  [19, 20],
  [20, 22],
  [22, 24],
];
/** The same of the device-specific configuration. */
export const DEVICE_FIELDS: readonly (readonly [number, number])[] = [[0, 6], [6, 8], [8, 10], [10, 12]];

/** What the parts of a member may take: far more than they do. */
export const MOST_BYTES = 1000;

/** A VF that is two register files and a list of parts. */
export class FakeMember implements GroupMember, MemberLegacy, MemberParts {
  readonly name: string;
  readonly common = new Uint8Array(24);
  readonly device = new Uint8Array(12);
  msix = false;
  readonly notifyAreas: { bar: number; offset: number }[] = [{ bar: 4, offset: 0x4000 }];
  readonly notifications: number[] = [];
  stopped = false;
  current: DevicePart[];
  readonly legacy = this;
  readonly parts = this;

  constructor(index: number) {
    this.name = `VF ${index}`;
    this.common.forEach((_, i) => this.common[i] = 16 * index + i);
    this.device.forEach((_, i) => this.device[i] = 128 + 16 * index + i);
    this.current = [
      part(0x100, 0n, [1, 2, 3, 4, 5, 6, 7, index], 1),
      part(0x101, 0n, [8, 7, 6, 5, 4, 3, 2, index]),
      part(0x102, 16n, [index, 0]),
      part(0x103, 0n, [15]),
      part(0x104, 0n, new Array(32).fill(index)),
      part(0x104, 1n, new Array(32).fill(index + 1)),
    ];
  }

  isCommonField(offset: number, length: number): boolean {
    return within(this.msix ? COMMON_FIELDS : COMMON_FIELDS.slice(0, 8), offset, length);
  }
  isDeviceField(offset: number, length: number): boolean {
    return within(DEVICE_FIELDS, offset, length);
  }
  readCommon(offset: number, into: Uint8Array): void {
    into.set(this.common.subarray(offset, offset + into.length));
  }
  writeCommon(offset: number, from: Uint8Array): void {
    this.common.set(from, offset);
    if (offset === 16 && from.length === 2) this.notified(from[0]! | from[1]! << 8);
  }
  readDevice(offset: number, into: Uint8Array): void {
    into.set(this.device.subarray(offset, offset + into.length));
  }
  writeDevice(offset: number, from: Uint8Array): void {
    this.device.set(from, offset);
  }
  notified(index: number): void {
    this.notifications.push(index);
  }
  setStopped(stopped: boolean): void {
    this.stopped = stopped;
  }
  get(): readonly DevicePart[] {
    return this.current;
  }
  readonly mostBytes = MOST_BYTES;
  problemOf(parts: readonly DevicePart[]): string | undefined {
    return parts.some(({ type }) => type < 0x100 || type > 0x104) ? "an alien part" : undefined;
  }
  set(parts: readonly DevicePart[]): void {
    this.current = [...parts];
  }
}

export function part(type: number, selector: bigint, value: readonly number[], flags = 0): DevicePart {
  return { type, flags, selector, value: Uint8Array.from(value) };
}

function within(fields: readonly (readonly [number, number])[], offset: number, length: number): boolean {
  return fields.some(([from, to]) => offset >= from && offset + length <= to);
}

/** What the driver sees of an answer. */
export interface Answer {
  readonly status: number;
  readonly qualifier: number;
  /** Used length. */
  readonly used: number;
  /** What lies behind the status, up to the used length. */
  readonly result: Uint8Array;
  /** The whole device-writable part; 0xa5 where nothing was written. */
  readonly memory: Uint8Array;
}

/** OK and the errors that tests name. */
export const OK = [0, 0];
export const INVALID_OPCODE = [22, 2];
export const INVALID_FIELD = [22, 3];
export const INVALID_GROUP = [22, 4];
export const INVALID_MEMBER = [22, 5];

/** Status and qualifier. */
export const outcome = ({ status, qualifier }: Answer): number[] => [status, qualifier];

export interface Frame {
  readonly opcode: number;
  readonly group?: number;
  readonly member?: bigint;
  readonly data?: ArrayLike<number>;
  /** Bytes behind the status. */
  readonly room?: number;
}

export interface RigOptions {
  readonly queues?: number;
  readonly totalVfs?: number;
  readonly legacyVfs?: boolean;
  readonly legacyNotify?: "member" | "owner" | "both" | "none";
  readonly lie?: string;
}

interface Sent {
  readonly queue: number;
  readonly head: number;
  readonly at: number;
  readonly length: number;
}

const SELF = 0, SRIOV = 1;
const ARENA_BYTES = 1 << 20;
const CANARY = 0xa5;
const GAP = 8;

/** The PF and its driver. Queue 0 of the function is the entropy queue; administration queue n is queue n + 1. */
export class AdminRig implements Disposable {
  readonly controller: AdminController;
  readonly fn: FakeFunction;
  readonly members: FakeMember[] = [];
  readonly queues: number;
  readonly #places: GroupPlace[] = [];
  readonly #arena: number;
  #top = 0;
  #sent: Sent[] = [];

  constructor(options: RigOptions = {}) {
    const { queues = 2, totalVfs = 8, legacyVfs = true, legacyNotify = "member", lie } = options;
    this.queues = queues;
    const of = { queues, totalVfs, legacyVfs, legacyNotify };
    this.controller = lie === undefined
      ? new AdminController(of)
      : new LyingAdminController(of, parseLie(lie, ADMIN_FAMILY));
    const front = new PciView(new RngModel(), { sriov: totalVfs > 0, admin: this.controller });
    this.fn = new FakeFunction(front, "0000:01:00.0", 8 << 20);
    this.#arena = this.fn.client.allocate(ARENA_BYTES);
  }

  /** DRIVER_OK with all administration queues. */
  start(features = FEATURES): this {
    this.fn.bringUp(features & this.fn.offered, Array.from({ length: this.queues }, (_, i) => i + 1), 128);
    return this;
  }

  /** Device reset, and the same rings again: for tests that do it thousands of times. */
  restart(): void {
    this.fn.negotiate(FEATURES & this.fn.offered);
    for (const [index, ring] of this.fn.rings) {
      ring.client.bytes.fill(0, ring.desc, ring.used + 6 + 8 * ring.size);
      ring.free = ring.availIdx = ring.usedSeen = 0;
      this.fn.program(index, ring);
      this.fn.write(28, 2, 1);
    }
    this.fn.status = 15;
  }

  /** As the machine does it: the VFs first, then NumVFs. */
  enableVfs(count: number): this {
    for (let i = 0; i < count; i++) {
      this.members[i] = new FakeMember(i);
      this.#places[i] = this.controller.place(i);
      this.#places[i]!.join(this.members[i]!);
    }
    this.fn.behaviour.vfsEnabled!(count);
    return this;
  }

  disableVfs(): void {
    for (const place of this.#places.splice(0)) place.leave();
    this.members.length = 0;
    this.fn.behaviour.vfsEnabled!(0);
  }

  /** Puts a command into a ring, each part cut at these positions. It is not notified. */
  send(
    queue: number,
    readable: Uint8Array,
    writable: number,
    cuts: readonly number[] = [],
    writeCuts: readonly number[] = [],
  ): void {
    const { client } = this.fn;
    const at = this.#arena + this.#top;
    const answer = at + readable.length + GAP;
    this.#top += readable.length + writable + 2 * GAP;
    client.bytes.set(readable, at);
    client.bytes.fill(CANARY, answer, answer + writable + GAP);
    const parts = [
      ...pieces(at, readable.length, cuts).map(([from, length]) => ({ iova: client.at(from), length })),
      ...pieces(answer, writable, writeCuts).map(([from, length]) => ({
        iova: client.at(from),
        length,
        write: true,
      })),
    ];
    const ring = this.fn.rings.get(queue + 1)!;
    const head = ring.add(parts);
    ring.publish();
    this.#sent.push({ queue, head, at: answer, length: writable });
  }

  /** Lets the device work. @returns answers in the order in which the commands were sent */
  finish(): Answer[] {
    for (let queue = 0; queue < this.queues; queue++) this.fn.notify(queue + 1);
    this.fn.run();
    return this.collect();
  }

  /** The answers of everything that was sent; every command must have one. */
  collect(): Answer[] {
    const used = new Map<number, { id: number; length: number }[]>();
    for (let queue = 0; queue < this.queues; queue++) {
      used.set(queue, this.fn.rings.get(queue + 1)!.takeUsed());
    }
    const answers = this.#sent.map(({ queue, head, at, length }) => {
      const one = used.get(queue)!.shift();
      assertEquals(one?.id, head, "every queue answers, and in its order (N-3.6)");
      const { bytes, view } = this.fn.client;
      if (one!.length > length) throw new Error(`used length ${one!.length} of ${length} bytes`);
      for (let i = one!.length; i < length + GAP; i++) {
        if (bytes[at + i] !== CANARY) {
          throw new Error(`byte ${i} was written, the used length is ${one!.length}`);
        }
      }
      return {
        status: one!.length >= 2 ? view.getUint16(at, true) : 0,
        qualifier: one!.length >= 4 ? view.getUint16(at + 2, true) : 0,
        used: one!.length,
        result: bytes.slice(at + 8, at + Math.max(8, one!.length)),
        memory: bytes.slice(at, at + length),
      };
    });
    this.forget();
    return answers;
  }

  /** Gives up on commands in flight. */
  forget(): void {
    this.#sent = [];
    this.#top = 0;
  }

  /** One command in one descriptor each way. */
  command(frame: Frame, queue = 0): Answer {
    this.send(queue, encodeFrame(frame), 8 + (frame.room ?? 0));
    return this.finish()[0]!;
  }

  /** LIST_USE with everything that LIST_QUERY names. */
  useAll(group = SRIOV): this {
    const { result } = this.command({ opcode: 0, group, member: 0n, room: 8 });
    assertEquals(outcome(this.command({ opcode: 1, group, member: 0n, data: result })), OK);
    return this;
  }

  /** Both groups in use, and the driver's limits of DEV_PARTS objects at what the device offers. */
  useParts(): this {
    this.useAll(SELF).useAll(SRIOV);
    const { result } = this.command({
      opcode: 8,
      group: SELF,
      member: 0n,
      data: new Array(8).fill(0),
      room: 8,
    });
    const set = this.command({
      opcode: 9,
      group: SELF,
      member: 0n,
      data: [0, 0, 0, 0, 0, 0, 0, 0, ...result],
    });
    assertEquals(outcome(set), OK);
    return this;
  }

  /** What was reported since the last call, by rule. */
  rules(): string[] {
    return this.fn.port.reports.splice(0).map(({ rule }) => rule);
  }

  [Symbol.dispose](): void {
    this.fn[Symbol.dispose]();
  }
}

/** Device-readable part of a command, by offsets (reference 3.1). */
export function encodeFrame({ opcode, group = SRIOV, member = 1n, data = [] }: Frame): Uint8Array {
  const bytes = new Uint8Array(24 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, opcode, true);
  view.setUint16(2, group, true);
  view.setBigUint64(16, member, true);
  bytes.set(data, 24);
  return bytes;
}

/** Cuts [at, at + length): position and length of each piece. */
function pieces(at: number, length: number, cuts: readonly number[]): [number, number][] {
  if (length === 0) return [];
  const ends = [...new Set([...cuts.filter((cut) => cut > 0 && cut < length), length])].sort((a, b) => a - b);
  return ends.map((end, i) => [at + (ends[i - 1] ?? 0), end - (ends[i - 1] ?? 0)]);
}
