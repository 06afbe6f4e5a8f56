/**
 * What a command of a transport virtqueue and its answer begin with. No stored text has this header; what is here is ours, padded so that each 64-bit
 * field of what follows is aligned (reference 4.2, A-4.9). Another one replaces it as one object.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { Struct, u16, u64, u8 } from "../../wire/mod.ts";

/** Whom a command is for, and which one it is. */
export interface TvqHeader {
  /** 0 is the management device itself. */
  readonly deviceId: bigint;
  /** Class. */
  readonly class: number;
  /** Number in its class. */
  readonly command: number;
}

/** Encodes and decodes headers and acknowledgements. */
export interface TvqHeaderCodec {
  /** Bytes of the header; command-out-data follows. */
  readonly headerBytes: number;
  /** Bytes of the acknowledgement, the first that the device writes; command-in-data follows. */
  readonly ackBytes: number;
  /** Writes the header at the start of `into`. @throws UsageError for a value that does not fit */
  encodeHeader(header: TvqHeader, into: Uint8Array): void;
  /** Reads it. @throws UsageError for less than `headerBytes` */
  decodeHeader(bytes: Uint8Array): TvqHeader;
  /** Writes an acknowledgement at the start of `into`. */
  encodeAck(ack: number, into: Uint8Array): void;
  /** Reads it. @throws UsageError for less than `ackBytes` */
  decodeAck(bytes: Uint8Array): number;
}

function codec(headerBytes: number, ackBytes: number): TvqHeaderCodec {
  const head = new Struct("virtio_transptq_ctrl", headerBytes, {
    device_id: u64(0),
    class: u16(8),
    command: u16(10),
  });
  const tail = new Struct("virtio_transptq_ctrl (device-writable)", ackBytes, { ack: u8(0) });
  return {
    headerBytes,
    ackBytes,
    encodeHeader: (header, into) => {
      requireType(header, "object", "encodeHeader: header", "deviceId", "class", "command");
      requireType(into, "bytes", "encodeHeader: into");
      const { deviceId, class: ofClass, command } = header;
      into.fill(0, 0, headerBytes);
      head.encodeInto(into, 0, { device_id: deviceId, class: ofClass, command });
    },
    decodeHeader: (bytes) => {
      const { device_id, class: ofClass, command } = head.decode(bytes);
      return { deviceId: device_id, class: ofClass, command };
    },
    encodeAck: (ack, into) => {
      requireType(ack, "number", "encodeAck: ack");
      requireType(into, "bytes", "encodeAck: into");
      into.fill(0, 0, ackBytes);
      tail.encodeInto(into, 0, { ack });
    },
    decodeAck: (bytes) => tail.decode(bytes).ack,
  };
}

/** 16 bytes: device_id le64, class le16, command le16, 4 reserved; and 8: ack, 7 reserved. */
export const TVQ_PADDED_HEADER: TvqHeaderCodec = codec(16, 8);

/** The same without padding: 12 bytes, and 1. */
export const TVQ_TIGHT_HEADER: TvqHeaderCodec = codec(12, 1);

/**
 * `ack`. The draft says only that a command succeeds or fails: 0 and 255. A device may say why by one of the others, which a driver takes as ERR all
 * the same; the draft's reviewer missed reasons.
 */
export const TVQ_ACK = {
  OK: 0,
  /** No such class or command. */
  COMMAND: 1,
  /** 0 where a managed device is meant, or the other way round (N-4.2, N-4.4, N-4.5). */
  DEVICE_ID: 2,
  /** No such device, or no more. */
  NO_DEVICE: 3,
  /** Not below the number of the device's queues, or a queue of size 0 (N-4.13, A-4.30). */
  QUEUE_INDEX: 4,
  /** Out-data too short. */
  OUT_DATA: 5,
  /** No room for the in-data. */
  IN_DATA: 6,
  /** Features that are not offered (N-4.3, A-4.14). */
  FEATURES: 7,
  /** Outside the config space (N-4.10), or a device configuration that cannot be. */
  CONFIG: 8,
  /** Not a value of the field. */
  VALUE: 9,
  /** Not now: a queue that is enabled, features after FEATURES_OK. */
  STATE: 10,
  /** No virtqueues or devices left. */
  RESOURCES: 11,
  /** Not a device type that can be created. */
  DEVICE_TYPE: 12,
  /** Needs a feature that was not negotiated. */
  NOT_NEGOTIATED: 13,
  ERR: 255,
} as const;

/** Name of an acknowledgement of this library's devices. */
export type TvqAckName = keyof typeof TVQ_ACK;

/** The name; undefined for another device's code. */
export function tvqAckName(ack: number): TvqAckName | undefined {
  return (Object.keys(TVQ_ACK) as TvqAckName[]).find((name) => TVQ_ACK[name] === ack);
}
