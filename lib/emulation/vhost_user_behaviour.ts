/**
 * The seam between a vhost-user device (its socket, its turn: the machine) and what stands behind the messages of its front end (the behaviour).
 *
 * @module
 */
import type { ServedVhostDevice } from "../sockets/vhost_user/server/served_device.ts";
import type { DeviceBehaviour, DevicePort } from "./device_behaviour.ts";

/** What the machine offers to the behaviour of a vhost-user device, from `connect` to `close`. Its memory comes with its front end. */
export interface VhostUserPort extends Omit<DevicePort, "dma"> {
  /** A front end came, or is gone: it is polled while one is there. */
  userChanged(there: boolean): void;
}

/** What stands behind the messages. */
export interface VhostUserBehaviour extends
  ServedVhostDevice,
  Pick<
    DeviceBehaviour,
    "close" | "poll" | "arm" | "wakeAfterMs" | "queueReport" | "queueCounters" | "controls"
  > {
  /** Called once. From now on it may own descriptors and take its place in a switch. */
  connect(port: VhostUserPort): void;
}
