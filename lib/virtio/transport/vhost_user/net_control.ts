/**
 * The control queue of a network device whose back end has none: queue pairs are turned on and off by messages, and back ends filter nothing.
 *
 * @module
 */
import { NET_CTRL_ACK, NET_CTRL_CLASS, NET_CTRL_MAC, NET_CTRL_MQ, NET_FEATURE } from "../../spec/net.ts";

/** What it can do. */
export const OWN_NET_CONTROL_FEATURES: bigint = NET_FEATURE.CTRL_VQ | NET_FEATURE.CTRL_RX | NET_FEATURE.MQ;

/** Carries a command out. @param setPairs turns so many pairs on, and the others off @returns the acknowledgement */
export function answerNetControl(
  command: Uint8Array,
  maxPairs: number,
  setPairs: (pairs: number) => void,
): number {
  const [kind, number, low = 0, high = 0] = command;
  switch (kind) {
    // Every frame is received as it is: whatever is asked for is among them.
    case NET_CTRL_CLASS.rx:
      return command.length === 3 ? NET_CTRL_ACK.ok : NET_CTRL_ACK.err;
    case NET_CTRL_CLASS.mac:
      return number === NET_CTRL_MAC.tableSet ? NET_CTRL_ACK.ok : NET_CTRL_ACK.err;
    case NET_CTRL_CLASS.mq: {
      const pairs = low | high << 8;
      if (number !== NET_CTRL_MQ.vqPairsSet || command.length !== 4 || pairs < 1 || pairs > maxPairs) break;
      setPairs(pairs);
      return NET_CTRL_ACK.ok;
    }
  }
  return NET_CTRL_ACK.err;
}
