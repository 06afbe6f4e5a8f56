/**
 * A legacy I/O BAR for whoever presents a transitional device, as a hypervisor does for a guest: byte accesses in, register commands out
 * (SPEC "Group administration commands / Legacy Interface"; reference 2.3, 3.7, A-3.13).
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { UsageError } from "../../errors/mod.ts";
import type { LegacyRegisterAccess, LegacyWidth } from "../admin/legacy_access.ts";
import { LEGACY_CFG, LEGACY_CFG_BYTES } from "../spec/legacy.ts";
import type { RegisterDeclaration } from "../../registers/declaration.ts";
import { alignedWidth, legacyConfigBytes, legacyConfigField } from "./legacy_config.ts";
import { legacyIoBarBytes } from "./legacy_identity.ts";
import { type LegacyDoorbell, LegacyNotify } from "./legacy_notify.ts";

/** How to present a device. */
export interface LegacyIoBarOptions {
  /** Virtio device id: says how long the device-specific part is, and where its fields are. */
  readonly deviceId: number;
  /** Where notifications go; closed by its owner. Default: commands. */
  readonly notify?: LegacyNotify;
  /** Default false. */
  readonly msixEnabled?: boolean;
}

const REGISTERS: readonly RegisterDeclaration[] = Object.values(LEGACY_CFG);
const NOTIFY = LEGACY_CFG.queue_notify;
/** Doorbells are kept for so many queues; those of higher indices are looked up at each notification. */
const DOORBELLS_KEPT = 1024;
/** What a port reads that nothing answers. */
const FLOATING = 0xff;

/** One command of an access. */
interface Piece {
  /** Bytes from the start of the access. */
  readonly at: number;
  readonly width: LegacyWidth;
  /** Offset for the command; undefined where nothing is to be read or written. */
  readonly offset: number | undefined;
  readonly part: "common" | "device";
  readonly writable: boolean;
  /** What is read where there is no command. */
  readonly filler: number;
}

/**
 * Answers accesses of any length and alignment to the BAR: offsets 0 to 19 are the common part, to 23 while MSI-X is enabled, and the device-specific
 * part follows; as a command, each part has offsets of its own from 0 on.
 *
 * An access is cut into commands that each lie in one field (N-3.14), widest first, in ascending order. What no field of the device type has reads
 * as zero (padding between fields) or as all ones (behind the last), and writes to it are dropped; so are writes to read-only registers, as a
 * device does. The one exception is Queue Notify: it is written as the 16-bit register that it is, to the notify address where there is one.
 *
 * Calls are synchronous, so accesses to one VF never mix. An `AdminCommandError` of a command comes out of the access; what was before it in
 * the same access has happened.
 */
export class LegacyIoBar {
  static {
    typedErrors(this);
  }

  /** Bytes of the BAR, a power of two. */
  readonly sizeBytes: number;
  /** To be kept as the guest has it in its MSI-X capability: the device-specific part moves with it. */
  msixEnabled: boolean;
  readonly #registers: LegacyRegisterAccess;
  readonly #deviceId: number;
  readonly #configBytes: number;
  readonly #notify: LegacyNotify;
  readonly #doorbells: (LegacyDoorbell | undefined)[] = [];

  /** Issues no command. @param registers the VF's; nobody else may drive it */
  constructor(registers: LegacyRegisterAccess, options: LegacyIoBarOptions) {
    requireType(
      registers,
      "object",
      "new LegacyIoBar: registers",
      "readCommon",
      "writeCommon",
      "readDevice",
      "writeDevice",
    );
    requireType(options, "object", "new LegacyIoBar: options", "deviceId");
    this.#registers = registers;
    this.#deviceId = options.deviceId;
    this.#configBytes = legacyConfigBytes(options.deviceId);
    this.#notify = options.notify ?? new LegacyNotify(registers);
    this.sizeBytes = legacyIoBarBytes(options.deviceId);
    this.msixEnabled = options.msixEnabled ?? false;
  }

