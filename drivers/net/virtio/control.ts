/**
 * The control queue: commands that the device acknowledges (virtio 1.4 §5.1.6.5).
 *
 * @module
 */
import { DeviceError, UsageError } from "../../../lib/errors/mod.ts";
import {
  MAC_BYTES,
  NET_CTRL_ACK,
  NET_CTRL_CLASS,
  NET_CTRL_MAC,
  NET_CTRL_MQ,
  NET_CTRL_RX,
} from "../../../lib/virtio/spec/net.ts";
import { ACK_NOT_WRITTEN, ControlQueue } from "../../../lib/virtio/control/control_queue.ts";
import type { CommandSite } from "../../../lib/virtio/control/engine.ts";
import type { QueueState } from "../../../lib/virtio/spec/queue_state.ts";
import { usedBurst } from "../../../lib/virtio/queue/used_burst.ts";
import type { Virtqueue } from "../../../lib/virtio/queue/virtqueue.ts";
import type { ReceiveFilter, SavedRing } from "./saved.ts";

/** Of a command, class and command number included. */
const MOST_BYTES = 4032;

/** The commands of a network device. */
export class NetControl implements Disposable {
  /** Virtqueue number. */
  readonly index: number;
  readonly #name: string;
  readonly #queue: Virtqueue;
  readonly #control: ControlQueue;

  /**
   * Takes over a queue that is set up.
   * @param partsApart class and command, and each piece of the data, take a descriptor of their own: a legacy device without ANY_LAYOUT (virtio 1.4 §5.1,
   * "Legacy Interface: Framing Requirements") @throws ExhaustedError, SyscallError
   */
  constructor(site: CommandSite, queue: Virtqueue, timeoutMs: number, partsApart: boolean) {
    this.index = queue.index;
    this.#name = site.name;
    this.#queue = queue;
    this.#control = new ControlQueue(site, queue, timeoutMs, partsApart);
  }

  /**
   * Sends a command and waits for its acknowledgement. `data` are the structures that the command consists of, in their order.
   * @throws DeviceError (refused), TimeoutError (no answer: reset the device), UsageError (too long), ClosedError
   */
  async command(commandClass: number, command: number, ...data: readonly Uint8Array[]): Promise<void> {
    const head = Uint8Array.of(commandClass, command);
    const dataBytes = data.reduce((sum, one) => sum + one.length, 0);
    if (head.length + dataBytes > MOST_BYTES) {
      throw new UsageError(`${this.#name}: a control command of ${dataBytes} bytes`, {
        hint: `${MOST_BYTES - head.length} at most`,
      });
    }
    const what = `control command class ${commandClass} command ${command}`;
    const { ack } = await this.#control.send(what, head, data);
    if (ack === NET_CTRL_ACK.ok) return;
    throw new DeviceError(
      ack === NET_CTRL_ACK.err
        ? `the device refused ${what}`
        : ack === ACK_NOT_WRITTEN
        ? `the device returned without acknowledging ${what}`
        : `the device acknowledged ${what} with ${ack}`,
      { function: this.#name, queue: this.index, field: "ack" },
    );
  }

  /** Resolves when no command is under way or waits for its turn. */
  idle(): Promise<void> {
    return this.#control.idle();
  }

  /** Where the queue stands. The device must be stopped. @param device where the device says that it stands @throws DeviceError */
  save(device: QueueState | null): SavedRing {
    // The answer to a command that was given up may have come late.
    const used = usedBurst(1);
    while (this.#queue.takeUsed(used) > 0);
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

  /** Takes the command memory away. */
  [Symbol.dispose](): void {
    this.#control[Symbol.dispose]();
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
