/**
 * What commands set in a network device: addresses, filters, queue pairs (virtio 1.4 §5.1.6.5). Kept for `VirtioNet.suspend`.
 *
 * @module
 */
import { DeviceError, UsageError } from "../../../lib/errors/mod.ts";
import { ACK_NOT_WRITTEN, type ControlQueue } from "../../../lib/virtio/control/control_queue.ts";
import type { VirtioDevice } from "../../../lib/virtio/device.ts";
import { usedBurst } from "../../../lib/virtio/queue/used_burst.ts";
import {
  formatMac,
  MAC_BYTES,
  NET_CTRL_ACK,
  NET_CTRL_CLASS,
  NET_CTRL_MAC,
  NET_CTRL_MQ,
  NET_CTRL_RX,
  NET_FEATURE,
} from "../../../lib/virtio/spec/net.ts";
import type { QueueState } from "../../../lib/virtio/spec/queue_state.ts";
import { canWriteMac, writeMac } from "./config.ts";
import { decodeMac, type ReceiveFilter, type SavedNet, type SavedRing } from "./saved.ts";

/** Of a command, class and command number included. */
const MOST_BYTES = 4032;

/** The device's own address; known after it is closed, too. */
export interface OwnAddress {
  /** Six bytes. */
  mac: Uint8Array<ArrayBuffer>;
}

/** See the module's text. As a reset leaves them. */
export class NetSettings {
  readonly #device: VirtioDevice;
  readonly #control: ControlQueue | undefined;
  /** Queue pairs that are set up. */
  readonly #pairs: number;
  readonly #own: OwnAddress;
  readonly #filters = new Map<ReceiveFilter, boolean>();
  #macTable: SavedNet["macTable"] = null;
  #activePairs = 1;
  /** The device's own address was set by a command. */
  #macSet = false;
  /** Commands set one thing after the other, so that what is kept here is what the device has whenever none is under way. */
  #turn: Promise<unknown> = Promise.resolve();

  /** @param control undefined without CTRL_VQ @param own where the device's own address is kept */
  constructor(device: VirtioDevice, control: ControlQueue | undefined, pairs: number, own: OwnAddress) {
    this.#device = device;
    this.#control = control;
    this.#pairs = pairs;
    this.#own = own;
  }

