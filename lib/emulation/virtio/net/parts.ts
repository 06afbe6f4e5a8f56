/**
 * What a driver configured by the control queue of a network device, as device parts (virtio 1.4 §5.1.8).
 *
 * @module
 */
import { netCvqCfgPart, readNetCvqCfgPart } from "../../../virtio/spec/device_part_values.ts";
import { type DevicePart, partBytes } from "../../../virtio/spec/device_parts.ts";
import {
  NET_CTRL_CLASS,
  NET_CTRL_MAC,
  NET_CTRL_MQ,
  NET_CTRL_RX,
  NET_CTRL_VLAN,
  NET_FEATURE,
} from "../../../virtio/spec/net.ts";
import type { ModelParts } from "../../device_model.ts";
import { carryOut, type ControlBytes } from "./control.ts";
import { AddressTable, FILTER_MODES } from "./filter.ts";
import { NetSettings } from "./settings.ts";

/** Commands that a part can stand for. */
const SELECTORS: ReadonlySet<number> = new Set([
  ...Object.values(NET_CTRL_RX).map((command) => selector(NET_CTRL_CLASS.rx, command)),
  selector(NET_CTRL_CLASS.mac, NET_CTRL_MAC.tableSet),
  selector(NET_CTRL_CLASS.mac, NET_CTRL_MAC.addrSet),
  selector(NET_CTRL_CLASS.vlan, NET_CTRL_VLAN.add),
  selector(NET_CTRL_CLASS.mq, NET_CTRL_MQ.vqPairsSet),
]);

/** Parts of a network device. */
export class NetParts implements ModelParts {
  readonly restored: () => void;
  readonly stopChanged: () => void;
  readonly #settings: NetSettings;
  readonly #offered: bigint;

  /** Of one device, that offers these features. */
  constructor(
    settings: NetSettings,
    offered: bigint,
    { restored, stopChanged }: Required<Pick<ModelParts, "restored" | "stopChanged">>,
  ) {
    this.#settings = settings;
    this.#offered = offered;
    this.restored = restored;
    this.stopChanged = stopChanged;
  }

  /** Every configuration that the driver's features let it make, as it is now. */
  get(): readonly DevicePart[] {
    const { filter } = this.#settings;
    return this.#parts(
      (feature) => this.#settings.has(feature),
      filter.unicast.encode(),
      filter.multicast.encode(),
    );
  }

  /** With every feature in use, and full tables. */
  get mostBytes(): number {
    const full = new Uint8Array(AddressTable.mostBytes);
    const parts = this.#parts((feature) => (this.#offered & feature) !== 0n, full, full);
    return parts.reduce((sum, part) => sum + partBytes(part), 0);
  }

  #parts(has: (feature: bigint) => boolean, unicast: Uint8Array, multicast: Uint8Array): DevicePart[] {
    const { filter, activePairs } = this.#settings;
    const parts: DevicePart[] = [];
    const add = (kind: number, command: number, data: Uint8Array) =>
      void parts.push(netCvqCfgPart({ class: kind, command, data }));
    if (has(NET_FEATURE.CTRL_RX)) {
      const modes = has(NET_FEATURE.CTRL_RX_EXTRA) ? FILTER_MODES : FILTER_MODES.slice(0, 2);
      modes.forEach((mode, command) => add(NET_CTRL_CLASS.rx, command, Uint8Array.of(filter[mode] ? 1 : 0)));
      const tables = new Uint8Array(unicast.length + multicast.length);
      tables.set(unicast);
      tables.set(multicast, unicast.length);
      add(NET_CTRL_CLASS.mac, NET_CTRL_MAC.tableSet, tables);
    }
    if (has(NET_FEATURE.CTRL_MAC_ADDR)) {
      add(NET_CTRL_CLASS.mac, NET_CTRL_MAC.addrSet, filter.mac);
    }
    if (has(NET_FEATURE.MQ)) {
      add(NET_CTRL_CLASS.mq, NET_CTRL_MQ.vqPairsSet, Uint8Array.of(activePairs, activePairs >> 8));
    }
    return parts;
  }

  /** What is wrong with a part for a driver that accepted these features. */
  problem(part: DevicePart, accepted: bigint): string | undefined {
    const { class: kind, command } = readNetCvqCfgPart(part);
    if (part.selector > 0xffffn || !SELECTORS.has(selector(kind, command))) {
      return "no configuration that a part can stand for";
    }
    // Carried out on nothing: what a command may be is known in one place.
    const trial = new NetSettings(this.#settings.maxPairs, () => accepted);
    const problem = carryOut(new PartBytes(part), trial);
    return problem === "" ? "this device knows no such command" : problem;
  }

  /** Carries the command out. */
  set(part: DevicePart): void {
    carryOut(new PartBytes(part), this.#settings);
  }
}

/** A part as the command that it stands for. */
class PartBytes implements ControlBytes {
  readonly #bytes: Uint8Array;

  constructor(part: DevicePart) {
    const { class: kind, command, data } = readNetCvqCfgPart(part);
    this.#bytes = new Uint8Array(2 + data.length);
    this.#bytes.set([kind, command]);
    this.#bytes.set(data, 2);
  }

  get readableBytes(): number {
    return this.#bytes.length;
  }

  readByte(at: number): number {
    return this.#bytes[at] ?? 0;
  }

  peek(into: Uint8Array, from = 0): number {
    const found = this.#bytes.subarray(from, from + into.length);
    into.set(found);
    return found.length;
  }
}

function selector(kind: number, command: number): number {
  return kind | command << 8;
}
