/**
 * Which features of a network device this driver accepts.
 *
 * @module
 */
import { NET_FEATURE, NET_FEATURE_REQUIRES } from "../../../lib/virtio/spec/net.ts";
import { FEATURE } from "../../../lib/virtio/spec/features.ts";
import type { FeatureWishes } from "../../../lib/virtio/features.ts";
import type { VirtioNetOptions } from "./options.ts";

/**
 * No offload is accepted: frames are what they are on the wire, in both directions, so their length is bounded by the MTU and the header before
 * them is zero.
 */
const ALWAYS = NET_FEATURE.MAC | NET_FEATURE.MTU | NET_FEATURE.STATUS | NET_FEATURE.CTRL_VQ |
  NET_FEATURE.CTRL_RX |
  NET_FEATURE.CTRL_RX_EXTRA | NET_FEATURE.CTRL_MAC_ADDR | NET_FEATURE.MQ | NET_FEATURE.SPEED_DUPLEX;

/** The dependencies of the standard, as masks. */
const DEPENDENCIES = NET_FEATURE_REQUIRES.map(({ feature, requires }) => ({
  feature: NET_FEATURE[feature],
  anyOf: requires.map((set) => set.reduce((bits, name) => bits | NET_FEATURE[name], 0n)),
}));

/** Wishes for `Session.negotiate`. */
export function netWishes(options: VirtioNetOptions): FeatureWishes {
  const wanted = options.mergeable === false ? ALWAYS : ALWAYS | NET_FEATURE.MRG_RXBUF;
  const required = options.admin ? FEATURE.ADMIN_VQ : 0n;
  return { required, wanted, dependencies: DEPENDENCIES };
}
