/**
 * virtio-net in an emulated host: the switches of a machine, and their ports.
 *
 * @module
 */
import * as v from "valibot";
import { typedErrors } from "../../../errors/doors.ts";
import { NotFoundError, UsageError } from "../../../errors/mod.ts";
import { PciAddress } from "../../../pci/address.ts";
import { MAC_BYTES, NET_CONFIG, NET_DEVICE, NET_FEATURE } from "../../../virtio/spec/net.ts";
import type { DeviceModel } from "../../device_model.ts";
import type { DeviceKind, KindDevices, ModelPlace } from "../../device_kind.ts";
import { listOf, text, which, whole } from "../../topology_fields.ts";
import { formatMac, macHigh, macLow, vfMac } from "./mac_address.ts";
import { type NetFields, NetModel } from "./model.ts";
import { NetSwitch, type SwitchOptions } from "./switch.ts";
import { COUNTER, type CounterName } from "./switch_port.ts";

const DEFAULT_SWITCH = "s0";

/** One port of an embedded switch, for `/ringside/switch`. */
export interface SwitchPortState {
  /** Name of the switch. */
  readonly switch: string;
  /** PCI address of the function behind the port. */
  readonly function: string;
  /** MAC address of the function now. */
  readonly mac: string;
  /** Frames that the function sent into the switch. */
  readonly framesIn: number;
  /** Frames that it got from the switch. */
  readonly framesOut: number;
  /** Bytes of `framesIn`, without virtio headers. */
  readonly bytesIn: number;
  /** Bytes of `framesOut`, without virtio headers. */
  readonly bytesOut: number;
  /** Frames for this port that found no room or no running driver. */
  readonly dropped: number;
}

/** The network devices of a machine. */
export class NetDevices implements KindDevices<NetFields> {
  static {
    typedErrors(this);
  }

  /** `/ringside/switch`: all ports, in order of their functions' addresses. */
  readonly reports: { readonly switch: () => readonly SwitchPortState[] } = { switch: () => this.#states() };
  readonly #options: SwitchOptions;
  readonly #switches = new Map<string, NetSwitch>();

  /** None yet. */
  constructor(options: SwitchOptions) {
    this.#options = options;
  }

  /** See `KindDevices`. */
  model({ mac, switch: name = DEFAULT_SWITCH, ...own }: NetFields, place: ModelPlace): DeviceModel {
    const { address, vfIndex } = place;
    if (mac === undefined) throw new UsageError(`${address}: a virtio-net function needs a MAC address`);
    const options = vfIndex === undefined ? { mac } : { mac: vfMac(mac, vfIndex), hostUse: [] };
    return new NetModel(this.#switch(name), { ...own, ...options, ...place });
  }

  #switch(name: string): NetSwitch {
    let found = this.#switches.get(name);
    if (found === undefined) {
      found = new NetSwitch(name, this.#options);
      this.#switches.set(name, found);
    }
    return found;
  }

  /** Counters of a port by name, as plain data. @throws NotFoundError when the function is no port */
  portStats(address: string): Record<CounterName, number> {
    return this.#port(address).stats();
  }

  /** Plugs the cable of a network function in or out. @throws NotFoundError when the function is no port */
  setLink(address: string, up: boolean): void {
    this.#port(address).setLink(up);
  }

  get #ports(): NetModel[] {
    return [...this.#switches.values()].flatMap((one) => one.ports as readonly NetModel[]);
  }

  #port(address: string): NetModel {
    const found = this.#ports.find((port) => port.name === address);
    if (found === undefined) throw new NotFoundError(`${address} is no port of an embedded switch`);
    return found;
  }

  #states(): readonly SwitchPortState[] {
    return this.#ports.map(portState).sort((a, b) => a.function < b.function ? -1 : 1);
  }
}

function portState({ net, name, mac, counters }: NetModel): SwitchPortState {
  return {
    switch: net.name,
    function: name,
    mac,
    framesIn: counters[COUNTER.framesIn]!,
    framesOut: counters[COUNTER.framesOut]!,
    bytesIn: counters[COUNTER.bytesIn]!,
    bytesOut: counters[COUNTER.bytesOut]!,
    dropped: counters[COUNTER.noRoom]! + counters[COUNTER.tooLong]! + counters[COUNTER.notReceiving]!,
  };
}

/** Its record, with switches that behave so. */
export function netKind(options: SwitchOptions = {}): DeviceKind<NetFields, NetDevices> {
  return {
    name: "virtio-net",
    type: NET_DEVICE,
    fields: {
      mac: v.optional(v.pipe(
        which(
          text(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i, "a MAC address", 'write it as "52:54:00:12:34:56"'),
          (mac) => (parseInt(mac, 16) & 1) === 0,
          (mac) => `${mac} is a multicast address`,
        ),
        v.toLowerCase(),
      )),
      mtu: v.optional(whole(68, 65535)),
      queuePairs: v.optional(whole(1, 64)),
      switch: v.optional(
        text(/^[A-Za-z0-9_.-]{1,32}$/, "a switch name", "1 to 32 letters, digits, _ . or -"),
        DEFAULT_SWITCH,
      ),
      hostUse: v.optional(listOf(text(/^[^\n]+$/, "a phrase of one line"))),
    },
    totalVfs: 4,
    admin: "legacy",
    managed({ features, config, queues, management, id, switch: name = DEFAULT_SWITCH }) {
      const { MAC, MQ, MTU, CTRL_VQ } = NET_FEATURE;
      const { max_virtqueue_pairs, mtu } = NET_CONFIG.decode(config);
      const mac = config.subarray(0, MAC_BYTES);
      const own = (features & MAC) === 0n || mac.every((byte) => byte === 0);
      const control = (features & CTRL_VQ) === 0n ? 0 : 1;
      const pairs = max_virtqueue_pairs || Math.max(1, Math.floor((queues - control) / 2));
      return {
        mac: own ? managedMac(management, id) : formatMac(macHigh(mac, 0), macLow(mac, 0)),
        queuePairs: (features & MQ) === 0n ? 1 : pairs,
        switch: name,
        ...((features & MTU) !== 0n && mtu > 0 && { mtu }),
      };
    },
    fill: ({ mac, ...own }, { address }) => ({ ...own, mac: mac ?? localMac(address) }),
    devices: () => new NetDevices(options),
  };
}

/** Locally administered, and different for every function: bus and devfn, with a byte left for VFs; of a platform device a hash of its name. */
function localMac(address: string): string {
  const place = PciAddress.tryParse(address);
  if (place === undefined) return formatMac(0x5a54, fnv1a(address));
  const { domain, bus, devfn } = place;
  return formatMac(0x5254, ((domain & 0xff) << 24 | bus << 16 | devfn << 8) >>> 0);
}

/** 32 bits that differ for different texts, but for rare pairs. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}

/** The same for a managed device: apart from those of functions, and different for the last 65536 of one management function. */
function managedMac(management: string, id: bigint): string {
  const { domain, bus, devfn } = PciAddress.parse(management);
  return formatMac(0x5600 | domain & 0xff, (bus << 24 | devfn << 16 | Number(id & 0xffffn)) >>> 0);
}

/** Its record. */
export const NET_KIND: DeviceKind<NetFields, NetDevices> = netKind();
