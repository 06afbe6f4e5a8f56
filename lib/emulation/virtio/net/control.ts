/**
 * Control commands of a network device (virtio 1.2 §5.1.6.5).
 *
 * @module
 */
import {
  MAC_BYTES,
  NET_CTRL_CLASS,
  NET_CTRL_MAC,
  NET_CTRL_MQ,
  NET_CTRL_RX,
  NET_FEATURE,
} from "../../../virtio/spec/net.ts";
import type { Chain } from "../queue/chain.ts";
import { macHigh, macLow } from "./mac_address.ts";
import { FILTER_MODES, type ReceiveFilter } from "./filter.ts";
import type { NetSettings } from "./settings.ts";

/** Class, command and data of a command, wherever they lie. */
export type ControlBytes = Pick<Chain, "readableBytes" | "readByte" | "peek">;

const HEADER_BYTES = 2;
const NEEDS: ReadonlyMap<number, bigint> = new Map([
  [NET_CTRL_CLASS.rx, NET_FEATURE.CTRL_RX],
  [NET_CTRL_CLASS.mq, NET_FEATURE.MQ],
]);

/**
 * Carries a command out.
 * @param chain class, command and data in its device-readable part
 * @returns undefined when done, what is wrong otherwise; empty for a command that the device just does not know
 */
export function carryOut(chain: ControlBytes, target: NetSettings): string | undefined {
  const kind = chain.readByte(0), command = chain.readByte(1);
  if (!target.has(NEEDS.get(kind) ?? 0n)) return "its feature was not negotiated";
  if (kind === NET_CTRL_CLASS.rx) return receiveMode(command, chain, target);
  if (kind === NET_CTRL_CLASS.mac) return macCommand(command, chain, target);
  if (kind === NET_CTRL_CLASS.mq && command === NET_CTRL_MQ.vqPairsSet) {
    const length = chain.readableBytes - HEADER_BYTES;
    if (length !== 2) return `le16 virtqueue_pairs in ${length} bytes`;
    const pairs = chain.readByte(2) | chain.readByte(3) << 8;
    if (pairs === 0 || pairs > target.maxPairs) {
      return `${pairs} queue pairs, there are 1 to ${target.maxPairs}`;
    }
    target.setPairs(pairs);
    return undefined;
  }
  return "";
}

function receiveMode(command: number, chain: ControlBytes, target: NetSettings): string | undefined {
  const length = chain.readableBytes - HEADER_BYTES;
  if (command > NET_CTRL_RX.nobcast) return "";
  if (command > NET_CTRL_RX.allmulti && !target.has(NET_FEATURE.CTRL_RX_EXTRA)) {
    return "CTRL_RX_EXTRA was not negotiated";
  }
  if (length !== 1) return `on or off in ${length} bytes`;
  const value = chain.readByte(2);
  if (value > 1) return `${value} is neither 0 (off) nor 1 (on)`;
  target.filter[FILTER_MODES[command]!] = value === 1;
  return undefined;
}

function macCommand(command: number, chain: ControlBytes, target: NetSettings): string | undefined {
  if (command === NET_CTRL_MAC.addrSet) {
    if (!target.has(NET_FEATURE.CTRL_MAC_ADDR)) return "CTRL_MAC_ADDR was not negotiated";
    const length = chain.readableBytes - HEADER_BYTES;
    if (length !== MAC_BYTES) return `an address of ${length} bytes`;
    const mac = new Uint8Array(MAC_BYTES);
    chain.peek(mac, HEADER_BYTES);
    if ((mac[0]! & 1) !== 0) return "a multicast address cannot be the device's own";
    target.setMac(mac);
    return undefined;
  }
  if (command !== NET_CTRL_MAC.tableSet) return "";
  if (!target.has(NET_FEATURE.CTRL_RX)) return "CTRL_RX was not negotiated";
  return setTables(chain, target.filter);
}

/** Two tables: le32 count, then so many addresses; the first unicast, the second multicast. */
function setTables(chain: ControlBytes, filter: ReceiveFilter): string | undefined {
  const end = chain.readableBytes;
  const unicast = tableAt(chain, HEADER_BYTES, end);
  if (unicast < 0) return "the unicast table is longer than the command";
  const second = HEADER_BYTES + 4 + MAC_BYTES * unicast;
  const multicast = tableAt(chain, second, end);
  if (multicast < 0) return "the multicast table is longer than the command";
  if (second + 4 + MAC_BYTES * multicast !== end) return "bytes follow the multicast table";

  const mac = new Uint8Array(MAC_BYTES);
  filter.unicast.clear();
  filter.multicast.clear();
  let misplaced = 0;
  for (let i = 0; i < unicast + multicast; i++) {
    const inFirst = i < unicast;
    const at = inFirst ? HEADER_BYTES + 4 + MAC_BYTES * i : second + 4 + MAC_BYTES * (i - unicast);
    const table = inFirst ? filter.unicast : filter.multicast;
    // Past the table's room the filter takes every frame of the kind, so the rest need not be read.
    if (table.overflow) continue;
    chain.peek(mac, at);
    if (((mac[0]! & 1) === 0) !== inFirst) misplaced++;
    else table.add(macHigh(mac, 0), macLow(mac, 0));
  }
  return misplaced === 0 ? undefined : `${misplaced} addresses are in the wrong table`;
}

/** Number of entries of the table at `at`, or −1 when it does not end by `end`. */
function tableAt(chain: ControlBytes, at: number, end: number): number {
  if (at + 4 > end) return -1;
  const count = (chain.readByte(at) | chain.readByte(at + 1) << 8 | chain.readByte(at + 2) << 16 |
    chain.readByte(at + 3) << 24) >>> 0;
  return at + 4 + MAC_BYTES * count > end ? -1 : count;
}