  /** Fills `into` from the BAR. @throws UsageError for what is not wholly inside the BAR */
  read(offset: number, into: Uint8Array): void {
    for (const { at, width, offset: from, part, filler } of this.#pieces(offset, into.length)) {
      if (from === undefined) {
        into.fill(filler, at, at + width);
        continue;
      }
      const value = part === "common"
        ? this.#registers.readCommon(from, width)
        : this.#registers.readDevice(from, width);
      for (let i = 0; i < width; i++) into[at + i] = value >>> (8 * i);
    }
  }

  /**
   * Writes `from` into the BAR.
   * @throws UsageError for what is not wholly inside the BAR, or covers Queue Notify and is not 2 bytes at 16: nothing was written then
   */
  write(offset: number, from: Uint8Array): void {
    const pieces = this.#pieces(offset, from.length);
    if (offset < NOTIFY.offset + NOTIFY.width && offset + from.length > NOTIFY.offset) {
      if (offset !== NOTIFY.offset || from.length !== NOTIFY.width) {
        throw new UsageError(
          `${this.#registers.name}: a write of ${from.length} bytes at ${offset} of the legacy I/O BAR covers Queue Notify`,
          { hint: `Queue Notify is written by ${NOTIFY.width} bytes at ${NOTIFY.offset}` },
        );
      }
      this.#doorbell(from[0]! | (from[1]! << 8)).ring();
      return;
    }
    for (const { at, width, offset: to, part, writable } of pieces) {
      if (to === undefined || !writable) continue;
      let value = 0;
      for (let i = width - 1; i >= 0; i--) value = value * 256 + from[at + i]!;
      if (part === "common") this.#registers.writeCommon(to, width, value);
      else this.#registers.writeDevice(to, width, value);
    }
  }

  /** One little-endian read, as by the processor's `in`. @throws as `read` */
  readValue(offset: number, width: LegacyWidth): number {
    const bytes = new Uint8Array(4);
    this.read(offset, bytes.subarray(0, width));
    return new DataView(bytes.buffer).getUint32(0, true);
  }

  /** One little-endian write, as by the processor's `out`. @throws as `write`; UsageError for a value that does not fit */
  writeValue(offset: number, width: LegacyWidth, value: number): void {
    if (!Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) {
      throw new UsageError(`${value} does not fit a register of ${8 * width} bits`);
    }
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.write(offset, bytes.subarray(0, width));
  }

  #doorbell(queue: number): LegacyDoorbell {
    if (queue >= DOORBELLS_KEPT) return this.#notify.doorbell(queue);
    return this.#doorbells[queue] ??= this.#notify.doorbell(queue);
  }

  #pieces(offset: number, length: number): Piece[] {
    if (!Number.isInteger(offset) || offset < 0 || length < 1 || offset + length > this.sizeBytes) {
      throw new UsageError(
        `${this.#registers.name}: ${length} bytes at ${offset} are outside the legacy I/O BAR of ${this.sizeBytes} bytes`,
      );
    }
    const pieces: Piece[] = [];
    for (let at = 0; at < length;) {
      const piece = this.#piece(offset + at, at, length - at);
      pieces.push(piece);
      at += piece.width;
    }
    return pieces;
  }

  #piece(offset: number, at: number, left: number): Piece {
    const commonBytes = this.msixEnabled ? LEGACY_CFG_BYTES.msix : LEGACY_CFG_BYTES.plain;
    if (offset < commonBytes) {
      const register = REGISTERS.find((one) => offset >= one.offset && offset < one.offset + one.width)!;
      const width = alignedWidth(offset, Math.min(left, register.offset + register.width - offset));
      return { at, width, offset, part: "common", writable: register.access === "RW", filler: 0 };
    }
    const inDevice = offset - commonBytes;
    const field = inDevice < this.#configBytes ? legacyConfigField(this.#deviceId, inDevice) : undefined;
    if (field === undefined) {
      const filler = inDevice < this.#configBytes ? 0 : FLOATING;
      return { at, width: 1, offset: undefined, part: "device", writable: false, filler };
    }
    const width = alignedWidth(inDevice, Math.min(left, field.offset + field.sizeBytes - inDevice));
    return { at, width, offset: inDevice, part: "device", writable: true, filler: 0 };
  }
}
