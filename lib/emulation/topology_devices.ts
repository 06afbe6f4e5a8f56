/**
 * What a topology says of block and console functions.
 *
 * @module
 */
import { isList } from "../errors/records.ts";
import { optional, optionalText, show, TopologyError } from "./topology_fields.ts";

/** A virtio-blk function. One of `file` and `sizeBytes` is there; what else is not has the model's default. */
export interface BlockTopology {
  /** Path of the image; one that is not there is made when `sizeBytes` is given, too. */
  readonly file?: string;
  /** Bytes, a multiple of 512. Without `file`: of memory that lasts as long as the device. */
  readonly sizeBytes?: number;
  /** It offers RO, and a file is opened for reading alone. */
  readonly readOnly?: boolean;
  /** Request queues. Default 1; with more MQ is offered. */
  readonly queues?: number;
  /** Bytes of a logical block, a power of two from 512 to 65536. Default 512. */
  readonly blockSize?: number;
  /** Most bytes of one data segment. Default 1 MiB. */
  readonly sizeMax?: number;
  /** Most data segments of one request. Default 126. */
  readonly segMax?: number;
  /** Most sectors of one segment of a discard or write zeroes request. Default 131072 (64 MiB). */
  readonly rangeSectors?: number;
  /** Most segments of a discard or write zeroes request. Default 16. */
  readonly ranges?: number;
  /** What GET_ID answers: ASCII, up to 20 characters. Default: the address of the function. */
  readonly serial?: string;
}

/** A virtio-console function. */
export interface ConsoleTopology {
  /** Ports. Default 1; with more MULTIPORT is offered. */
  readonly ports?: number;
  /** Names of the ports, by number; an empty one is not sent. */
  readonly portNames?: readonly string[];
  /** The other end of each port: itself (default), or whoever connects to `<directory>/<address>.port<n>`. */
  readonly peer?: "loopback" | "socket";
  /** Columns of port 0. Default 80. */
  readonly cols?: number;
  /** Rows of port 0. Default 25. */
  readonly rows?: number;
}

/** Fields of a virtio-blk function. */
export const BLOCK_FIELDS: readonly string[] = [
  "file",
  "sizeBytes",
  "readOnly",
  "queues",
  "blockSize",
  "sizeMax",
  "segMax",
  "rangeSectors",
  "ranges",
  "serial",
];

/** Fields of a virtio-console function. */
export const CONSOLE_FIELDS: readonly string[] = ["ports", "portNames", "peer", "cols", "rows"];

const SECTOR_BYTES = 512;

/** Reads the fields of a virtio-blk function. @throws TopologyError */
export function readBlock(from: Readonly<Record<string, unknown>>, at: string): BlockTopology {
  const { file, readOnly } = from;
  const path = optionalText(file, `${at}.file`, /^[^\0]+$/, "a path");
  const sizeBytes = optional(from.sizeBytes, `${at}.sizeBytes`, SECTOR_BYTES, Number.MAX_SAFE_INTEGER);
  if (path === undefined && sizeBytes === undefined) {
    throw new TopologyError(`${at}.file`, "a virtio-blk function needs a file, or sizeBytes of memory");
  }
  if (sizeBytes !== undefined && sizeBytes % SECTOR_BYTES !== 0) {
    throw new TopologyError(`${at}.sizeBytes`, `${sizeBytes} is not a multiple of ${SECTOR_BYTES}`);
  }
  if (readOnly !== undefined && typeof readOnly !== "boolean") {
    throw new TopologyError(`${at}.readOnly`, `${show(readOnly)} is neither true nor false`);
  }
  if (path !== undefined && typeof from.totalVfs === "number" && from.totalVfs > 0) {
    throw new TopologyError(`${at}.totalVfs`, "VFs would all write to the same file");
  }
  const blockSize = optional(from.blockSize, `${at}.blockSize`, SECTOR_BYTES, 65536);
  if (blockSize !== undefined && (blockSize & (blockSize - 1)) !== 0) {
    throw new TopologyError(`${at}.blockSize`, `${blockSize} is not a power of two`);
  }
  return defined({
    file: path,
    sizeBytes,
    readOnly: readOnly as boolean | undefined,
    queues: optional(from.queues, `${at}.queues`, 1, 64),
    blockSize,
    sizeMax: optional(from.sizeMax, `${at}.sizeMax`, SECTOR_BYTES, 0x7fff_ffff),
    segMax: optional(from.segMax, `${at}.segMax`, 1, 32766),
    rangeSectors: optional(from.rangeSectors, `${at}.rangeSectors`, 1, 0xffff_ffff),
    ranges: optional(from.ranges, `${at}.ranges`, 1, 256),
    serial: optionalText(from.serial, `${at}.serial`, /^[\x20-\x7e]{0,20}$/, "ASCII of up to 20 characters"),
  });
}

/** Reads the fields of a virtio-console function. @throws TopologyError */
export function readConsole(from: Readonly<Record<string, unknown>>, at: string): ConsoleTopology {
  const ports = optional(from.ports, `${at}.ports`, 1, 64);
  const peer = from.peer;
  if (peer !== undefined && peer !== "loopback" && peer !== "socket") {
    throw new TopologyError(`${at}.peer`, `${show(peer)} is not "loopback" or "socket"`);
  }
  const names = from.portNames;
  if (names !== undefined && !isList(names)) {
    throw new TopologyError(`${at}.portNames`, "must be a list");
  }
  if (names !== undefined && names.length > (ports ?? 1)) {
    throw new TopologyError(`${at}.portNames`, `${names.length} names for ${ports ?? 1} ports`);
  }
  const portNames = names?.map((name: unknown, i) =>
    optionalText(name ?? null, `${at}.portNames[${i}]`, /^[^\0\n]{0,16}$/, "a name of up to 16 characters")!
  );
  return defined({
    ports,
    portNames,
    peer,
    cols: optional(from.cols, `${at}.cols`, 0, 65535),
    rows: optional(from.rows, `${at}.rows`, 0, 65535),
  });
}

/** The same without fields that are undefined. */
function defined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, one]) => one !== undefined)) as {
    [K in keyof T]?: Exclude<T[K], undefined>;
  };
}
