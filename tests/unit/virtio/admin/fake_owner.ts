/**
 * An owner device for tests of the driver: administration queues on `ModelRing`s, answered by what the test gives. It shares no code with the
 * emulated devices, and checks the frames that it gets.
 *
 * @module
 */
import { FakeTransport } from "../transport/fake_transport.ts";
import type { Chain } from "../queue/model_ring.ts";

/** A command as the device sees it. */
export interface SeenCommand {
  /** Administration queue, from 0. */
  readonly lane: number;
  readonly opcode: number;
  readonly groupType: number;
  readonly memberId: bigint;
  /** The whole device-readable part. */
  readonly readable: Uint8Array;
  /** Behind the header. */
  readonly data: Uint8Array;
  /** Bytes of the device-writable part. */
  readonly writable: number;
}

/** What the device answers. */
export interface FakeAnswer {
  readonly status?: number;
  readonly qualifier?: number;
  readonly result?: Uint8Array;
  /** Used length; default: what was written. */
  readonly used?: number;
  /** Everything that is written, in place of status and result. */
  readonly bytes?: Uint8Array;
}

interface Held {
  readonly command: SeenCommand;
  readonly chain: Chain;
}

export const FIRST = 2;
export const ADMIN_VQ = 1n << 41n;
export const VERSION_1 = 1n << 32n;
export const INDIRECT = 1n << 28n;
export const EVENT_IDX = 1n << 29n;
export const IN_ORDER = 1n << 35n;

/** le64 words as bytes. */
export function words(...values: readonly bigint[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, at) => view.setBigUint64(8 * at, value, true));
  return new Uint8Array(view.buffer);
}

/** Every opcode up to 0x0011. */
export const ALL_OPCODES = words((1n << 18n) - 1n);

/** See the module's text. */
export class FakeOwner {
  readonly transport: FakeTransport;
  /** Commands so far. */
  readonly seen: SeenCommand[] = [];
  /** Commands that wait for `release`. */
  readonly held: Held[] = [];
  /** Answers, or holds the command (undefined). */
  answer: (command: SeenCommand) => FakeAnswer | undefined;
  /** Raise interrupts when commands are returned. */
  interrupts = false;

  constructor(
    answer: (command: SeenCommand) => FakeAnswer | undefined = standardAnswer,
    options: { lanes?: number; features?: bigint; vectors?: number; size?: number; deviceId?: number } = {},
  ) {
    const lanes = options.lanes ?? 1;
    this.answer = answer;
    this.transport = new FakeTransport({
      deviceId: options.deviceId ?? 1,
      features: VERSION_1 | ADMIN_VQ | (options.features ?? INDIRECT | EVENT_IDX),
      queueSizes: [256, 256, ...new Array<number>(lanes).fill(options.size ?? 64)],
      adminQueues: { first: FIRST, count: lanes },
      ...(options.vectors === undefined ? {} : { vectors: options.vectors }),
    });
    this.transport.onNotify = (queue) => queue >= FIRST && this.take(queue - FIRST);
  }

  /** Takes and answers what is available in a queue. */
  take(lane: number): void {
    const ring = this.transport.ring(FIRST + lane);
    let returned = 0;
    for (let chain; (chain = ring.pop()) !== undefined;) {
      const command = this.#read(lane, chain);
      this.seen.push(command);
      const answer = this.answer(command);
      if (answer === undefined) this.held.push({ command, chain });
      else {
        this.#write({ command, chain }, answer);
        returned++;
      }
    }
    // 1.3: notify at the next one.
    if ((this.transport.driverFeatures & EVENT_IDX) !== 0n) ring.availableEvent = ring.next;
    if (returned > 0 && this.interrupts) this.transport.interrupt(FIRST + lane);
  }

  /** Answers a held command, default the oldest. */
  release(answer: FakeAnswer = {}, at = 0): SeenCommand {
    const [held] = this.held.splice(at, 1);
    if (held === undefined) throw new Error("no command is held");
    this.#write(held, answer);
    if (this.interrupts) this.transport.interrupt(FIRST + held.command.lane);
    return held.command;
  }

  /** Opcodes seen so far. */
  get opcodes(): number[] {
    return this.seen.map(({ opcode }) => opcode);
  }

  #read(lane: number, { parts }: Chain): SeenCommand {
    const readable: Uint8Array[] = [];
    let writable = 0;
    for (const { iova, length, write } of parts) {
      if (write) writable += length;
      else {
        const { buffer, byteOffset } = this.transport.iommu.at(iova, length, false);
        readable.push(new Uint8Array(buffer, byteOffset, length));
      }
    }
    const bytes = new Uint8Array(readable.reduce((sum, part) => sum + part.length, 0));
    let to = 0;
    for (const part of readable) {
      bytes.set(part, to);
      to += part.length;
    }
    if (bytes.length < 24 || writable < 8) {
      throw new Error(`N-3.3: a frame of ${bytes.length} and ${writable} bytes`);
    }
    const view = new DataView(bytes.buffer);
    for (let at = 4; at < 16; at++) if (bytes[at] !== 0) throw new Error(`3.1: reserved1 is ${bytes[at]}`);
    return {
      lane,
      opcode: view.getUint16(0, true),
      groupType: view.getUint16(2, true),
      memberId: view.getBigUint64(16, true),
      readable: bytes,
      data: bytes.slice(24),
      writable,
    };
  }

  #write({ command, chain }: Held, answer: FakeAnswer): void {
    const result = answer.result ?? new Uint8Array(0);
    let bytes = answer.bytes;
    if (bytes === undefined) {
      bytes = new Uint8Array(8 + result.length);
      new DataView(bytes.buffer).setUint16(0, answer.status ?? 0, true);
      new DataView(bytes.buffer).setUint16(2, answer.qualifier ?? 0, true);
      bytes.set(result, 8);
    }
    let at = 0;
    for (const { iova, length, write } of chain.parts) {
      if (!write) continue;
      const { buffer, byteOffset } = this.transport.iommu.at(iova, length, true);
      const part = bytes.subarray(at, at + length);
      new Uint8Array(buffer, byteOffset, length).set(part);
      at += part.length;
    }
    this.transport.ring(FIRST + command.lane).push(chain.head, answer.used ?? at);
  }
}

/** Lists everything, and answers OK to all else. */
export function standardAnswer({ opcode }: SeenCommand): FakeAnswer {
  return opcode === 0 ? { result: ALL_OPCODES } : {};
}
