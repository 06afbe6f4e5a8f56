/**
 * What a vhost-user server needs of the device behind it.
 *
 * @module
 */
import type { EventFd, OwnedFd } from "../../../../ffi/mod.ts";
import type { FrontEndMemory } from "./memory.ts";

/** What the device has of its front end, from `attached` to `detached`. */
export interface FrontEnd {
  /** Its memory. */
  readonly memory: FrontEndMemory;
  /** Tells it that the configuration changed, where it wants to hear. */
  configChanged(): void;
}

/** Addresses of a ring's areas, as its front end has them. */
export interface VringAddresses {
  /** Descriptor area. */
  readonly descriptor: bigint;
  /** Driver area. */
  readonly available: bigint;
  /** Device area. */
  readonly used: bigint;
}

/**
 * A ring. It runs from the moment when it was started (`setKick`) and is enabled, and stops with `stop`, or while it is not enabled.
 * What a member is given that cannot be is a ProtocolError.
 */
export interface ServedVring {
  /** Entries. @throws ProtocolError */
  setSize(entries: number): void;
  /** Where its areas are. A ring that runs goes on there. @throws ProtocolError */
  setAddresses(addresses: VringAddresses): void;
  /** Where it begins: next available index, of a packed ring as `PACKED_BASE` has it. @throws ProtocolError */
  setBase(base: number): void;
  /** Starts it. @param kick owned; null: there is none, and the ring is polled */
  setKick(kick: EventFd | null): void;
  /** What to signal for used buffers. @param call owned; null: nothing */
  setCall(call: EventFd | null): void;
  /** What to signal when the device stops over the ring. @param err owned; null: nothing */
  setErr(err: EventFd | null): void;
  /** Lets it run, or not. */
  setEnabled(enabled: boolean): void;
  /** Stops it. @returns where it would go on, as `setBase` takes it */
  stop(): number;
}

/** See the module. Errors of this library that a member throws refuse the message. */
export interface ServedVhostDevice {
  /** For messages. */
  readonly name: string;
  /** Features of the device, without those of `VHOST_FEATURE`. */
  readonly features: bigint;
  /** Its rings. */
  readonly vrings: readonly ServedVring[];
  /** Answer to GET_QUEUE_NUM: queues, of a network device pairs of them. */
  readonly queueCount: number;
  /** Largest ring. */
  readonly maxQueueSize: number;
  /** Bytes of its configuration; 0: none. */
  readonly configBytes: number;
  /** Largest MTU that its front end may name; undefined: it is no network device. */
  readonly maxMtu?: number | undefined;

  /** A front end is there. */
  attached(front: FrontEnd): void;
  /** It is gone: forget everything of it. Its memory is there during the call. */
  detached(): void;
  /** `FrontEnd.memory` changed. */
  memoryChanged(): void;
  /** Protocol features were agreed on. @param status STATUS is among them */
  protocolChosen(status: boolean): void;
  /** Features in force. @param enabled rings are so from their start: there are no protocol features @throws ProtocolError */
  setFeatures(features: bigint, enabled: boolean): void;
  /** The device status, as far as it is the device's to say. */
  readonly status: number;
  /** The front end says the status; 0 is a reset. */
  setStatus(status: number): void;
  /** To the state of a front end that has just come. */
  reset(): void;
  /** Fills `into` from the configuration: 0 past its end. */
  readConfig(offset: number, into: Uint8Array): void;
  /** Takes `from`, which is only valid during the call. */
  writeConfig(offset: number, from: Uint8Array): void;
  /** A file for chains in flight. @returns owned by the caller; undefined: this device keeps none */
  makeInflight(
    queues: number,
    queueSize: number,
  ): { readonly file: OwnedFd; readonly sizeBytes: number } | undefined;
  /** Takes the file that a device made. @param file stays the caller's @throws ProtocolError */
  setInflight(file: OwnedFd, offset: bigint, sizeBytes: bigint, queues: number, queueSize: number): void;
}
