/**
 * A front end that sends whatever bytes it is told to, and an emulated machine with vhost-user devices for it, which runs when a message has been
 * sent.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { EventFd, makeDirectory, type OwnedFd, removeDirectory, UnixSocket } from "../../../../../ffi/mod.ts";
import { readTopology, type Violation } from "../../../../../lib/emulation/mod.ts";
import { EmulatedMachine } from "../../../../../lib/emulation/machine.ts";
import { createVirtioModels } from "../../../../../lib/emulation/virtio/models.ts";
import { DmaSpace } from "../../../../../lib/memory/mod.ts";
import {
  memRegion,
  memTable,
  MESSAGE_FLAG,
  messageHeader,
  REQUEST,
  u64Message,
  vringAddr,
  vringState,
} from "../../../../../lib/sockets/vhost_user/protocol.ts";
import { createVirtqueue } from "../../../../../lib/virtio/queue/create.ts";
import type { VirtioTransport } from "../../../../../lib/virtio/transport/transport.ts";
import type { Virtqueue } from "../../../../../lib/virtio/queue/virtqueue.ts";

/** A machine with these devices, each behind `<name>.sock` of a directory of its own. */
export class TestMachine implements Disposable {
  readonly directory = `/tmp/ringside-vhost-user-${crypto.randomUUID().slice(0, 8)}`;
  readonly machine: EmulatedMachine;
  readonly violations: Violation[] = [];

  /** @param devices as in a topology, each with a `name` */
  constructor(...devices: readonly Readonly<Record<string, unknown>>[]) {
    makeDirectory(this.directory, 0o700);
    const models = createVirtioModels();
    const vhostUser = devices.map((one) => ({ socket: `${this.directory}/${one.name}.sock`, ...one }));
    this.machine = new EmulatedMachine({
      topology: readTopology({ vhostUser }, models.kinds),
      models,
      directory: this.directory,
      onViolation: (violation) => this.violations.push(violation),
    });
  }

  /** Runs it until it is idle. */
  run(): void {
    while (this.machine.step() > 0);
  }

  /** What was noted since the last call. */
  takeViolations(): string[] {
    return this.violations.splice(0).map(({ function: where, rule, message }) =>
      `${where}: ${rule}: ${message}`
    );
  }

  [Symbol.dispose](): void {
    this.machine.close();
    removeDirectory(this.directory);
  }
}

/** What came back. */
export interface Reply {
  readonly request: number;
  readonly flags: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  /** The caller closes them. */
  readonly fds: OwnedFd[];
}

/** A message as bytes. @param size lies about the payload's size when given */
export function message(
  request: number,
  payload: Uint8Array = new Uint8Array(),
  options: { flags?: number; size?: number } = {},
): Uint8Array<ArrayBuffer> {
  const bytes = messageHeader.encode({
    request,
    flags: options.flags ?? MESSAGE_FLAG.version,
    payloadBytes: options.size ?? payload.byteLength,
  }, payload.byteLength);
  bytes.set(payload, messageHeader.sizeBytes);
  return bytes;
}

/** A front end of one device. */
export class RawFrontEnd implements Disposable {
  readonly socket: UnixSocket;
  readonly machine: TestMachine;
  readonly #bytes = new Uint8Array(new ArrayBuffer(8192));
  readonly #opened: Disposable[] = [];

  constructor(machine: TestMachine, name: string) {
    this.machine = machine;
    this.socket = UnixSocket.connect(`${machine.directory}/${name}.sock`);
    machine.run();
  }

  /** Sends, and lets the machine work. */
  send(bytes: Uint8Array<ArrayBuffer>, fds: readonly OwnedFd[] = []): void {
    this.socket.send(bytes, fds);
    this.machine.run();
  }

