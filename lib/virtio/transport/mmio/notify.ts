/**
 * Where a queue of a virtio-mmio device is notified, and how wide the write is (reference 7.2; ).
 *
 * @module
 */
import { DeviceError } from "../../../errors/mod.ts";
import type { RegisterTable } from "../../../registers/declaration.ts";
import { MMIO_CONFIG_OFFSET } from "../../spec/mmio.ts";

/** A doorbell's place in the window. */
export interface NotifyPlace {
  /** Bytes from the start of the window. */
  readonly offset: number;
  /** Bytes of each write. */
  readonly width: 2 | 4;
}

/** What the drafts read at QueueNotify. */
export interface NotifyConfig {
  /** Bytes from the start of the window to queue 0's doorbell. */
  readonly base: number;
  /** Bytes from each doorbell to the next. */
  readonly multiplier: number;
}

/** What a doorbell must not lie on. */
export interface NotifyLimits {
  /** Of the device, for messages. */
  readonly name: string;
  /** Bytes of the window. */
  readonly sizeBytes: number;
  /** Its registers; QueueNotify itself is no obstacle. */
  readonly table: RegisterTable;
  /** Bytes of its config space. */
  readonly configSizeBytes: number;
}

/**
 * Where a queue's doorbell is. 32 bits are written where base and multiplier are multiples of 4, else the draft's 16; the word of NOTIFICATION_DATA has
 * 32 bits and can be written nowhere else.
 * @param withData NOTIFICATION_DATA was negotiated
 * @throws DeviceError for a place that no write of that width can have, past the window, or on another register or the config space
 */
export function notifyPlace(
  { base, multiplier }: NotifyConfig,
  queue: number,
  withData: boolean,
  limits: NotifyLimits,
): NotifyPlace {
  const offset = base + queue * multiplier;
  const wide = base % 4 === 0 && multiplier % 4 === 0;
  const width = wide ? 4 : 2;
  const refuse = (reason: string): never => {
    throw new DeviceError(
      `notify base 0x${base.toString(16)}, multiplier ${multiplier}: ${reason}`,
      { function: limits.name, queue, field: "QueueNotify" },
    );
  };
  if (withData && !wide) {
    refuse("the 32 bits of NOTIFICATION_DATA need multiples of 4 (A-7.14); refuse the feature");
  }
  if (offset % width !== 0) {
    refuse(`a 16-bit doorbell cannot be written at odd offset 0x${offset.toString(16)}`);
  }
  if (offset + width > limits.sizeBytes) {
    refuse(`offset 0x${offset.toString(16)} is past the window's ${limits.sizeBytes} bytes (A-7.15)`);
  }
  const hit = Object.entries(limits.table).find(([name, register]) =>
    name !== "queue_notify" && overlaps(offset, width, register.offset, register.width)
  );
  if (hit !== undefined) refuse(`offset 0x${offset.toString(16)} is ${hit[1].name ?? hit[0]}`);
  if (overlaps(offset, width, MMIO_CONFIG_OFFSET, limits.configSizeBytes)) {
    refuse(`offset 0x${offset.toString(16)} is in the config space`);
  }
  return { offset, width };
}

function overlaps(start: number, length: number, other: number, otherLength: number): boolean {
  return start < other + otherLength && other < start + length;
}
