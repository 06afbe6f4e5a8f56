/**
 * The control queue: commands that the device acknowledges (virtio 1.4 §5.1.6.5).
 *
 * @module
 */
import { DeviceError, TimeoutError, UsageError } from "../../lib/errors/mod.ts";
import type { DmaMemory, DmaSpace } from "../../lib/memory/mod.ts";
import {
  MAC_BYTES,
  NET_CTRL_ACK,
  NET_CTRL_CLASS,
  NET_CTRL_MAC,
  NET_CTRL_MQ,
  NET_CTRL_RX,
} from "../../lib/virtio/constants/net.ts";
import type { QueueState } from "../../lib/virtio/queue/queue_state.ts";
import { usedBurst } from "../../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../../lib/virtio/queue/virtqueue.ts";
import type { Waiter } from "../../lib/virtio/waiter.ts";
import type { SavedRing } from "./saved.ts";

const MEMORY_BYTES = 4096;
const HEADER_BYTES = 2;
/** A cache line of its own for the one byte that the device writes. */
const ACK_AT = MEMORY_BYTES - 64;
const NOT_WRITTEN = 0xff;

/** Receive filters that are one byte: off or on. */
export type ReceiveFilter = "promisc" | "allmulti" | "alluni" | "nomulti" | "nouni" | "nobcast";

/** Sends one command at a time; those that are called meanwhile wait for their turn. */
export class ControlQueue implements Disposable {
  /** Virtqueue number. */
  readonly index: number;
  readonly #name: string;
  readonly #queue: Virtqueue;
  readonly #memory: DmaMemory;
  readonly #waiter: Waiter;
  readonly #timeoutMs: number;
  readonly #partsApart: boolean;
  readonly #used = usedBurst(1);
  #turn: Promise<void> = Promise.resolve();
  #stuck: TimeoutError | null = null;
  #pending = 0;

  /**
   * @param name function, for messages @param partsApart class and command, and each piece of the data, take a descriptor of their own: a legacy device
   * without ANY_LAYOUT (virtio 1.4 §5.1, "Legacy Interface: Framing Requirements") @throws ExhaustedError, SyscallError
   */
  constructor(
    name: string,
    queue: Virtqueue,
    dma: DmaSpace,
    waiter: Waiter,
    timeoutMs: number,
    partsApart = false,
  ) {
    this.index = queue.index;
    this.#name = name;
    this.#queue = queue;
    this.#memory = dma.allocate(MEMORY_BYTES, { label: "control commands" });
    this.#waiter = waiter;
    this.#timeoutMs = timeoutMs;
    this.#partsApart = partsApart;
  }