  /** Turns a receive filter on or off (class 0). */
  setFilter(filter: ReceiveFilter, on: boolean): Promise<void> {
    return this.#inTurn(async () => {
      await this.#putFilter(filter, on);
      this.#filters.set(filter, on);
    });
  }

  /** Sets the filter table: unicast and multicast addresses of 6 bytes each. */
  async setMacTable(unicast: readonly Uint8Array[], multicast: readonly Uint8Array[]): Promise<void> {
    const table = { unicast: unicast.map(formatMac), multicast: multicast.map(formatMac) };
    const data = [macTable(unicast), macTable(multicast)];
    await this.#inTurn(async () => {
      await this.#putMacTable(data);
      this.#macTable = table;
    });
  }

  /** Sets the device's own address. */
  async setMac(mac: Uint8Array): Promise<void> {
    const copy = checkMac(mac).slice();
    await this.#inTurn(async () => {
      if (canWriteMac(this.#device)) writeMac(this.#device, copy);
      else {
        await this.#putMac(copy);
        this.#macSet = true;
      }
      this.#own.mac = copy;
    });
  }

  /** Sets how many queue pairs the device uses. */
  async setQueuePairs(pairs: number): Promise<void> {
    if (!Number.isInteger(pairs) || pairs < 1 || pairs > this.#pairs) {
      throw new UsageError(
        `${this.#device.transport.name}: ${pairs} queue pairs; ${this.#pairs} are set up`,
        { hint: "open with queuePairs" },
      );
    }
    await this.#inTurn(async () => {
      await this.#putPairs(pairs);
      this.#activePairs = pairs;
    });
  }

  /** The device is one that has come back, as DRIVER_OK found it: says again what was said to the one before. @throws as those calls do */
  repeat(): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#activePairs > 1) await this.#putPairs(this.#activePairs);
      // What was written into the config space is written again by who carries it.
      if (this.#macSet) await this.#putMac(this.#own.mac);
      if (this.#macTable !== null) {
        const { unicast, multicast } = this.#macTable;
        await this.#putMacTable([macTable(unicast.map(decodeMac)), macTable(multicast.map(decodeMac))]);
      }
      for (const [filter, on] of this.#filters) await this.#putFilter(filter, on);
    });
  }

  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(act);
    this.#turn = turn.catch(() => {});
    return turn;
  }

  async #putFilter(filter: ReceiveFilter, on: boolean): Promise<void> {
    const extra = filter !== "promisc" && filter !== "allmulti";
    const feature = extra ? NET_FEATURE.CTRL_RX_EXTRA : NET_FEATURE.CTRL_RX;
    await this.#command(feature, NET_CTRL_CLASS.rx, NET_CTRL_RX[filter], Uint8Array.of(on ? 1 : 0));
  }

  async #putMacTable(data: readonly Uint8Array[]): Promise<void> {
    await this.#command(NET_FEATURE.CTRL_RX, NET_CTRL_CLASS.mac, NET_CTRL_MAC.tableSet, ...data);
  }

  async #putMac(mac: Uint8Array): Promise<void> {
    await this.#command(NET_FEATURE.CTRL_MAC_ADDR, NET_CTRL_CLASS.mac, NET_CTRL_MAC.addrSet, mac);
  }

  async #putPairs(pairs: number): Promise<void> {
    const data = Uint8Array.of(pairs, pairs >> 8);
    await this.#command(NET_FEATURE.MQ, NET_CTRL_CLASS.mq, NET_CTRL_MQ.vqPairsSet, data);
  }

  /** Resolves when no command is under way or waits for its turn. */
  async idle(): Promise<void> {
    await this.#turn;
    await this.#control?.idle();
  }

  /** Addresses and filters; the device has no receive buffers yet, so nothing comes past them. */
  async putBack({ mac, filters, macTable }: SavedNet): Promise<void> {
    const address = decodeMac(mac);
    if (formatMac(this.#own.mac) !== mac && this.#device.has(NET_FEATURE.MAC)) await this.setMac(address);
    this.#own.mac = address;
    if (macTable !== null) {
      await this.setMacTable(macTable.unicast.map(decodeMac), macTable.multicast.map(decodeMac));
    }
    for (const [filter, on] of Object.entries(filters)) {
      if (on) await this.setFilter(filter as ReceiveFilter, true);
    }
  }

  /** All of it, as plain data. The device must be stopped. @param stateOf where it says that a queue stands @throws DeviceError */
  save(
    stateOf: (queue: number) => QueueState | null,
  ): Pick<SavedNet, "mac" | "filters" | "macTable" | "activePairs" | "control"> {
    return {
      mac: formatMac(this.#own.mac),
      filters: Object.fromEntries(this.#filters),
      macTable: this.#macTable,
      activePairs: this.#activePairs,
      control: this.#control === undefined ? null : saveControl(this.#control, stateOf),
    };
  }

  /**
   * Sends a command and waits for its acknowledgement. `data` are the structures that the command consists of, in their order.
   * @throws UnsupportedError without `feature`, DeviceError (refused), TimeoutError (no answer: reset the device), UsageError (too long), ClosedError
   */
  async #command(feature: bigint, kind: number, command: number, ...data: Uint8Array[]): Promise<void> {
    const { name } = this.#device.transport;
    this.#device.checkNegotiated(NET_FEATURE.CTRL_VQ | feature);
    const control = this.#control!;
    const head = Uint8Array.of(kind, command);
    const dataBytes = data.reduce((sum, one) => sum + one.length, 0);
    if (head.length + dataBytes > MOST_BYTES) {
      throw new UsageError(`${name}: a control command of ${dataBytes} bytes`, {
        hint: `${MOST_BYTES - head.length} at most`,
      });
    }
    const what = `control command class ${kind} command ${command}`;
    const { ack } = await control.send(what, head, data);
    if (ack === NET_CTRL_ACK.ok) return;
    throw new DeviceError(
      ack === NET_CTRL_ACK.err
        ? `the device refused ${what}`
        : ack === ACK_NOT_WRITTEN
        ? `the device returned without acknowledging ${what}`
        : `the device acknowledged ${what} with ${ack}`,
      { function: name, queue: control.queue.index, field: "ack" },
    );
  }
}

/** Where the control queue stands. */
function saveControl({ queue }: ControlQueue, stateOf: (queue: number) => QueueState | null): SavedRing {
  const device = stateOf(queue.index);
  // The answer to a command that was given up may have come late.
  const used = usedBurst(1);
  while (queue.takeUsed(used) > 0);
  return { ring: queue.save(device ?? undefined), device };
}

/** `struct virtio_net_ctrl_mac`: how many, and then the addresses. */
function macTable(addresses: readonly Uint8Array[]): Uint8Array {
  const data = new Uint8Array(4 + MAC_BYTES * addresses.length);
  new DataView(data.buffer).setUint32(0, addresses.length, true);
  addresses.forEach((mac, at) => data.set(checkMac(mac), 4 + MAC_BYTES * at));
  return data;
}

/** @throws UsageError when it is not six bytes */
function checkMac(mac: Uint8Array): Uint8Array {
  if (mac.length !== MAC_BYTES) throw new UsageError(`a MAC address of ${mac.length} bytes`);
  return mac;
}

/** For a device that has none. */
export function madeUpMac(): Uint8Array<ArrayBuffer> {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  // Unicast, locally administered.
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}
