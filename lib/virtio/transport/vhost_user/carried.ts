/**
 * Which features a driver may have through the protocol.
 *
 * @module
 */
import type { VhostUserDevice } from "../../../sockets/vhost_user/client/device.ts";
import { PROTOCOL_FEATURE, VHOST_FEATURE } from "../../../sockets/vhost_user/protocol.ts";
import { DEVICE_ID } from "../../spec/device_id.ts";
import { deviceType } from "../../spec/device_types.ts";
import { FEATURE } from "../../spec/features.ts";
import { NET_FEATURE, NET_FEATURE_REQUIRES } from "../../spec/net.ts";
import { OWN_NET_CONTROL_FEATURES } from "./net_control.ts";

/**
 * What the protocol has no way for: data with a notification, addresses that are another IOMMU's, functions of a group, and what happens to a device by registers
 * alone.
 */
const NOT_CARRIED = FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA | FEATURE.ACCESS_PLATFORM |
  FEATURE.SR_IOV | FEATURE.ADMIN_VQ | FEATURE.SUSPEND | VHOST_FEATURE.PROTOCOL_FEATURES |
  VHOST_FEATURE.LOG_ALL;

/** Of a network device: what goes by the control queue, which is the front end's, by custom. */
const CONTROL_FEATURES = NET_FEATURE_REQUIRES
  .filter(({ requires }) => requires.every((set) => set.includes("CTRL_VQ")))
  .reduce((bits, { feature }) => bits | NET_FEATURE[feature], NET_FEATURE.CTRL_VQ);

/** Who offers these serves the control queue itself: no front end could do them for him. */
export const BACK_END_COMMANDS = NET_FEATURE.CTRL_RX_EXTRA | NET_FEATURE.CTRL_VLAN |
  NET_FEATURE.CTRL_MAC_ADDR;

/** @param configBytes of the config space that there is @param ownControl a network device's control queue is the front end's */
export function carriedFeatures(device: VhostUserDevice, configBytes: number, ownControl: boolean): bigint {
  let missing = NOT_CARRIED;
  const { featureBits = {}, optionalConfig = [] } = deviceType(device.deviceId) ?? {};
  for (const [name, , end] of optionalConfig) {
    if (end > configBytes) missing |= 1n << BigInt(featureBits[name]!);
  }
  if (device.deviceId === DEVICE_ID.net) {
    if (ownControl) missing |= CONTROL_FEATURES & ~OWN_NET_CONTROL_FEATURES;
    if ((device.features & NET_FEATURE.MQ) === 0n) missing |= NET_FEATURE.MQ;
    if (!device.has(PROTOCOL_FEATURE.CONFIG) && device.mac === undefined) missing |= NET_FEATURE.MAC;
  }
  return ~missing;
}
