/**
 * The requests of a front end, one by one: what each must look like, and what it does to the device.
 *
 * @module
 */
import type { EventFd, OwnedFd } from "../../../../ffi/mod.ts";
import { passedEventFd } from "../../passed_fd.ts";
import {
  CONFIG_FLAG,
  configMessage,
  inflightMessage,
  LIMIT,
  memRegion,
  memTable,
  PROTOCOL_FEATURE,
  protocolFeatureNames,
  REQUEST,
  singleMemRegion,
  u64Message,
  VHOST_FEATURE,
  VRING_ADDR_FLAG,
  VRING_FD,
  vringAddr,
  vringState,
} from "../protocol.ts";
import type { FrontEndMemory } from "./memory.ts";
import type { ServedVhostDevice, ServedVring } from "./served_device.ts";

/** Who carries a request out. */
export interface Carrier {
  /** On what. */
  readonly device: ServedVhostDevice;
  /** Memory of the front end. */
  readonly memory: FrontEndMemory;
  /** Those that were negotiated. */
  protocolFeatures: bigint;
  /** Descriptors of the message: closed with it. */
  readonly fds: readonly OwnedFd[];
  /** The same, which are the caller's from now on. */
  takeFds(): OwnedFd[];
  /** What the device asks goes there from now on. @param fd owned, unless it throws @throws ProtocolError */
  setBackEndRequests(fd: OwnedFd): void;
  /** For messages: the front end, and the request. */
  readonly title: string;
  /** An error about the message. */
  wrong(text: string): Error;
}

/** What a request is answered with. */
export interface Answer {
  /** Payload. */
  readonly bytes: Uint8Array;
  /** What goes beside; closed afterwards. */
  readonly file?: OwnedFd;
}

/** A request. */
export interface FrontEndRequest {
  /** Protocol features without which it may not be sent. */
  readonly needs?: bigint;
  /** Bytes of its payload. */
  readonly least: number;
  /** The same; default `least`. */
  readonly most?: number;
  /** It has an answer of its own. */
  readonly answers?: boolean;
  /** @returns its answer, if it has one of its own @throws an error of this library when it cannot be carried out */
  carryOut(by: Carrier, payload: Uint8Array): Answer | void;
}

const NOTHING = { least: 0 };
const U64 = { least: u64Message.sizeBytes };
const VRING = { least: vringState.sizeBytes };

/** Protocol features that are offered, whatever the device. */
const ALWAYS = PROTOCOL_FEATURE.MQ | PROTOCOL_FEATURE.REPLY_ACK | PROTOCOL_FEATURE.BACKEND_REQ |
  PROTOCOL_FEATURE.INFLIGHT_SHMFD | PROTOCOL_FEATURE.RESET_DEVICE | PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS |
  PROTOCOL_FEATURE.STATUS;

/** Protocol features of a back end with this device. */
export function protocolFeatures({ configBytes, maxMtu }: ServedVhostDevice): bigint {
  return ALWAYS | (configBytes > 0 ? PROTOCOL_FEATURE.CONFIG : 0n) |
    (maxMtu === undefined ? 0n : PROTOCOL_FEATURE.MTU);
}

