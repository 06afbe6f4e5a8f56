/**
 * What a PF must answer to an administration command: a second reading of the rules (reference 3.1–3.6), from bytes and numbers, that shares
 * nothing with the device.
 *
 * @module
 */
import { COMMON_FIELDS, DEVICE_FIELDS, MOST_BYTES } from "./rig.ts";

interface OraclePart {
  type: number;
  flags: number;
  selector: bigint;
  value: number[];
}

interface OracleMember {
  common: number[];
  device: number[];
  msix: boolean;
  stopped: boolean;
  parts: OraclePart[];
  /** Kind by id. */
  objects: Map<number, number>;
}

type Expected = [status: number, qualifier: number, result?: number[], exact?: true];

const EINVAL = 22, NOTHING: number[] = [];
const INVALID_FIELD: Expected = [EINVAL, 3];
const OPCODES = [[0, 1, 7, 8, 9], [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 17]] as const;
/** Objects of each kind that the device lets a member have. */
const DEVICE_LIMIT = 16;

/** The state that a driver can change, and the answers that follow from it. Notify addresses: the member's 4:0x4000, then the owner's. */
export class Oracle {
  members: OracleMember[] = [];
  inUse: [Set<number>, Set<number>] = [new Set([0, 1]), new Set([0, 1])];
  limits: [get: number, set: number] = [0, 0];

  reset(): void {
    this.inUse = [new Set([0, 1]), new Set([0, 1])];
    this.limits = [0, 0];
    for (const one of this.members) one.objects.clear();
  }

  /** The answer in bytes, before it is cut to the driver's buffer. */
  answer(bytes: Uint8Array, writable: number): number[] {
    const [status, qualifier, result = NOTHING, exact] = this.#judge(bytes, Math.max(0, writable - 8));
    const padding = exact ? 0 : (8 - result.length % 8) % 8;
    return [status & 255, status >> 8, qualifier, 0, 0, 0, 0, 0, ...result, ...new Array(padding).fill(0)];
  }