  /** The next reply; undefined: there is none; null: the back end has closed the connection. */
  receive(): Reply | null | undefined {
    const received = this.socket.receive(this.#bytes, { wait: false });
    if (received === undefined) return undefined;
    if (received.length === 0) return null;
    const { request, flags, payloadBytes } = messageHeader.decode(this.#bytes);
    assertEquals(received.length, messageHeader.sizeBytes + payloadBytes, "one reply at a time");
    return {
      request,
      flags,
      payload: this.#bytes.slice(messageHeader.sizeBytes, received.length),
      fds: received.fds,
    };
  }

  /** A request that has an answer of its own. */
  ask(request: number, payload: Uint8Array = new Uint8Array()): Uint8Array<ArrayBuffer> {
    this.send(message(request, payload));
    const reply = this.receive();
    if (!reply) {
      throw new Error(`request ${request}: ${reply === null ? "the connection was closed" : "no reply"}`);
    }
    assertEquals([reply.request, reply.flags], [request, MESSAGE_FLAG.version | MESSAGE_FLAG.reply]);
    for (const fd of reply.fds) fd.close();
    return reply.payload;
  }

  /** The same, where the answer is a number. */
  askNumber(request: number): bigint {
    return u64Message.decode(this.ask(request)).value;
  }

  /** A request without an answer. */
  tell(request: number, payload: Uint8Array, fds: readonly OwnedFd[] = []): void {
    this.send(message(request, payload), fds);
    assertEquals(this.receive(), undefined, `request ${request} was answered`);
  }

  /** The same with a number. */
  tellNumber(request: number, value: bigint, fds: readonly OwnedFd[] = []): void {
    this.tell(request, u64Message.encode({ value }), fds);
  }

  /** The same, and asks for an answer by REPLY_ACK. @returns 0: it was carried out */
  acknowledged(
    request: number,
    payload: Uint8Array = new Uint8Array(),
    fds: readonly OwnedFd[] = [],
  ): bigint {
    this.send(message(request, payload, { flags: MESSAGE_FLAG.version | MESSAGE_FLAG.needReply }), fds);
    const reply = this.receive();
    if (!reply) {
      throw new Error(`request ${request}: ${reply === null ? "the connection was closed" : "no reply"}`);
    }
    return u64Message.decode(reply.payload).value;
  }

  /** The back end has ended the connection, and says why in the list of violations. */
  assertClosed(): string {
    assertEquals(this.receive(), null, "the connection goes on");
    return this.machine.takeViolations().join("\n");
  }

  /** Memory, and rings in it, of which the back end is told with `start`. */
  driver(features: bigint): RawDriver {
    const driver = new RawDriver(this, features);
    this.#opened.push(driver);
    return driver;
  }

  /** Closes it, without a word. */
  leave(): void {
    this.socket.close();
    for (const one of this.#opened.splice(0)) one[Symbol.dispose]();
    this.machine.run();
  }

  [Symbol.dispose](): void {
    this.leave();
  }
}

/** Where user addresses of a raw driver are, from its guest addresses: nobody may take one for the other. */
export const USER_OFFSET = 0x7f00_0000_0000n;

interface Region {
  readonly guestAddress: bigint;
  readonly sizeBytes: bigint;
  readonly file: OwnedFd;
}

/** The driver behind a raw front end. */
export class RawDriver implements Disposable {
  readonly front: RawFrontEnd;
  readonly space: DmaSpace;
  readonly regions: Region[] = [];
  readonly kicks: EventFd[] = [];
  readonly calls: EventFd[] = [];
  readonly queues: Virtqueue[] = [];
  readonly #features: bigint;

  constructor(front: RawFrontEnd, features: bigint) {
    this.front = front;
    this.#features = features;
    const { regions } = this;
    this.space = new DmaSpace({
      name: "raw front end",
      needsFile: true,
      iovaRanges: [{ start: 0x10_0000n, last: 0xffff_ffffn }],
      pageSizes: 4096n,
      mapDma: (_memory, file, iova, sizeBytes) =>
        void regions.push({ guestAddress: iova, sizeBytes: BigInt(sizeBytes), file: file! }),
      unmapDma: (iova) => {
        regions.splice(regions.findIndex(({ guestAddress }) => guestAddress === iova), 1);
      },
    });
  }

  /** A queue in this driver's memory. */
  queue(index: number, size: number): Virtqueue {
    const kick = new EventFd();
    const transport = {
      name: "raw front end",
      profile: "spec",
      driverFeatures: this.#features,
      dma: this.space,
      legacy: false,
      fixedQueueSizes: false,
      queueMaxSize: () => 32768,
      enableQueue: () => {},
      doorbell: () => ({ ring: () => kick.signal() }),
    };
    const queue = createVirtqueue(transport as unknown as VirtioTransport, index, { size, maxSegments: 4 });
    this.kicks[index] = kick;
    this.calls[index] = new EventFd();
    this.queues[index] = queue;
    return queue;
  }

  /** SET_MEM_TABLE. */
  sendMemory(): void {
    const { regions } = this;
    const payload = memTable.encode({ count: regions.length }, regions.length * memRegion.sizeBytes);
    regions.forEach(({ guestAddress, sizeBytes }, i) =>
      memRegion.encodeInto(payload, memTable.sizeBytes + i * memRegion.sizeBytes, {
        guestAddress,
        sizeBytes,
        userAddress: guestAddress + USER_OFFSET,
        mmapOffset: 0n,
      })
    );
    this.front.tell(REQUEST.setMemTable, payload, regions.map(({ file }) => file));
  }

  /** NUM, BASE, ADDR, CALL and KICK of a queue. @param base where it begins; default: a fresh ring */
  start(index: number, base?: number): void {
    const queue = this.queues[index]!;
    const { descriptorArea, driverArea, deviceArea } = queue.addresses;
    const fresh = queue.layout === "packed" ? 0x8000_8000 : 0;
    this.front.tell(REQUEST.setVringNum, vringState.encode({ index, num: queue.size }));
    this.front.tell(REQUEST.setVringBase, vringState.encode({ index, num: base ?? fresh }));
    this.front.tell(
      REQUEST.setVringAddr,
      vringAddr.encode({
        index,
        descriptor: descriptorArea + USER_OFFSET,
        available: driverArea + USER_OFFSET,
        used: deviceArea + USER_OFFSET,
      }),
    );
    this.front.tellNumber(REQUEST.setVringCall, BigInt(index), [this.calls[index]!.fd]);
    this.front.tellNumber(REQUEST.setVringKick, BigInt(index), [this.kicks[index]!.fd]);
  }

  /** SET_VRING_ENABLE. */
  enable(index: number, num = 1): void {
    this.front.tell(REQUEST.setVringEnable, vringState.encode({ index, num }));
  }

  /** GET_VRING_BASE. */
  stop(index: number): number {
    return vringState.decode(this.front.ask(REQUEST.getVringBase, vringState.encode({ index }))).num;
  }

  [Symbol.dispose](): void {
    for (const queue of this.queues) queue?.close();
    for (const fd of [...this.kicks, ...this.calls]) fd?.close();
    this.space.close();
  }
}