/** By their numbers. */
export const REQUESTS: ReadonlyMap<number, FrontEndRequest> = new Map<number, FrontEndRequest>([
  [REQUEST.getFeatures, {
    ...NOTHING,
    answers: true,
    carryOut: ({ device }) => number(device.features | VHOST_FEATURE.PROTOCOL_FEATURES),
  }],
  [REQUEST.setFeatures, {
    ...U64,
    carryOut: (by, payload) => {
      const { value } = u64Message.decode(payload);
      const enabled = (value & VHOST_FEATURE.PROTOCOL_FEATURES) === 0n;
      by.device.setFeatures(value & ~VHOST_FEATURE.PROTOCOL_FEATURES, enabled);
    },
  }],
  [REQUEST.getProtocolFeatures, {
    ...NOTHING,
    answers: true,
    carryOut: ({ device }) => number(protocolFeatures(device)),
  }],
  [REQUEST.setProtocolFeatures, {
    ...U64,
    carryOut: (by, payload) => {
      const { value } = u64Message.decode(payload);
      const alien = value & ~protocolFeatures(by.device);
      if (alien !== 0n) throw by.wrong(`not offered: ${protocolFeatureNames(alien).join(", ")}`);
      by.protocolFeatures = value;
    },
  }],
  // Nothing depends on who owns the device: there is one connection.
  [REQUEST.setOwner, { ...NOTHING, carryOut: () => {} }],
  [REQUEST.resetOwner, { ...NOTHING, carryOut: ({ device }) => device.reset() }],
  [REQUEST.resetDevice, {
    ...NOTHING,
    needs: PROTOCOL_FEATURE.RESET_DEVICE,
    carryOut: ({ device }) => device.reset(),
  }],
  [REQUEST.getQueueNum, {
    ...NOTHING,
    needs: PROTOCOL_FEATURE.MQ,
    answers: true,
    carryOut: ({ device }) => number(BigInt(device.queueCount)),
  }],
  [REQUEST.setStatus, {
    ...U64,
    needs: PROTOCOL_FEATURE.STATUS,
    carryOut: (by, payload) => {
      const { value } = u64Message.decode(payload);
      if (value > 0xffn) throw by.wrong(`a device status of 0x${value.toString(16)} has more than 8 bits`);
      by.device.setStatus(Number(value));
    },
  }],
  [REQUEST.getStatus, {
    ...NOTHING,
    needs: PROTOCOL_FEATURE.STATUS,
    answers: true,
    carryOut: ({ device }) => number(BigInt(device.status)),
  }],
  [REQUEST.setMemTable, {
    least: memTable.sizeBytes,
    most: memTable.sizeBytes + LIMIT.memRegions * memRegion.sizeBytes,
    carryOut: setMemTable,
  }],
  [REQUEST.getMaxMemSlots, {
    ...NOTHING,
    needs: PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS,
    answers: true,
    carryOut: () => number(BigInt(LIMIT.memSlots)),
  }],
  [REQUEST.addMemReg, {
    least: singleMemRegion.sizeBytes,
    needs: PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS,
    carryOut: (by, payload) => {
      by.memory.add(singleMemRegion.decode(payload), oneFile(by));
      by.device.memoryChanged();
    },
  }],
  [REQUEST.remMemReg, {
    least: singleMemRegion.sizeBytes,
    needs: PROTOCOL_FEATURE.CONFIGURE_MEM_SLOTS,
    // Older front ends pass a descriptor with it, which nobody needs.
    carryOut: (by, payload) => {
      by.memory.remove(singleMemRegion.decode(payload));
      by.device.memoryChanged();
    },
  }],
  [REQUEST.setVringNum, {
    ...VRING,
    carryOut: (by, payload) => {
      const { index, num } = vringState.decode(payload);
      vring(by, index).setSize(num);
    },
  }],
  [REQUEST.setVringAddr, {
    least: vringAddr.sizeBytes,
    carryOut: (by, payload) => {
      const { index, flags, descriptor, available, used } = vringAddr.decode(payload);
      if ((flags & VRING_ADDR_FLAG.log) !== 0) throw by.wrong("nothing is logged: LOG_ALL was not offered");
      if (flags !== 0) throw by.wrong(`flags 0x${flags.toString(16)}`);
      vring(by, index).setAddresses({ descriptor, available, used });
    },
  }],
  [REQUEST.setVringBase, {
    ...VRING,
    carryOut: (by, payload) => {
      const { index, num } = vringState.decode(payload);
      vring(by, index).setBase(num);
    },
  }],
  [REQUEST.getVringBase, {
    ...VRING,
    answers: true,
    carryOut: (by, payload) => {
      const { index } = vringState.decode(payload);
      return { bytes: vringState.encode({ index, num: vring(by, index).stop() }) };
    },
  }],
  [REQUEST.setVringKick, {
    ...U64,
    carryOut: (by, payload) => {
      const { ring, eventFd } = vringFd(by, payload);
      ring.setKick(eventFd);
    },
  }],
  [REQUEST.setVringCall, {
    ...U64,
    carryOut: (by, payload) => {
      const { ring, eventFd } = vringFd(by, payload);
      ring.setCall(eventFd);
    },
  }],
  [REQUEST.setVringErr, {
    ...U64,
    carryOut: (by, payload) => {
      const { ring, eventFd } = vringFd(by, payload);
      ring.setErr(eventFd);
    },
  }],
  [REQUEST.setVringEnable, {
    ...VRING,
    carryOut: (by, payload) => {
      const { index, num } = vringState.decode(payload);
      if (num > 1) throw by.wrong(`${num} is neither 0 nor 1`);
      vring(by, index).setEnabled(num === 1);
    },
  }],
  [REQUEST.netSetMtu, {
    ...U64,
    needs: PROTOCOL_FEATURE.MTU,
    carryOut: (by, payload) => {
      const { value } = u64Message.decode(payload);
      const most = by.device.maxMtu ?? 0;
      if (value < 68n || value > BigInt(most)) throw by.wrong(`an MTU of ${value}: 68 to ${most} can be`);
    },
  }],
  [REQUEST.setBackendReqFd, {
    ...NOTHING,
    needs: PROTOCOL_FEATURE.BACKEND_REQ,
    carryOut: (by) => {
      oneFile(by);
      const [fd] = by.takeFds();
      try {
        by.setBackEndRequests(fd!);
      } catch (error) {
        fd!.close();
        throw error;
      }
    },
  }],
  [REQUEST.getConfig, {
    least: configMessage.sizeBytes,
    most: configMessage.sizeBytes + LIMIT.configBytes,
    needs: PROTOCOL_FEATURE.CONFIG,
    answers: true,
    carryOut: (by, payload) => {
      const { offset, sizeBytes, flags } = configMessage.decode(payload);
      checkConfig(by, offset, sizeBytes);
      const bytes = new Uint8Array(configMessage.sizeBytes + sizeBytes);
      configMessage.encodeInto(bytes, 0, { offset, sizeBytes, flags });
      by.device.readConfig(offset, bytes.subarray(configMessage.sizeBytes));
      return { bytes };
    },
  }],
  [REQUEST.setConfig, {
    least: configMessage.sizeBytes,
    most: configMessage.sizeBytes + LIMIT.configBytes,
    needs: PROTOCOL_FEATURE.CONFIG,
    carryOut: (by, payload) => {
      const { offset, sizeBytes, flags } = configMessage.decode(payload);
      checkConfig(by, offset, sizeBytes);
      const from = payload.subarray(configMessage.sizeBytes);
      if (from.byteLength !== sizeBytes) throw by.wrong(`${from.byteLength} bytes, it says ${sizeBytes}`);
      if (flags !== CONFIG_FLAG.writable) {
        throw by.wrong(`flags ${flags}: the configuration of a machine that moves cannot be set`);
      }
      by.device.writeConfig(offset, from);
    },
  }],
  [REQUEST.getInflightFd, {
    least: inflightMessage.sizeBytes - 4,
    most: inflightMessage.sizeBytes,
    needs: PROTOCOL_FEATURE.INFLIGHT_SHMFD,
    answers: true,
    carryOut: (by, payload) => {
      const { queueCount, queueSize } = inflightOf(by, payload);
      const made = by.device.makeInflight(queueCount, queueSize);
      const mmapBytes = BigInt(made?.sizeBytes ?? 0);
      const answer = { mmapBytes, mmapOffset: 0n, queueCount, queueSize };
      const bytes = inflightMessage.encode(answer).subarray(0, payload.byteLength);
      return made === undefined ? { bytes } : { bytes, file: made.file };
    },
  }],
  [REQUEST.setInflightFd, {
    least: inflightMessage.sizeBytes - 4,
    most: inflightMessage.sizeBytes,
    needs: PROTOCOL_FEATURE.INFLIGHT_SHMFD,
    carryOut: (by, payload) => {
      const { mmapBytes, mmapOffset, queueCount, queueSize } = inflightOf(by, payload);
      by.device.setInflight(oneFile(by), mmapOffset, mmapBytes, queueCount, queueSize);
    },
  }],
]);

