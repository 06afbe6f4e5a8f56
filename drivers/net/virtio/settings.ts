/**
 * What commands set in a network device: addresses, filters, queue pairs. Kept for `VirtioNet.suspend`.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { NET_FEATURE } from "../../../lib/virtio/spec/net.ts";
import type { VirtioDevice } from "../../../lib/virtio/device.ts";
import { featureNames } from "../../../lib/virtio/features.ts";
import { canWriteMac, formatMac, writeMac } from "./config.ts";
import { checkMac, type NetControl } from "./control.ts";
import type { ReceiveFilter } from "./saved.ts";
import { decodeMac, type SavedNet } from "./saved.ts";

/** The device's own address; known after it is closed, too. */
export interface OwnAddress {
  /** Six bytes. */
  mac: Uint8Array<ArrayBuffer>;
}

/** See the module's text. As a reset leaves them. */
export class NetSettings {
  readonly #device: VirtioDevice;
  readonly #control: NetControl | undefined;
  /** Queue pairs that are set up. */
  readonly #pairs: number;
  readonly #own: OwnAddress;
  readonly #filters = new Map<ReceiveFilter, boolean>();
  #macTable: SavedNet["macTable"] = null;
  #activePairs = 1;

  /** @param control undefined without CTRL_VQ @param own where the device's own address is kept */
  constructor(device: VirtioDevice, control: NetControl | undefined, pairs: number, own: OwnAddress) {
    this.#device = device;
    this.#control = control;
    this.#pairs = pairs;
    this.#own = own;
  }

  async setFilter(filter: ReceiveFilter, on: boolean): Promise<void> {
    const extra = filter !== "promisc" && filter !== "allmulti";
    await this.#commands(extra ? NET_FEATURE.CTRL_RX_EXTRA : NET_FEATURE.CTRL_RX).setFilter(filter, on);
    this.#filters.set(filter, on);
  }

  async setMacTable(unicast: readonly Uint8Array[], multicast: readonly Uint8Array[]): Promise<void> {
    const table = { unicast: unicast.map(formatMac), multicast: multicast.map(formatMac) };
    await this.#commands(NET_FEATURE.CTRL_RX).setMacTable(unicast, multicast);
    this.#macTable = table;
  }

  async setMac(mac: Uint8Array): Promise<void> {
    const copy = checkMac(mac).slice();
    if (canWriteMac(this.#device)) writeMac(this.#device, copy);
    else await this.#commands(NET_FEATURE.CTRL_MAC_ADDR).setMac(copy);
    this.#own.mac = copy;
  }

  async setQueuePairs(pairs: number): Promise<void> {
    if (!Number.isInteger(pairs) || pairs < 1 || pairs > this.#pairs) {
      throw new UsageError(
        `${this.#device.transport.name}: ${pairs} queue pairs; ${this.#pairs} are set up`,
        { hint: "open with queuePairs" },
      );
    }
    await this.#commands(NET_FEATURE.MQ).setQueuePairs(pairs);
    this.#activePairs = pairs;
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

  /** All of it, as plain data. */
  save(): Pick<SavedNet, "mac" | "filters" | "macTable" | "activePairs"> {
    return {
      mac: formatMac(this.#own.mac),
      filters: Object.fromEntries(this.#filters),
      macTable: this.#macTable,
      activePairs: this.#activePairs,
    };
  }

  #commands(feature: bigint): NetControl {
    if (this.#control !== undefined && this.#device.has(feature)) return this.#control;
    const { name, deviceId, profile } = this.#device.transport;
    throw new UnsupportedError(
      `${name}: ${featureNames(feature, deviceId, profile).join(", ")} was not negotiated`,
    );
  }
}

/** For a device that has none. */
export function madeUpMac(): Uint8Array<ArrayBuffer> {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  // Unicast, locally administered.
  mac[0] = (mac[0]! & 0xfc) | 0x02;
  return mac;
}
