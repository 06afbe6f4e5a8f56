/**
 * What a topology says of virtio-ism functions.
 *
 * @module
 */
import { optional, optionalText, TopologyError } from "./topology_fields.ts";

/** A virtio-ism function. What is not there has the model's default. */
export interface IsmTopology {
  /** Name of its communication domain. Default `d0`. */
  readonly domain?: string;
  /** Bytes of a chunk, a power of two from 4096 on. Default 65536. */
  readonly chunkSize?: number;
  /** Chunks of its area, 1 to 65536. Default 4096. */
  readonly chunks?: number;
  /** Bytes of a notify address, 1 to 4096. Default 4. */
  readonly notifySize?: number;
  /** Bytes of memory for the regions of its domain. Default 1 GiB. */
  readonly memory?: number;
}

/** Fields of a virtio-ism function. */
export const ISM_FIELDS: readonly string[] = ["domain", "chunkSize", "chunks", "notifySize", "memory"];

/** No area is larger: a BAR of it must find a place on the bus. */
const AREA_BYTES_MAX = 2 ** 36;
const DEFAULT_DOMAIN = "d0";

/** Reads the fields of a virtio-ism function. @throws TopologyError */
export function readIsm(from: Readonly<Record<string, unknown>>, at: string): IsmTopology {
  const chunkSize = optional(from.chunkSize, `${at}.chunkSize`, 4096, 2 ** 30);
  if (chunkSize !== undefined && (chunkSize & (chunkSize - 1)) !== 0) {
    throw new TopologyError(`${at}.chunkSize`, `${chunkSize} is not a power of two`);
  }
  const chunks = optional(from.chunks, `${at}.chunks`, 1, 65536);
  if ((chunkSize ?? 65536) * (chunks ?? 4096) > AREA_BYTES_MAX) {
    throw new TopologyError(`${at}.chunks`, `the area would have more than ${AREA_BYTES_MAX} bytes`);
  }
  const domain = optionalText(
    from.domain,
    `${at}.domain`,
    /^[A-Za-z0-9_.-]{1,32}$/,
    "a name of 1 to 32 letters, digits, _ . or -",
  );
  const fields = {
    domain,
    chunkSize,
    chunks,
    notifySize: optional(from.notifySize, `${at}.notifySize`, 1, 4096),
    memory: optional(from.memory, `${at}.memory`, 0, Number.MAX_SAFE_INTEGER),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

/** Functions of one domain share pages, so they must agree on chunks and memory. @throws TopologyError */
export function checkIsmDomains(functions: readonly { readonly ism?: IsmTopology }[]): void {
  const first = new Map<string, { readonly ism: IsmTopology; readonly at: string }>();
  functions.forEach(({ ism }, i) => {
    if (ism === undefined) return;
    const name = ism.domain ?? DEFAULT_DOMAIN;
    const other = first.get(name);
    if (other === undefined) {
      first.set(name, { ism, at: `functions[${i}]` });
      return;
    }
    for (const field of ["chunkSize", "memory"] as const) {
      if (ism[field] === other.ism[field]) continue;
      throw new TopologyError(
        `functions[${i}].${field}`,
        `${ism[field] ?? "the default"} is not what ${other.at} of the same domain has, ${
          other.ism[field] ?? "the default"
        }`,
      );
    }
  });
}
