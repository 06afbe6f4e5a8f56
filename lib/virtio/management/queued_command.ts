/**
 * A command of a transport virtqueue on its way.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { Command } from "../control/command.ts";
import { TVQ_ACK, type TvqHeader, type TvqHeaderCodec } from "../spec/transport_vq_header.ts";
import type { ManagementCommandPlace } from "./error.ts";

/** A command before it is sent. */
export interface ManagementCommand extends TvqHeader {
  /** command-out-data. Default: none. */
  readonly out?: Uint8Array | undefined;
  /** Room for command-in-data, in bytes. Default 0. */
  readonly inBytes?: number | undefined;
  /** For messages: virtqueue of the managed device. */
  readonly queue?: number | undefined;
  /** For messages: what it is about, such as `offset 6, 2 bytes`. */
  readonly detail?: string | undefined;
}

const PART_BYTES_MAX = 1 << 20;

/** See the module's text. Its line is the device it is for: one at a time is outstanding for each. */
export class QueuedManagementCommand extends Command {
  /** Without its data. */
  readonly command: Omit<ManagementCommand, "out" | "inBytes">;
  /** After success: what the device wrote behind the ack. A copy. */
  reply: Uint8Array<ArrayBuffer> = new Uint8Array();
  readonly #codec: TvqHeaderCodec;
  readonly #out: Uint8Array | undefined;

  /** @throws UsageError for what is no command */
  constructor(command: ManagementCommand, timeoutMs: number, codec: TvqHeaderCodec) {
    requireType(command, "object", "execute: command", "deviceId", "class", "command");
    // Read once, and copied: the caller's object and bytes may change before it is sent.
    const { deviceId, class: ofClass, command: number, out, inBytes = 0, queue, detail } = command;
    if (typeof deviceId !== "bigint" || deviceId < 0n || deviceId >= 1n << 64n) {
      throw new UsageError(`managed device ${shown(deviceId)}`, { hint: "a bigint of 64 bits" });
    }
    for (const one of [ofClass, number]) {
      if (Number.isInteger(one) && one >= 0 && one <= 0xffff) continue;
      throw new UsageError(`class or command ${shown(one)}`, { hint: "16 bits each" });
    }
    if (out !== undefined) requireType(out, "bytes", "execute: command.out");
    if (!Number.isInteger(inBytes) || inBytes < 0 || inBytes > PART_BYTES_MAX) {
      throw new UsageError(`an answer of ${shown(inBytes)} bytes`, { hint: `0 to ${PART_BYTES_MAX}` });
    }
    const outBytes = out?.length ?? 0;
    if (outBytes > PART_BYTES_MAX) {
      throw new UsageError(`a command with ${outBytes} bytes of data`, { hint: `${PART_BYTES_MAX} at most` });
    }
    super(`${deviceId}`, false, timeoutMs, codec.headerBytes + outBytes, codec.ackBytes + inBytes);
    this.command = { deviceId, class: ofClass, command: number, queue, detail };
    this.#codec = codec;
    this.#out = out?.slice();
  }

  override encode(readable: Uint8Array, writable: Uint8Array): void {
    this.#codec.encodeHeader(this.command, readable);
    if (this.#out !== undefined) readable.set(this.#out, this.#codec.headerBytes);
    // An ack that is not written cannot pass for OK.
    writable.fill(0);
    this.#codec.encodeAck(TVQ_ACK.ERR, writable);
  }

  /** For messages. */
  where(name: string): ManagementCommandPlace {
    return { ...this.command, function: name };
  }
}
