/**
 * A suspended network device as plain data: it survives JSON, and goes on in the same or another function.
 *
 * @module
 */
import { UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { array, integer, object } from "../../../lib/errors/records.ts";
import { PROFILES } from "../../../lib/virtio/spec/features.ts";
import { NET_CTRL_RX } from "../../../lib/virtio/spec/net.ts";
import { checkQueueState, type QueueState } from "../../../lib/virtio/spec/queue_state.ts";
import { checkSavedQueue, type SavedQueue } from "../../../lib/virtio/queue/saved_queue.ts";
import type { Profile } from "../../../lib/virtio/transport/transport.ts";

/** Receive filters that are one byte: off or on. */
export type ReceiveFilter = "promisc" | "allmulti" | "alluni" | "nomulti" | "nouni" | "nobcast";

/** One queue. */
export interface SavedRing {
  /** Where the ring stands, and what the device had not returned. */
  readonly ring: SavedQueue;
  /** Where the device said that it stands (QUEUE_STATE); null when it cannot say. It was checked against the ring. */
  readonly device: QueueState | null;
}

/** A receive queue. What is in flight are empty buffers, of which new ones take the place. */
export interface SavedReceive extends SavedRing {
  /** Frames that the device delivered and nobody took yet, oldest first, in base64. */
  readonly frames: readonly string[];
}

/** A transmit queue. */
export interface SavedTransmit extends SavedRing {
  /** Frames of the chains in flight, in their order, in base64. They are offered again. */
  readonly frames: readonly string[];
  /**
   * So many of the first of them the device had read, and not returned, before its reset. A device that finishes what it has begun, as the
   * embedded one does, leaves none. Whether these left is known to the device only: they are offered again, and may arrive twice.
   */
  readonly undecided: number;
}

/** A pair of queues. */
export interface SavedPair {
  /** Queue 2n. */
  readonly receive: SavedReceive;
  /** Queue 2n + 1. */
  readonly transmit: SavedTransmit;
}

/** A network device. */
export interface SavedNet {
  /** Of this format. */
  readonly version: 1;
  /** Kind of device. */
  readonly device: "net";
  /** Meaning of feature bits 39–42. */
  readonly profile: Profile;
  /** Features that were in force: `0x130bf0000`. */
  readonly features: string;
  /** Address in force: `02:00:00:00:00:01`. */
  readonly mac: string;
  /** Bytes of an Ethernet payload. */
  readonly mtu: number;
  /** Bytes of each receive buffer, header included. */
  readonly bufferBytes: number;
  /** Receive filters that were set. */
  readonly filters: Readonly<Partial<Record<ReceiveFilter, boolean>>>;
  /** Addresses to receive for beside the device's own; null when none were set. */
  readonly macTable: { readonly unicast: readonly string[]; readonly multicast: readonly string[] } | null;
  /** Pairs that the device spreads frames over. */
  readonly activePairs: number;
  /** All pairs that were set up. */
  readonly pairs: readonly SavedPair[];
  /** The control queue, idle; null when there was none. */
  readonly control: SavedRing | null;
}

/** Version that `VirtioNet.suspend` writes and `VirtioNet.resume` takes. */
export const SAVED_NET_VERSION = 1;

const FILTERS: readonly string[] = Object.keys(NET_CTRL_RX);
const MAC_PATTERN = /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/;
const FEATURES_PATTERN = /^0x[0-9a-f]{1,16}$/;
/** A VLAN tag is not counted in the MTU. */
const FRAME_BYTES_MAX = 65535 + 18;

/**
 * Checks what came from a file or another process.
 * @returns fresh plain objects with nothing else in them
 * @throws UsageError naming the field
 */
export function checkSavedNet(value: unknown): SavedNet {
  const saved = object(value, "saved net");
  if (saved.version !== SAVED_NET_VERSION) {
    throw new UsageError(`saved net: version ${shown(saved.version)} is not known`, {
      hint: `this library reads version ${SAVED_NET_VERSION}`,
    });
  }
  if (saved.device !== "net") {
    throw new UsageError(`saved net: device ${shown(saved.device)} is not "net"`);
  }
  const pairs = array(saved.pairs, "saved net: pairs").map(checkPair);
  if (pairs.length === 0) throw new UsageError("saved net: pairs is empty");
  const layout = pairs[0]!.receive.ring.state.layout;
  const control = saved.control === null ? null : checkRing(saved.control, "saved net: control");
  const rings = [...pairs.flatMap(({ receive, transmit }) => [receive, transmit]), control];
  for (const one of rings) {
    if (one !== null && one.ring.state.layout !== layout) {
      throw new UsageError(
        `saved net: queue ${one.ring.queue} is ${one.ring.state.layout}, others ${layout}`,
      );
    }
  }
  if (control !== null && control.ring.queue < 2 * pairs.length) {
    throw new UsageError(`saved net: control.ring.queue ${control.ring.queue} is that of a pair`);
  }
  return {
    version: SAVED_NET_VERSION,
    device: "net",
    profile: text(saved.profile, (one) => PROFILES.includes(one), "saved net: profile") as Profile,
    features: text(saved.features, (one) => FEATURES_PATTERN.test(one), "saved net: features"),
    mac: mac(saved.mac, "saved net: mac"),
    mtu: integer(saved.mtu, 68, 65535, "saved net: mtu"),
    bufferBytes: integer(saved.bufferBytes, 1, 65536 + 12, "saved net: bufferBytes"),
    filters: checkFilters(saved.filters),
    macTable: saved.macTable === null ? null : checkMacTable(saved.macTable),
    activePairs: integer(saved.activePairs, 1, pairs.length, "saved net: activePairs"),
    pairs,
    control,
  };
}

function checkPair(value: unknown, at: number): SavedPair {
  const where = `saved net: pairs[${at}]`;
  const pair = object(value, where);
  const from = object(pair.transmit, `${where}.transmit`);
  const receive = {
    ...checkRing(pair.receive, `${where}.receive`),
    frames: checkFrames(object(pair.receive, where).frames, 1, `${where}.receive.frames`),
  };
  const transmit = {
    ...checkRing(from, `${where}.transmit`),
    frames: checkFrames(from.frames, 14, `${where}.transmit.frames`),
  };
  for (const [{ ring }, number] of [[receive, 2 * at], [transmit, 2 * at + 1]] as const) {
    if (ring.queue === number) continue;
    throw new UsageError(`${where}: queue ${ring.queue} stands where queue ${number} belongs`);
  }
  const inFlight = transmit.ring.inFlight.length;
  if (transmit.frames.length !== inFlight) {
    throw new UsageError(`${where}.transmit.frames: ${transmit.frames.length} frames of ${inFlight} chains`);
  }
  const undecided = integer(from.undecided, 0, inFlight, `${where}.transmit.undecided`);
  return { receive, transmit: { ...transmit, undecided } };
}

function checkRing(value: unknown, where: string): SavedRing {
  const saved = object(value, where);
  return within(where, () => {
    const ring = checkSavedQueue(saved.ring);
    return { ring, device: saved.device === null ? null : checkQueueState(saved.device, ring.size) };
  });
}

/** Says in which queue of the device a field is wrong. */
function within<T>(where: string, check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    throw new UsageError(`${where}: ${error.message}`, { hint: error.hint, cause: error });
  }
}

