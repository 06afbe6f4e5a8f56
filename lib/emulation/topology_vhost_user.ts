/**
 * What a topology says of a device behind a vhost-user socket.
 *
 * @module
 */
import * as v from "valibot";
import { typedCall } from "../errors/doors.ts";
import type { Topology, VhostUserTopology } from "./function_topology.ts";
import {
  anyRecord,
  type FieldSchema,
  type FieldSchemas,
  flag,
  listOf,
  read,
  record,
  show,
  text,
  TopologyError,
  whole,
} from "./topology_fields.ts";
import type { TopologyKind } from "./topology_kind.ts";

/** `sun_path` without its end mark. */
const LONGEST_SOCKET_PATH = 107;
/** Front ends choose the size of a queue, and ask nobody: this is QEMU's largest. */
const QUEUE_SIZE = 1024;
const NAME = /^[A-Za-z0-9_.+-]{1,64}$/;
const NAME_TEXT = "1 to 64 letters, digits, _ . + or -";

const FIELDS: FieldSchemas = {
  socket: text(/^[^\0]+$/, "the path of a socket"),
  connect: v.optional(flag),
  name: v.optional(text(NAME, "a name", NAME_TEXT)),
  kind: v.string(),
  usedBatches: v.optional(flag),
  featuresOff: v.optional(listOf(text(/^[A-Z][A-Z0-9_]*$/, "a feature name")), []),
  lie: v.optional(text(/./, "the name of a lie")),
};

/** The topology with these devices besides. @param at path of the list @throws TopologyError */
export function addVhostUser(
  topology: Topology,
  list: readonly unknown[],
  kinds: readonly TopologyKind[],
  at = "vhostUser",
): Topology {
  return typedCall("addVhostUser", [topology, list, kinds, at], () => withDevices(topology, list, kinds, at));
}

function withDevices(
  topology: Topology,
  list: readonly unknown[],
  kinds: readonly TopologyKind[],
  at: string,
): Topology {
  const devices = [
    ...topology.vhostUser ?? [],
    ...list.map((one, i) => readDevice(one, `${at}[${i}]`, kinds)),
  ];
  for (const field of ["address", "socket"] as const) {
    devices.forEach((one, i) => {
      if (devices.findIndex((other) => other[field] === one[field]) === i) return;
      throw new TopologyError(
        `${at}[${i - (topology.vhostUser?.length ?? 0)}].${field === "socket" ? field : "name"}`,
        `${one[field]} is another device's already`,
        field === "socket" ? "" : "give it a name of its own",
      );
    });
  }
  return { ...topology, vhostUser: devices };
}

function readDevice(value: unknown, at: string, kinds: readonly TopologyKind[]): VhostUserTopology {
  const { kind: kindName } = read(anyRecord, value, at);
  const able = kinds.filter(({ pciOnly }) => pciOnly === undefined);
  const kind = able.find(({ name }) => name === kindName);
  if (kind === undefined) {
    throw new TopologyError(
      `${at}.kind`,
      `${show(kindName)} is not a kind of device that can be behind a vhost-user socket`,
      `one of ${able.map(({ name }) => name).join(", ")}`,
    );
  }
  const fields = {
    ...FIELDS,
    queueSize: v.optional((kind.queueSize as FieldSchema<number> | undefined) ?? whole(1, 32768), QUEUE_SIZE),
    ...kind.fields as FieldSchemas,
  };
  const alien = `a ${kind.name} behind a vhost-user socket has no such field\nthere are ${
    Object.keys(fields).join(", ")
  }`;
  const { name, ...own } = read(record(fields, alien), value, at);
  const socket = own.socket as string;
  if (new TextEncoder().encode(socket).byteLength > LONGEST_SOCKET_PATH) {
    throw new TopologyError(
      `${at}.socket`,
      `the path is longer than the kernel's ${LONGEST_SOCKET_PATH} bytes`,
    );
  }
  const called = name ?? socket.slice(socket.lastIndexOf("/") + 1).replace(/\.sock$/, "");
  if (typeof called !== "string" || !NAME.test(called)) {
    throw new TopologyError(`${at}.name`, `${show(called)}, from its socket, cannot be a name`, NAME_TEXT);
  }
  const place = { at, address: `vhost-user:${called}`, totalVfs: 0 };
  kind.check?.(own, place);
  const filled = kind.fill?.(own, place) ?? own;
  return { ...filled, address: place.address } as unknown as VhostUserTopology;
}