function setMemTable(by: Carrier, payload: Uint8Array): void {
  const { count } = memTable.decode(payload);
  const { fds } = by;
  if (payload.byteLength !== memTable.sizeBytes + count * memRegion.sizeBytes) {
    throw by.wrong(`${payload.byteLength} bytes for ${count} regions`);
  }
  if (fds.length !== count) throw by.wrong(`${fds.length} descriptors for ${count} regions`);
  const at = (i: number) => memTable.sizeBytes + i * memRegion.sizeBytes;
  by.memory.replace(Array.from({ length: count }, (_, i) => memRegion.decode(payload, at(i))), fds);
  by.device.memoryChanged();
}

function number(value: bigint): Answer {
  return { bytes: u64Message.encode({ value }) };
}

function vring(by: Carrier, index: number): ServedVring {
  const found = by.device.vrings[index];
  if (found === undefined) {
    throw by.wrong(`there is no ring ${index}, the device has ${by.device.vrings.length}`);
  }
  return found;
}

/** The ring and the eventfd of SET_VRING_KICK and its like; null where none comes along. */
function vringFd(by: Carrier, payload: Uint8Array): { ring: ServedVring; eventFd: EventFd | null } {
  const { value } = u64Message.decode(payload);
  if ((value & ~(VRING_FD.indexMask | VRING_FD.none)) !== 0n) {
    throw by.wrong(`0x${value.toString(16)} has bits that mean nothing`);
  }
  const ring = vring(by, Number(value & VRING_FD.indexMask));
  if ((value & VRING_FD.none) !== 0n) return { ring, eventFd: null };
  oneFile(by);
  const [fd] = by.takeFds();
  try {
    return { ring, eventFd: passedEventFd(fd!, by.title) };
  } catch (error) {
    fd!.close();
    throw error;
  }
}

/** The one descriptor of the message, which stays the message's. */
function oneFile(by: Carrier): OwnedFd {
  const [file, ...others] = by.fds;
  if (file === undefined || others.length > 0) throw by.wrong(`${by.fds.length} descriptors, it needs one`);
  return file;
}

function checkConfig(by: Carrier, offset: number, sizeBytes: number): void {
  if (sizeBytes > 0 && offset + sizeBytes <= LIMIT.configBytes) return;
  throw by.wrong(`${sizeBytes} bytes at ${offset}: the configuration has ${LIMIT.configBytes} at most`);
}

/** C compilers pad the structure; not all front ends send the padding. */
function inflightOf(by: Carrier, payload: Uint8Array) {
  const whole = new Uint8Array(inflightMessage.sizeBytes);
  whole.set(payload);
  const { device } = by;
  const found = inflightMessage.decode(whole);
  const { queueCount, queueSize } = found;
  if (
    queueCount < 1 || queueCount > device.vrings.length || queueSize < 1 || queueSize > device.maxQueueSize
  ) {
    throw by.wrong(
      `${queueCount} rings of ${queueSize}: the device has ${device.vrings.length} of up to ${device.maxQueueSize}`,
    );
  }
  return found;
}