function checkFrames(value: unknown, leastBytes: number, where: string): string[] {
  return array(value, where).map((one, at) => {
    const bytes = frameBytes(one);
    if (bytes >= leastBytes && bytes <= FRAME_BYTES_MAX) return one as string;
    throw new UsageError(
      `${where}[${at}] is not a frame of ${leastBytes} to ${FRAME_BYTES_MAX} bytes in base64`,
    );
  });
}

function frameBytes(value: unknown): number {
  if (typeof value !== "string") return -1;
  try {
    return decodeFrame(value).length;
  } catch {
    return -1;
  }
}

/** Bytes of a saved frame. */
export function decodeFrame(frame: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromBase64(frame, { lastChunkHandling: "strict" });
}

/** Six bytes of a saved address. */
export function decodeMac(address: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(address.split(":"), (byte) => parseInt(byte, 16));
}

function checkFilters(value: unknown): Partial<Record<ReceiveFilter, boolean>> {
  const filters: Partial<Record<ReceiveFilter, boolean>> = {};
  for (const [name, on] of Object.entries(object(value, "saved net: filters"))) {
    if (!FILTERS.includes(name) || typeof on !== "boolean") {
      throw new UsageError(`saved net: filters.${name} ${shown(on)} is no filter that is on or off`);
    }
    filters[name as ReceiveFilter] = on;
  }
  return filters;
}

function checkMacTable(value: unknown): { unicast: string[]; multicast: string[] } {
  const table = object(value, "saved net: macTable");
  const list = (name: "unicast" | "multicast") =>
    array(table[name], `saved net: macTable.${name}`)
      .map((one, at) => mac(one, `saved net: macTable.${name}[${at}]`));
  return { unicast: list("unicast"), multicast: list("multicast") };
}

function mac(value: unknown, where: string): string {
  return text(value, (one) => MAC_PATTERN.test(one), where);
}

function text(value: unknown, good: (text: string) => boolean, where: string): string {
  if (typeof value === "string" && good(value)) return value;
  throw new UsageError(`${where} cannot be ${shown(value)}`);
}
