/**
 * A management device for tests of the driver: one transport virtqueue on a `ModelRing`, answered by what the test gives. It shares no code with the
 * emulated device, nor with the tables of the wire: bytes are read as the draft prints them.
 *
 * @module
 */
import {
  VirtioManagement,
  type VirtioManagementOptions,
} from "../../../../drivers/management/virtio_management.ts";
import { FakeTransport } from "../transport/fake_transport.ts";
import type { Chain } from "../queue/model_ring.ts";

/** A command as the device sees it. */
export interface SeenCommand {
  readonly deviceId: bigint;
  readonly class: number;
  readonly command: number;
  /** `class.command`. */
  readonly is: string;
  /** command-out-data. */
  readonly data: Uint8Array;
  /** Bytes of the device-writable part. */
  readonly writable: number;
}

/** What the device answers. */
export interface FakeAnswer {
  /** Default 0: OK. */
  readonly ack?: number;
  /** command-in-data. */
  readonly data?: Uint8Array;
  /** Used length; default: what was written. */
  readonly used?: number;
}

/** Answers, or holds the command. */
export type FakeAnswers = (command: SeenCommand) => FakeAnswer | undefined;

const VERSION_1 = 1n << 32n;
const EVENT_IDX = 1n << 29n;
const TRANSPT_VQ = 1n << 44n;
const TRANSPT_VQ_MDEV = 1n << 45n;

/** Little-endian numbers as bytes: `[2, 0x1234]` is a u16. */
export function bytes(
  ...numbers: readonly (readonly [width: 1 | 2 | 4 | 8, value: number | bigint])[]
): Uint8Array {
  const out: number[] = [];
  for (const [width, value] of numbers) {
    for (let at = 0; at < width; at++) out.push(Number(BigInt(value) >> BigInt(8 * at) & 0xffn));
  }
  return Uint8Array.from(out);
}

/** See the module's text. */
export class FakeManagement {
  readonly transport: FakeTransport;
  /** Commands so far. */
  readonly seen: SeenCommand[] = [];
  /** Commands that wait for `release`. */
  readonly held: { readonly command: SeenCommand; readonly chain: Chain }[] = [];
  answer: FakeAnswers;
  readonly #headerBytes: number;
  readonly #ackBytes: number;

  constructor(
    answer: FakeAnswers = () => ({}),
    options: { features?: bigint; deviceId?: number; tight?: boolean; vectors?: number } = {},
  ) {
    this.answer = answer;
    [this.#headerBytes, this.#ackBytes] = options.tight ? [12, 1] : [16, 8];
    this.transport = new FakeTransport({
      deviceId: options.deviceId ?? 63,
      features: options.features ?? VERSION_1 | EVENT_IDX | TRANSPT_VQ | TRANSPT_VQ_MDEV,
      queueSizes: [64],
      profile: "transport-vq",
      ...(options.vectors === undefined ? {} : { vectors: options.vectors }),
    });
    this.transport.onNotify = () => this.#take();
  }

  /** `class.command` of all so far. */
  get commands(): string[] {
    return this.seen.map(({ is }) => is);
  }

  /** Answers a held command, default the oldest. */
  release(answer: FakeAnswer = {}, at = 0): void {
    const [held] = this.held.splice(at, 1);
    if (held === undefined) throw new Error("no command is held");
    this.#write(held.chain, answer);
    this.transport.interrupt(0);
  }

  #take(): void {
    const ring = this.transport.ring(0);
    for (let chain; (chain = ring.pop()) !== undefined;) {
      const command = this.#read(chain);
      this.seen.push(command);
      const answer = this.answer(command);
      if (answer === undefined) this.held.push({ command, chain });
      else this.#write(chain, answer);
    }
    ring.availableEvent = ring.next;
    this.transport.interrupt(0);
  }

  #read({ parts }: Chain): SeenCommand {
    let readable = new Uint8Array(), writable = 0;
    for (const { iova, length, write } of parts) {
      if (write) writable += length;
      else {
        const { buffer, byteOffset } = this.transport.iommu.at(iova, length, false);
        readable = Uint8Array.from([...readable, ...new Uint8Array(buffer, byteOffset, length)]);
      }
    }
    if (readable.length < this.#headerBytes || writable < this.#ackBytes) {
      throw new Error(`4.2: a command of ${readable.length} and ${writable} bytes`);
    }
    const view = new DataView(readable.buffer);
    if (this.#headerBytes === 16 && view.getUint32(12, true) !== 0) throw new Error("4.2: reserved");
    const ofClass = view.getUint16(8, true), command = view.getUint16(10, true);
    return {
      deviceId: view.getBigUint64(0, true),
      class: ofClass,
      command,
      is: `${ofClass}.${command}`,
      data: readable.slice(this.#headerBytes),
      writable,
    };
  }

  #write(chain: Chain, { ack = 0, data = new Uint8Array(), used }: FakeAnswer): void {
    const answer = new Uint8Array(this.#ackBytes + data.length);
    answer[0] = ack;
    answer.set(data, this.#ackBytes);
    let at = 0;
    for (const { iova, length, write } of chain.parts) {
      if (!write) continue;
      const { buffer, byteOffset } = this.transport.iommu.at(iova, length, true);
      const part = answer.subarray(at, at + length);
      new Uint8Array(buffer, byteOffset, length).set(part);
      at += part.length;
    }
    this.transport.ring(0).push(chain.head, used ?? at);
  }
}

/** An opened management device that created device 7, of a type. The commands of that are not among those seen. */
export async function opened(
  answer: FakeAnswers = () => ({}),
  options: VirtioManagementOptions & { type?: number; tight?: boolean; vectors?: number } = {},
) {
  const { type = 1, tight = false, vectors, ...rest } = options;
  const device = new FakeManagement(
    () => ({ data: bytes([8, 7n]) }),
    vectors === undefined ? { tight } : { tight, vectors },
  );
  const management = await VirtioManagement.open(device.transport, rest);
  const managed = await management.create({ type, features: VERSION_1 });
  device.seen.length = 0;
  device.answer = answer;
  return {
    device,
    management,
    managed,
    [Symbol.asyncDispose]: async () => {
      management.close();
      await management.settled;
      device.transport.close();
    },
  };
}
