/**
 * virtio-console in an emulated host.
 *
 * @module
 */
import * as v from "valibot";
import { CONSOLE_DEVICE } from "../../../virtio/spec/console.ts";
import type { DeviceKind } from "../../device_kind.ts";
import { listOf, oneOf, powerOfTwo, text, TopologyError, whole } from "../../topology_fields.ts";
import { type ConsoleFields, ConsoleModel } from "./model.ts";

/** Its record. */
export const CONSOLE_KIND: DeviceKind<ConsoleFields> = {
  name: "virtio-console",
  type: CONSOLE_DEVICE,
  fields: {
    ports: v.optional(whole(1, 64)),
    portNames: v.optional(listOf(text(/^[^\0\n]{0,16}$/, "a name of up to 16 characters"))),
    peer: v.optional(oneOf(["loopback", "socket"], "where the other end of a port can be")),
    cols: v.optional(whole(0, 65535)),
    rows: v.optional(whole(0, 65535)),
  },
  queueSize: powerOfTwo(2, 32768),
  admin: "modern",
  check(own, { at }) {
    const { ports = 1, portNames = [] } = own;
    if (portNames.length <= ports) return;
    throw new TopologyError(`${at}.portNames`, `${portNames.length} names for ${ports} ports`);
  },
  devices: () => ({ model: (own, place) => new ConsoleModel({ ...own, ...place }) }),
};