  /**
   * Sends a command and waits for its acknowledgement. `data` are the structures that the command consists of, in their order.
   * @throws DeviceError (refused), TimeoutError (no answer: reset the device), UsageError (too long), ClosedError
   */
  command(commandClass: number, command: number, ...data: readonly Uint8Array[]): Promise<void> {
    this.#pending++;
    const mine = this.#turn.then(() => this.#send(commandClass, command, data)).finally(() =>
      this.#pending--
    );
    // The next in line goes on whatever becomes of this one.
    this.#turn = mine.catch(() => {});
    return mine;
  }

  /** Resolves when no command is under way or waits for its turn. */
  async idle(): Promise<void> {
    while (this.#pending > 0) await this.#turn;
  }

  /** Where the queue stands. The device must be stopped. @param device where the device says that it stands @throws DeviceError */
  save(device: QueueState | null): SavedRing {
    // The answer to a command that was given up may have come late.
    while (this.#queue.takeUsed(this.#used) > 0);
    return { ring: this.#queue.save(device ?? undefined), device };
  }

  /** Turns a receive filter on or off (class 0). */
  setFilter(filter: ReceiveFilter, on: boolean): Promise<void> {
    return this.command(NET_CTRL_CLASS.rx, NET_CTRL_RX[filter], Uint8Array.of(on ? 1 : 0));
  }

  /** Sets the filter table: unicast and multicast addresses of 6 bytes each. */
  setMacTable(unicast: readonly Uint8Array[], multicast: readonly Uint8Array[]): Promise<void> {
    return this.command(NET_CTRL_CLASS.mac, NET_CTRL_MAC.tableSet, macTable(unicast), macTable(multicast));
  }

  /** Sets the device's own address. */
  setMac(mac: Uint8Array): Promise<void> {
    return this.command(NET_CTRL_CLASS.mac, NET_CTRL_MAC.addrSet, checkMac(mac));
  }

  /** Sets how many queue pairs the device uses. */
  setQueuePairs(pairs: number): Promise<void> {
    const data = new Uint8Array(2);
    new DataView(data.buffer).setUint16(0, pairs, true);
    return this.command(NET_CTRL_CLASS.mq, NET_CTRL_MQ.vqPairsSet, data);
  }

  /** Unmaps the command memory. The queue is its device's. */
  close(): void {
    this.#memory.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  async #send(commandClass: number, command: number, data: readonly Uint8Array[]): Promise<void> {
    if (this.#stuck !== null) throw this.#stuck;
    const dataBytes = data.reduce((sum, one) => sum + one.length, 0);
    if (HEADER_BYTES + dataBytes > ACK_AT) {
      throw new UsageError(`${this.#name}: a control command of ${dataBytes} bytes`, {
        hint: `${ACK_AT - HEADER_BYTES} at most`,
      });
    }
    const bytes = this.#memory.bytes();
    bytes[0] = commandClass;
    bytes[1] = command;
    const parts = this.#partsApart
      ? [HEADER_BYTES, ...data.map((one) => one.length)]
      : [HEADER_BYTES + dataBytes];
    let at = HEADER_BYTES;
    for (const one of data) {
      bytes.set(one, at);
      at += one.length;
    }
    bytes[ACK_AT] = NOT_WRITTEN;
    const { iova } = this.#memory;
    this.#queue.begin(parts.length, 1);
    at = 0;
    for (const lengthBytes of parts) {
      this.#segment(iova + BigInt(at), lengthBytes);
      at += lengthBytes;
    }
    this.#segment(iova + BigInt(ACK_AT), 1);
    this.#queue.commit();
    this.#queue.kick();

    const what = `control command class ${commandClass} command ${command}`;
    if (!await this.#waiter.wait(this.#queue, this.#timeoutMs)) {
      // The device still owns the memory, so no other command may go into it.
      this.#stuck = new TimeoutError(
        `${this.#name}, queue ${this.index}: ${what} was not answered in ${this.#timeoutMs} ms`,
        { hint: "reset the device" },
      );
      throw this.#stuck;
    }
    this.#queue.takeUsed(this.#used);
    const ack = this.#memory.bytes(ACK_AT, 1)[0];
    if (ack === NET_CTRL_ACK.ok) return;
    const answer = ack === NET_CTRL_ACK.err
      ? "the device refused"
      : ack === NOT_WRITTEN
      ? "the device returned without acknowledging"
      : `the device acknowledged ${what} with ${ack}`;
    throw new DeviceError(ack === NET_CTRL_ACK.err || ack === NOT_WRITTEN ? `${answer} ${what}` : answer, {
      function: this.#name,
      queue: this.index,
      field: "ack",
    });
  }

  #segment(iova: bigint, lengthBytes: number): void {
    this.#queue.segment(Number(iova & 0xffff_ffffn), Number(iova >> 32n), lengthBytes);
  }
}

/** `struct virtio_net_ctrl_mac`: how many, and then the addresses. */
function macTable(addresses: readonly Uint8Array[]): Uint8Array {
  const data = new Uint8Array(4 + MAC_BYTES * addresses.length);
  new DataView(data.buffer).setUint32(0, addresses.length, true);
  addresses.forEach((mac, at) => data.set(checkMac(mac), 4 + MAC_BYTES * at));
  return data;
}

/** @throws UsageError when it is not six bytes */
export function checkMac(mac: Uint8Array): Uint8Array {
  if (mac.length !== MAC_BYTES) throw new UsageError(`a MAC address of ${mac.length} bytes`);
  return mac;
}
