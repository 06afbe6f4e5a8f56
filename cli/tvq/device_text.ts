/**
 * Managed devices as the command line writes them: `net`, `net:mac=52:54:00:12:34:56,mtu=9000`, `blk:sectors=4096`, `rng`.
 *
 * @module
 */
import { UsageError } from "../../lib/errors/mod.ts";
import { BLK_FEATURE, DEVICE_ID, FEATURE, NET_FEATURE } from "../../lib/virtio/mod.ts";
import { BLK_CONFIG } from "../../lib/virtio/spec/blk.ts";
import { NET_CONFIG } from "../../lib/virtio/spec/net.ts";
import { parseAttributes, parseNumber } from "./attributes.ts";

/** A device that is to be made. */
export interface DeviceText {
  /** As it was written. */
  readonly text: string;
  /** Virtio device id. */
  readonly type: number;
  /** Its config space. */
  readonly config: Uint8Array<ArrayBuffer>;
  /** Address space that its queues are in; 0: the function's own. */
  readonly addressSpace: number;
  /** Features to ask for, of those that the management device offers. */
  features(offered: bigint): bigint;
}

/** What an attribute sets: fields of the config space, and the features that they need. */
interface Attribute {
  readonly features: bigint;
  readonly fields: (value: string) => Readonly<Record<string, number | bigint>>;
}

interface Type {
  readonly id: number;
  /** Features of the type's own that are asked for in any case. */
  readonly features: bigint;
  readonly config: (fields: Readonly<Record<string, number | bigint>>) => Uint8Array<ArrayBuffer>;
  readonly fields: Readonly<Record<string, number | bigint>>;
  readonly attributes: Readonly<Record<string, Attribute>>;
}

/** What rings can do, and how the device reaches memory: as far as the management device offers it. */
const SHARED = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM | FEATURE.ORDER_PLATFORM | FEATURE.INDIRECT_DESC |
  FEATURE.EVENT_IDX | FEATURE.RING_PACKED | FEATURE.IN_ORDER | FEATURE.RING_RESET;

const { MAC, STATUS, MRG_RXBUF, CTRL_VQ, CTRL_RX, CTRL_MAC_ADDR, MQ, MTU } = NET_FEATURE;
/** A device without a capacity cannot be: 2 MiB. */
const SECTORS = 4096;

const TYPES: Readonly<Record<string, Type>> = {
  net: {
    id: DEVICE_ID.net,
    features: MAC | STATUS | MRG_RXBUF | CTRL_VQ | CTRL_RX | CTRL_MAC_ADDR,
    config: (fields) => NET_CONFIG.encode(fields),
    fields: {},
    attributes: {
      mac: { features: MAC, fields: macFields },
      mtu: number("mtu", "mtu", [68n, 65535n], MTU),
      pairs: number("pairs", "max_virtqueue_pairs", [1n, 0x8000n], MQ),
    },
  },
  blk: {
    id: DEVICE_ID.block,
    features: BLK_FEATURE.FLUSH,
    config: (fields) => BLK_CONFIG.encode(fields),
    fields: { capacity: BigInt(SECTORS) },
    attributes: {
      sectors: {
        features: 0n,
        fields: (value) => ({ capacity: parseNumber(value, 1n, (1n << 55n) - 1n, "sectors") }),
      },
      "block-size": number("block-size", "blk_size", [512n, 65536n], BLK_FEATURE.BLK_SIZE),
      queues: number("queues", "num_queues", [1n, 65535n], BLK_FEATURE.MQ),
      readonly: { features: BLK_FEATURE.RO, fields: flag },
    },
  },
  rng: {
    id: DEVICE_ID.entropy,
    features: 0n,
    config: () => new Uint8Array(),
    fields: {},
    attributes: {},
  },
};

/** Attributes of all types: the features to ask for, instead of those that are chosen; and the address space of the queues. */
const FEATURES = "features", ASID = "asid";

/** Reads it. @throws UsageError */
export function parseDevice(text: string): DeviceText {
  const colon = text.indexOf(":");
  const name = colon < 0 ? text : text.slice(0, colon);
  const type = Object.hasOwn(TYPES, name) ? TYPES[name] : undefined;
  if (type === undefined) {
    throw new UsageError(`${JSON.stringify(name)} is no type of managed device`, {
      hint: `${Object.keys(TYPES).join(", ")}, with attributes as in net:mtu=9000`,
    });
  }
  const known = [...Object.keys(type.attributes), FEATURES, ASID];
  const given = parseAttributes(colon < 0 ? "" : text.slice(colon + 1), known, name);
  let fields = type.fields, { features } = type;
  for (const [attribute, value] of given) {
    if (attribute === FEATURES || attribute === ASID) continue;
    const { features: needed, fields: read } = type.attributes[attribute]!;
    fields = { ...fields, ...read(value) };
    features |= needed;
  }
  const asked = given.get(FEATURES);
  const exact = asked === undefined ? undefined : parseNumber(asked, 0n, (1n << 64n) - 1n, FEATURES);
  return {
    text,
    type: type.id,
    config: type.config(fields),
    addressSpace: Number(parseNumber(given.get(ASID) ?? "0", 0n, 0xffff_ffffn, ASID)),
    features: (offered) => exact ?? (offered & SHARED | features),
  };
}

function number(name: string, field: string, range: readonly [bigint, bigint], features: bigint): Attribute {
  return { features, fields: (value) => ({ [field]: Number(parseNumber(value, ...range, name)) }) };
}

function flag(value: string): Record<string, never> {
  if (value === "") return {};
  throw new UsageError(`readonly takes no value`, { hint: "blk:readonly" });
}

/** A field a byte, as the config space has it. */
function macFields(value: string): Record<string, number> {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(value)) {
    throw new UsageError(`mac: ${JSON.stringify(value)}`, { hint: "write it as 52:54:00:12:34:56" });
  }
  return Object.fromEntries(value.split(":").map((byte, at) => [`mac${at}`, parseInt(byte, 16)]));
}
