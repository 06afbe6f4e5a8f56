/**
 * Version and capabilities: the JSON in VERSION messages, checked: pure.
 *
 * @module
 */
import { ProtocolError } from "../../errors/mod.ts";
import { isVfToken } from "../../vfio/uuid.ts";
import { LIMIT, PROTOCOL_VERSION, versionMessage } from "./protocol.ts";

/** What a peer takes. Members that it left out have the specification's default. */
export interface PeerCapabilities {
  /** Descriptors in one message. */
  readonly maxMessageFds: number;
  /** Bytes of data in one transfer message. */
  readonly maxDataTransferBytes: number;
  /** DMA mappings at a time. */
  readonly maxDmaMaps: number;
  /** Bit mask of page sizes for DMA mappings. */
  readonly pageSizes: number;
  /** REGION_WRITE_MULTI is understood. */
  readonly writeMultiple: boolean;
  /** MAP_AREA, an extension of this library, is understood; absent: it is not. */
  readonly mapArea?: boolean;
  /** Address spaces beside 0, an extension of this library: as many as both sides take, 1 and up; absent: none. */
  readonly addressSpaces?: number;
  /** In an offer, an extension of this library: the VF token that the client shows, as the text of a UUID. Absent: none. */
  readonly vfToken?: string;
  /**
   * In an offer: the client takes the server's commands on a second socket. In a reply: that socket comes beside it, at this index among the
   * descriptors. Absent: they come on the connection.
   */
  readonly twinSocket?: "offered" | number;
}

/** A VERSION message. */
export interface VersionOffer {
  /** Major version: the message format. */
  readonly major: number;
  /** Minor version: messages and capabilities that were added. */
  readonly minor: number;
  /** What the sender takes. */
  readonly capabilities: PeerCapabilities;
  /** Names of the capabilities that the message had. */
  readonly named: ReadonlySet<string>;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

const NAME = {
  maxMessageFds: "max_msg_fds",
  maxDataTransferBytes: "max_data_xfer_size",
  maxDmaMaps: "max_dma_maps",
  pageSizes: "pgsizes",
  writeMultiple: "write_multiple",
  mapArea: "ringside_map_area",
  addressSpaces: "ringside_address_spaces",
  vfToken: "ringside_vf_token",
} as const;
const TWIN_SOCKET = "twin_socket";

/**
 * Encodes a VERSION payload.
 * @param only the names to include: a reply may name no capability that the request did not.
 */
export function encodeVersion(
  minor: number,
  capabilities: PeerCapabilities,
  only?: ReadonlySet<string>,
): Uint8Array<ArrayBuffer> {
  const members: Record<string, unknown> = {};
  for (const key of Object.keys(NAME) as (keyof typeof NAME)[]) {
    const value = capabilities[key];
    if (value !== undefined && (only === undefined || only.has(NAME[key]))) members[NAME[key]] = value;
  }
  if (capabilities.twinSocket === "offered") members[TWIN_SOCKET] = { supported: true };
  const json = encoder.encode(`${JSON.stringify({ capabilities: members })}\0`);
  return versionMessage.encode({ major: PROTOCOL_VERSION.major, minor }, json);
}

/**
 * Decodes a VERSION payload.
 * @throws ProtocolError naming the member for a short message, text that is not JSON, or a value that cannot be.
 */
export function decodeVersion(bytes: Uint8Array, what: string): VersionOffer {
  if (bytes.byteLength < versionMessage.sizeBytes) {
    throw new ProtocolError(`${what}: VERSION has ${bytes.byteLength} of ${versionMessage.sizeBytes} bytes`);
  }
  const { major, minor } = versionMessage.decode(bytes);
  const members = capabilityMembers(bytes.subarray(versionMessage.sizeBytes), what);
  const whole = (name: string, fallback: number, least: number, most: number): number => {
    const value = members[name];
    if (value === undefined) return fallback;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least) {
      throw new ProtocolError(`${what}: VERSION ${name} is ${JSON.stringify(value)}`);
    }
    return Math.min(value, most);
  };
  const pageSizes = whole(NAME.pageSizes, LIMIT.pageSizes, 1, Number.MAX_SAFE_INTEGER);
  if (pageSizes % LIMIT.pageSizes !== 0) {
    throw new ProtocolError(`${what}: VERSION ${NAME.pageSizes} has a page size below 4 KiB: ${pageSizes}`);
  }
  const flag = (name: string): boolean => {
    const value = members[name] ?? false;
    if (typeof value === "boolean") return value;
    throw new ProtocolError(`${what}: VERSION ${name} is ${JSON.stringify(value)}`);
  };
  const addressSpaces = whole(NAME.addressSpaces, 0, 0, LIMIT.addressSpaces);
  const capabilities: PeerCapabilities = {
    maxMessageFds: whole(NAME.maxMessageFds, LIMIT.defaultMessageFds, 0, LIMIT.messageFds),
    maxDataTransferBytes: whole(
      NAME.maxDataTransferBytes,
      LIMIT.dataTransferBytes,
      0,
      LIMIT.largestDataTransferBytes,
    ),
    maxDmaMaps: whole(NAME.maxDmaMaps, LIMIT.dmaMaps, 0, LIMIT.dmaMaps),
    pageSizes,
    writeMultiple: flag(NAME.writeMultiple),
    ...(flag(NAME.mapArea) ? { mapArea: true } : {}),
    ...(addressSpaces > 0 ? { addressSpaces } : {}),
    ...vfToken(members[NAME.vfToken], what),
    ...twinSocket(members[TWIN_SOCKET], what),
  };
  return { major, minor, capabilities, named: new Set(Object.keys(members)) };
}

/** What is none is not repeated: a token is a secret between processes. */
function vfToken(value: unknown, what: string): Pick<PeerCapabilities, "vfToken"> {
  if (value === undefined) return {};
  if (typeof value === "string" && isVfToken(value)) return { vfToken: value };
  throw new ProtocolError(`${what}: VERSION ${NAME.vfToken} is no UUID`);
}

/** `{ "supported": true }`, and `"fd_index"` in a reply. */
function twinSocket(value: unknown, what: string): Pick<PeerCapabilities, "twinSocket"> {
  if (value === undefined) return {};
  const { supported = false, fd_index: index } = isObject(value) ? value : { supported: value };
  const wrong = typeof supported !== "boolean" || !isObject(value) ||
    (index !== undefined && !(Number.isInteger(index) && Number(index) >= 0));
  if (wrong) throw new ProtocolError(`${what}: VERSION ${TWIN_SOCKET} is ${JSON.stringify(value)}`);
  return supported ? { twinSocket: index === undefined ? "offered" : Number(index) } : {};
}

function capabilityMembers(data: Uint8Array, what: string): Record<string, unknown> {
  if (data.byteLength === 0) return {};
  if (data.byteLength > LIMIT.versionDataBytes) {
    throw new ProtocolError(`${what}: VERSION data of ${data.byteLength} bytes`);
  }
  if (data[data.byteLength - 1] !== 0) {
    throw new ProtocolError(`${what}: VERSION data does not end with a NUL`);
  }
  let parsed: unknown;
  try {
    parsed = JSON.parse(decoder.decode(data.subarray(0, data.byteLength - 1)));
  } catch (error) {
    throw new ProtocolError(`${what}: VERSION data is not JSON`, { cause: error });
  }
  if (!isObject(parsed)) throw new ProtocolError(`${what}: VERSION data is not a JSON object`);
  const capabilities = parsed["capabilities"] ?? {};
  if (!isObject(capabilities)) throw new ProtocolError(`${what}: VERSION capabilities is not an object`);
  return capabilities;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