  #judge(frame: Uint8Array, room: number): Expected {
    const at = (i: number) => i < frame.length ? frame[i]! : 0;
    const opcode = at(0) + 256 * at(1), group = at(2) + 256 * at(3);
    if (group > 1 || (group === 1 && this.members.length === 0)) return [EINVAL, 4];
    const list = this.inUse[group as 0 | 1];
    if (!list.has(opcode)) return [EINVAL, 2];
    if (opcode === 0) {
      const result = new Array(8).fill(0);
      for (const one of OPCODES[group]!) result[one >> 3] |= 1 << one % 8;
      return [0, 0, result];
    }
    if (opcode === 1) {
      const named: number[] = [];
      for (let i = 24; i < Math.min(frame.length, 24 + 8192); i++) {
        for (let bit = 0; bit < 8; bit++) if (at(i) & 1 << bit) named.push(8 * (i - 24) + bit);
      }
      if (!named.every((one) => (OPCODES[group]! as readonly number[]).includes(one))) return INVALID_FIELD;
      this.inUse[group as 0 | 1] = new Set(named);
      return [0, 0];
    }
    const high = [18, 19, 20, 21, 22, 23].some((i) => at(i) !== 0);
    const id = at(16) + 256 * at(17);
    if (group === 0) return high || id !== 0 ? [EINVAL, 5] : this.#capability(opcode, (i) => at(24 + i));
    if (high || id < 1 || id > this.members.length) return [EINVAL, 5];
    const data = (i: number) => at(24 + i), size = Math.max(0, frame.length - 24);
    const member = this.members[id - 1]!;
    if (opcode < 6) return this.#legacy(opcode, member, data, size, room);
    if (opcode === 6) {
      return [0, 0, [
        2,
        4,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0x40,
        ...zeros(6),
        1,
        4,
        ...zeros(6),
        2 * (id - 1),
        0x40,
        ...zeros(38),
      ]];
    }
    if (opcode === 17) {
      if (data(0) > 1) return INVALID_FIELD;
      member.stopped = data(0) === 1;
      return [0, 0];
    }
    return opcode < 14 ? this.#object(opcode, member, data) : this.#parts(opcode, member, data, size, room);
  }

  #capability(opcode: number, data: (i: number) => number): Expected {
    if (opcode === 7) return [0, 0, [1, ...zeros(7)]];
    if (data(0) !== 0 || data(1) !== 0) return [6, 3];
    if (opcode === 8) return [0, 0, [DEVICE_LIMIT, DEVICE_LIMIT]];
    const get = data(8), set = data(9);
    if (get > DEVICE_LIMIT || set > DEVICE_LIMIT) return INVALID_FIELD;
    for (const { objects } of this.members) {
      const kinds = [...objects.values()];
      if (
        kinds.filter((kind) => kind === 0).length > get || kinds.filter((kind) => kind === 1).length > set
      ) return [16, 1];
    }
    this.limits = [get, set];
    return [0, 0];
  }

  #legacy(
    opcode: number,
    member: OracleMember,
    data: (i: number) => number,
    size: number,
    room: number,
  ): Expected {
    const common = opcode < 4, reads = opcode % 2 === 1;
    const offset = data(0), width = reads ? room : Math.max(0, size - 8);
    const fields = !common
      ? DEVICE_FIELDS
      : member.msix
      ? COMMON_FIELDS
      : COMMON_FIELDS.filter(([from]) => from < 20);
    const single = width > 0 && fields.some(([from, to]) => from <= offset && offset + width <= to);
    if (!single) return INVALID_FIELD;
    const file = common ? member.common : member.device;
    if (reads) return [0, 0, file.slice(offset, offset + width), true];
    for (let i = 0; i < width; i++) file[offset + i] = data(8 + i);
    return [0, 0];
  }

  #object(opcode: number, { objects }: OracleMember, data: (i: number) => number): Expected {
    const type = data(0) + 256 * data(1), id = word(data, 4), kind = data(16);
    const full = () =>
      [...objects.values()].filter((one) => one === kind).length >= this.limits[kind as 0 | 1];
    if (opcode === 10) {
      if (type !== 0 || kind > 1) return INVALID_FIELD;
      if (objects.has(id)) return [17, 3];
      if (full()) return [28, 6];
      objects.set(id, kind);
      return [0, 0];
    }
    if (type !== 0 || !objects.has(id)) return [6, 3];
    if (opcode === 12) return [0, 0, [objects.get(id)!, ...zeros(7)]];
    if (opcode === 13) objects.delete(id);
    else if (kind > 1) return INVALID_FIELD;
    else if (kind !== objects.get(id)) {
      if (full()) return [28, 6];
      objects.set(id, kind);
    }
    return [0, 0];
  }

  #parts(
    opcode: number,
    member: OracleMember,
    data: (i: number) => number,
    size: number,
    room: number,
  ): Expected {
    const kind = data(0) + 256 * data(1) === 0 ? member.objects.get(word(data, 4)) : undefined;
    if (kind === undefined) return [6, 3];
    if (kind !== (opcode === 16 ? 1 : 0)) return INVALID_FIELD;
    if (opcode === 16) return setParts(member, data, size);
    const wanted = data(8);
    const { parts } = member;
    if (opcode === 14) {
      if (wanted > 2) return INVALID_FIELD;
      const value = wanted === 0 ? MOST_BYTES : parts.length;
      const result = [
        ...le(value, 4),
        ...zeros(4),
        ...(wanted === 2 ? parts.flatMap((one) => encode(one).slice(0, 16)) : []),
      ];
      return result.length > room ? [12, 6] : [0, 0, result];
    }
    if (wanted === 1) return [0, 0, parts.flatMap(encode)];
    if (wanted !== 0) return INVALID_FIELD;
    const chosen = new Set<OraclePart>();
    for (let i = 16; i < size; i += 16) {
      const type = data(i) + 256 * data(i + 1);
      const selector = Array.from({ length: 8 }, (_, k) => BigInt(data(i + 4 + k)) << BigInt(8 * k)).reduce((
        a,
        b,
      ) => a | b);
      // Bits of the selector that mean something, by type.
      const mask = [0n, 0n, 0xffff_ffffn, 0n, 0xffffn, 0xffffn][type - 0x100] ?? (1n << 64n) - 1n;
      for (const one of parts) {
        if (one.type === type && ((one.selector ^ selector) & mask) === 0n) chosen.add(one);
      }
    }
    return [0, 0, parts.filter((one) => chosen.has(one)).flatMap(encode)];
  }
}

function setParts(member: OracleMember, data: (i: number) => number, size: number): Expected {
  if (!member.stopped) return [16, 1];
  const parts: OraclePart[] = [];
  let i = 8;
  while (i < size) {
    const rest = Array.from({ length: Math.min(8, size - i) }, (_, k) => data(i + k));
    if (rest.length < 8 && rest.every((byte) => byte === 0)) break;
    if (i + 16 > size) return INVALID_FIELD;
    const length = word(data, i + 12);
    if (i + 16 + length > size) return INVALID_FIELD;
    parts.push({
      type: data(i) + 256 * data(i + 1),
      flags: data(i + 2),
      selector: BigInt(word(data, i + 4)) | BigInt(word(data, i + 8)) << 32n,
      value: Array.from({ length }, (_, k) => data(i + 16 + k)),
    });
    i += 16 + length;
  }
  if (parts.some(({ type }) => type < 0x100 || type > 0x104)) return INVALID_FIELD;
  member.parts = parts;
  return [0, 0];
}

/** `virtio_dev_part`. */
export function encode(
  { type, flags, selector, value }: Omit<OraclePart, "value"> & { value: ArrayLike<number> },
): number[] {
  return [
    ...le(type, 2),
    flags,
    0,
    ...le(Number(selector & 0xffff_ffffn), 4),
    ...le(Number(selector >> 32n), 4),
    ...le(value.length, 4),
    ...Array.from(value),
  ];
}

export function le(value: number, bytes: number): number[] {
  return Array.from({ length: bytes }, (_, i) => Math.floor(value / 256 ** i) & 0xff);
}

function word(data: (i: number) => number, at: number): number {
  return data(at) + 256 * data(at + 1) + 65536 * data(at + 2) + 16777216 * data(at + 3);
}

function zeros(count: number): number[] {
  return new Array(count).fill(0);
}
