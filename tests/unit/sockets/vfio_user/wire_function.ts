/** A virtio function of a machine in this process, driven message by message: what a third-party client does, with every register in sight. */
import { assertEquals } from "@std/assert";
import { type OwnedFd, UnixSocket } from "../../../../ffi/mod.ts";
import type { EmulatedMachine } from "../../../../lib/emulation/machine.ts";
import { STRUCTURES_BAR } from "../../../../lib/emulation/virtio/views/pci/layout.ts";
import { REGION } from "../../../../lib/vfio/device.ts";
import { COMMAND, MESSAGE_FLAG, messageHeader } from "../../../../lib/sockets/vfio_user/protocol.ts";
import type { DeviceQueueSetup } from "../../../../lib/emulation/virtio/queue/device_queue.ts";
import { message, type Reply, versionPayload } from "./raw_client.ts";
import { access } from "./server/bench.ts";

const DRIVER = 3, FEATURES_OK = 11, DRIVER_OK = 15;

export class WireFunction implements Disposable {
  readonly #machine: EmulatedMachine;
  readonly #socket: UnixSocket;
  readonly #into = new Uint8Array(1 << 17);

  constructor(machine: EmulatedMachine, path: string) {
    this.#machine = machine;
    this.#socket = UnixSocket.connect(path);
    assertEquals(this.call(COMMAND.version, versionPayload()).error, 0);
    // Memory space and bus master.
    this.set(4, 2, 6, REGION.config);
  }

  /** One message and its reply; commands of the server beside it are noted. */
  readonly call = (
    command: number,
    payload?: Uint8Array,
    fds: readonly OwnedFd[] = [],
  ): Pick<Reply, "error" | "payload"> => {
    this.#socket.send(message(command, payload), fds);
    this.#machine.step();
    const { length } = this.#socket.receive(this.#into, { wait: false })!;
    let reply: Pick<Reply, "error" | "payload"> | undefined;
    for (let at = 0; at < length;) {
      const { command: what, messageBytes, flags, errorNumber } = messageHeader.decode(
        this.#into.subarray(at),
      );
      const payload = this.#into.slice(at + messageHeader.sizeBytes, at + messageBytes);
      if ((flags & MESSAGE_FLAG.typeMask) === MESSAGE_FLAG.typeReply) {
        assertEquals([what, reply], [command, undefined]);
        reply = { error: errorNumber, payload };
      } else this.asked.push(what);
      at += messageBytes;
    }
    return reply!;
  };

  /** Commands of the server. */
  readonly asked: number[] = [];

  set(offset: number, width: number, value: number | bigint, region: number = STRUCTURES_BAR): void {
    const bytes = Array.from({ length: width }, (_, i) => Number(BigInt(value) >> BigInt(8 * i) & 0xffn));
    assertEquals(this.call(COMMAND.regionWrite, access(BigInt(offset), region, width, bytes)).error, 0);
  }

  /** Brings the function up. */
  start(features: bigint, queues: readonly DeviceQueueSetup[]): void {
    for (const status of [1, DRIVER]) this.set(20, 1, status);
    for (const half of [0, 1]) {
      this.set(8, 4, half);
      this.set(12, 4, features >> BigInt(32 * half) & 0xffff_ffffn);
    }
    this.set(20, 1, FEATURES_OK);
    for (const { index, size, descriptorArea, driverArea, deviceArea } of queues) {
      this.set(22, 2, index);
      this.set(24, 2, size);
      [descriptorArea, driverArea, deviceArea].forEach((iova, i) => {
        this.set(32 + 8 * i, 4, iova & 0xffff_ffffn);
        this.set(36 + 8 * i, 4, iova >> 32n);
      });
      this.set(28, 2, 1);
    }
    this.set(20, 1, DRIVER_OK);
  }

  [Symbol.dispose](): void {
    this.#socket.close();
    this.#machine.step();
  }
}
