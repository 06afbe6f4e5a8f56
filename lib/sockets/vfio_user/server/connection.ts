/**
 * One client's connection, from the server's side: every message checked, carried out on the device, and answered.
 *
 * @module
 */
import { PeerGoneError, ProtocolError } from "../../../errors/mod.ts";
import { errnoNumber, type OwnedFd, type UnixSocket } from "../../../../ffi/mod.ts";
import { DEVICE_FLAG, REGION_FLAG } from "../../../vfio/device.ts";
import { parseVfToken } from "../../../vfio/uuid.ts";
import type { AnswerBudget } from "../../answer_budget.ts";
import { ClientConnection, type ClientPatience, type Served } from "../../client_connection.ts";
import { decodeVersion, encodeVersion } from "../capabilities.ts";
import { UserMessage, UserMessages } from "../messages.ts";
import type { DmaTable } from "../../dma_table.ts";
import {
  addressSpaceTail,
  COMMAND,
  commandName,
  HEADER_BYTES,
  LIMIT,
  maxMessageBytes,
  MESSAGE_FLAG,
  OWN_COMMAND,
  PROTOCOL_VERSION,
  regionAccess,
  writeMulti,
  writeMultiEntry,
} from "../protocol.ts";
import { replyErrorNumber, RequestRefused } from "./refusal.ts";
import { type Answer, QUERIES, regionOf } from "./queries.ts";
import type { ServedDevice } from "./served_device.ts";
import { serveMapArea } from "./map_area.ts";
import { type DmaLimits, mapDma, unmapDma } from "./dma.ts";
import type { DmaMessages } from "../../far_memory.ts";
import { ServerMessages } from "./dma_messages.ts";
import { serveFeature } from "./features.ts";
import { ServerMigration } from "./migration.ts";
import { setIrqs } from "./irqs.ts";

/** Limits of a server. */
export interface ConnectionLimits extends DmaLimits, ClientPatience {
  /** Told when memory of a client is refused. */
  readonly refused: (reason: Error) => void;
  /** How long answers to DMA_READ and DMA_WRITE may take. */
  readonly answers: AnswerBudget;
  /** Data bytes in one transfer message. */
  readonly maxDataTransferBytes: number;
  /** Descriptors in one message. */
  readonly maxMessageFds: number;
}

/** QEMU refuses an answer above its own 16, and a client that named fewer may still send so many. */
const LEAST_MESSAGE_FDS = 16;
const SMALL_ACCESS_BYTES = 8;
const DATA_OFFSET = HEADER_BYTES + regionAccess.sizeBytes;
const EINVAL = "EINVAL";
const MAPS: readonly number[] = [COMMAND.dmaMap, OWN_COMMAND.spaceMap];

/** A client. */
export class ServerConnection extends ClientConnection<UserMessages, UserMessage> {
  readonly #device: ServedDevice;
  readonly #table: DmaTable;
  readonly #limits: ConnectionLimits;
  readonly #messages: ServerMessages;
  readonly #migration: ServerMigration;
  /** Descriptors that the client takes in one message. */
  #clientFds = 0;
  /** A file of the client was refused, which is said once. */
  #refusedMemory = false;
  /** MAP_AREA was negotiated. */
  #mapsAreas = false;
  /** Address spaces that were negotiated. */
  #spaces: readonly DmaTable[] = [];
  #attached = false;
  // Views for small accesses, made once: of the reply's data by length, and of a copy of a request's data.
  #replyViews: Uint8Array<ArrayBuffer>[] = [];
  #replyBuffer: ArrayBuffer | null = null;
  readonly #writeViews: Uint8Array<ArrayBuffer>[];
  #replyFds: readonly OwnedFd[] | undefined;

  /** Made for an accepted socket, which is this object's from now on. */
  constructor(socket: UnixSocket, device: ServedDevice, table: DmaTable, limits: ConnectionLimits) {
    const what = `client of ${device.name}`;
    const incoming = new UserMessages(socket, what, {
      messageBytes: maxMessageBytes(limits.maxDataTransferBytes),
      messageFds: limits.maxMessageFds,
    });
    super(socket, incoming, new UserMessage(socket), what, limits);
    this.#device = device;
    this.#table = table;
    this.#limits = limits;
    this.#migration = new ServerMigration(device.migration);
    this.#messages = new ServerMessages(socket, this.in, this.out, limits.answers);
    const scratch = new ArrayBuffer(SMALL_ACCESS_BYTES);
    this.#writeViews = Array.from(
      { length: SMALL_ACCESS_BYTES + 1 },
      (_, n) => new Uint8Array(scratch, 0, n),
    );
  }

  protected override readonly greeting = "its VERSION";

  override get greeted(): boolean {
    return this.#attached;
  }

  protected override get failure(): Error | null {
    return this.#messages.failure;
  }

  override get hasArrivals(): boolean {
    return this.#messages.readAhead || super.hasArrivals;
  }

  override get exhausted(): boolean {
    return this.#messages.exhausted;
  }

  override serve(): Served {
    this.begin();
    while (this.arrives()) this.carriedOut(this.#handle());
    this.#messages.readAhead = false;
    return this.finish();
  }

  protected override refuseMalformed(): void {
    const tooLarge = this.in.messageBytes > this.in.limits.messageBytes;
    if (!this.in.isReply) this.#replyErrorQuietly(errnoNumber[tooLarge ? "EMSGSIZE" : EINVAL]!);
  }

  /** Carries out and answers the current message. @returns false when the connection has ended: see `reason` */
  #handle(): boolean {
    const { command, flags, messageId, isReply } = this.in;
    if (isReply) {
      if (this.#messages.isLate(this.in.messageId, command)) return true;
      this.reason = new ProtocolError(
        `${this.what}: a reply to ${commandName(command)}, which was not sent`,
      );
      return false;
    }
    const silent = (flags & MESSAGE_FLAG.noReply) !== 0;
    this.#replyFds = undefined;
    let replyBytes: number;
    try {
      replyBytes = this.#carryOut(command, flags);
    } catch (error) {
      const known = replyErrorNumber(error);
      const fatal = known === undefined || !this.#attached;
      if (fatal) this.reason = error as Error;
      else if (MAPS.includes(command) && error instanceof ProtocolError && !this.#refusedMemory) {
        this.#refusedMemory = true;
        this.#limits.refused(error);
      }
      if (!silent) this.#replyErrorQuietly(known ?? errnoNumber.EIO!);
      if (known === undefined) throw error;
      return this.reason === null;
    }
    if (silent) return true;
    try {
      this.out.header(messageId, command, MESSAGE_FLAG.typeReply, replyBytes);
      this.out.transmitNow(replyBytes, this.#replyFds);
    } catch (error) {
      // Whom a reply does not reach has left, as a process may at any time.
      if (!(error instanceof PeerGoneError)) this.reason = error as Error;
      return false;
    }
    return true;
  }

  #replyErrorQuietly(error: number): void {
    const { command, messageId } = this.in;
    try {
      this.out.header(messageId, command, MESSAGE_FLAG.typeReply | MESSAGE_FLAG.error, 0, error);
      this.out.transmitNow(0);
    } catch (failure) {
      if (!(failure instanceof PeerGoneError)) this.reason ??= failure as Error;
    }
  }

  /** Does one command and builds its reply. @returns the reply's payload size */
  #carryOut(command: number, flags: number): number {
    if ((flags & ~(MESSAGE_FLAG.known & ~MESSAGE_FLAG.error)) !== 0) {
      throw this.#refuse(EINVAL, `flags 0x${flags.toString(16)}`);
    }
    if ((command === COMMAND.version) === this.#attached) {
      throw this.#refuse(EINVAL, this.#attached ? "the version is negotiated" : "VERSION must come first");
    }
    // Descriptors that a command has no use for are closed with its message: SPDK sends one with every DMA_UNMAP.
    switch (command) {
      case COMMAND.regionRead:
        return this.#regionRead();
      case COMMAND.regionWrite:
        return this.#regionWrite();
      case COMMAND.regionWriteMulti:
        return this.#regionWriteMulti();
      case COMMAND.version:
        return this.#version();
      case COMMAND.dmaMap:
        return this.#map(this.#table, this.in.payload, this.#messages);
      case COMMAND.dmaUnmap:
        unmapDma(this.#table, this.#device, this.in.payload, this.#spaces);
        return this.#put(this.in.payload);
      case OWN_COMMAND.spaceMap: {
        const { table, request } = this.#ofSpace();
        // DMA_READ and DMA_WRITE name no address space.
        return this.#map(table, request, null);
      }
      case OWN_COMMAND.spaceUnmap: {
        const { table, request } = this.#ofSpace();
        unmapDma(table, null, request);
        return this.#put(this.in.payload);
      }
      case COMMAND.deviceSetIrqs:
        setIrqs(this.#device, this.in.payload, this.in.fds.length, () => this.in.takeFds());
        return 0;
      case COMMAND.deviceReset:
        return this.#reset();
      case OWN_COMMAND.mapArea:
        if (!this.#mapsAreas) throw this.#refuse("ENOTSUP", "the capability was not negotiated");
        return this.#answer(serveMapArea(this.#device, this.in.payload, this.#limits.pageBytes));
      case COMMAND.deviceFeature:
        return this.#put(serveFeature(this.#device, this.#migration, this.in.payload));
      case COMMAND.migDataRead:
        return this.#put(this.#migration.read(this.in.payload, this.#limits.maxDataTransferBytes));
      case COMMAND.migDataWrite:
        this.#migration.write(this.in.payload);
        return 0;
      default: {
        const query = QUERIES.get(command);
        if (query === undefined) throw this.#refuse("ENOTSUP", "no such command of a client");
        return this.#answer(query(this.#device, this.in.payload, this.#clientFds));
      }
    }
  }

  #map(table: DmaTable, request: Uint8Array, messages: DmaMessages | null): number {
    mapDma(table, request, this.in.fds, {
      limits: this.#limits,
      what: this.what,
      mappings: this.#spaces.reduce((sum, { count }) => sum + count, this.#table.count),
      keepFiles: this.#device.keepsDmaFiles ?? false,
      messages,
    });
    return 0;
  }

  /** The address space that a request ends with, and what comes before. */
  #ofSpace(): { table: DmaTable; request: Uint8Array } {
    if (this.#spaces.length === 0) throw this.#refuse("ENOTSUP", "the capability was not negotiated");
    this.#requireBytes(addressSpaceTail.sizeBytes);
    const { payload } = this.in;
    const at = payload.byteLength - addressSpaceTail.sizeBytes;
    const { id, reserved } = addressSpaceTail.decode(payload, at);
    const table = this.#spaces[id - 1];
    if (table === undefined || reserved !== 0) {
      throw this.#refuse(EINVAL, `address space ${id} of ${this.#spaces.length}, reserved ${reserved}`);
    }
    return { table, request: payload.subarray(0, at) };
  }

  #clearSpaces(): void {
    for (const table of this.#spaces) table.clear();
  }

  #answer({ bytes, fds }: Answer): number {
    this.#replyFds = fds;
    return this.#put(bytes);
  }

  #put(payload: Uint8Array): number {
    this.out.put(payload);
    return payload.byteLength;
  }

  #refuse(code: string, text: string): RequestRefused {
    return new RequestRefused(
      code,
      `${this.what}: ${commandName(this.in.command)}: ${text}`,
    );
  }

  #requireBytes(bytes: number): void {
    if (this.in.payloadBytes < bytes) {
      throw this.#refuse(EINVAL, `${this.in.payloadBytes} of ${bytes} bytes`);
    }
  }

  #version(): number {
    const offer = decodeVersion(this.in.payload, this.what);
    if (offer.major !== PROTOCOL_VERSION.major) {
      throw this.#refuse(EINVAL, `version ${offer.major}.${offer.minor}`);
    }
    const { maxMessageFds, vfToken } = offer.capabilities;
    this.#device.vfTokens?.admit(vfToken === undefined ? undefined : parseVfToken(vfToken));
    this.#mapsAreas = (offer.capabilities.mapArea ?? false) && this.#device.mapArea !== undefined &&
      maxMessageFds > 0;
    const { addressSpaces = 0 } = offer.capabilities;
    this.#spaces = this.#device.addressSpaces?.slice(0, addressSpaces) ?? [];
    const answer = encodeVersion(
      Math.min(offer.minor, PROTOCOL_VERSION.minor),
      {
        maxMessageFds: Math.min(this.#limits.maxMessageFds, Math.max(maxMessageFds, LEAST_MESSAGE_FDS)),
        maxDataTransferBytes: this.#limits.maxDataTransferBytes,
        maxDmaMaps: this.#limits.maxDmaMaps,
        pageSizes: this.#limits.pageBytes,
        writeMultiple: true,
        ...(this.#mapsAreas ? { mapArea: true } : {}),
        ...(this.#spaces.length > 0 ? { addressSpaces: this.#spaces.length } : {}),
      },
      offer.named,
    );
    this.#clientFds = maxMessageFds;
    this.#messages.dataBytes = Math.min(
      this.#limits.maxDataTransferBytes,
      offer.capabilities.maxDataTransferBytes,
    );
    this.#device.attached(this.#table);
    this.#attached = true;
    return this.#put(answer);
  }

  #reset(): number {
    if (this.in.payloadBytes !== 0) throw this.#refuse(EINVAL, `${this.in.payloadBytes} bytes of payload`);
    if ((this.#device.info.flags & DEVICE_FLAG.reset) === 0) throw this.#refuse("ENOTSUP", "no reset");
    this.#device.reset();
    this.#clearSpaces();
    this.#migration.reset();
    return 0;
  }

  /** Checks one access. @returns its offset in the region */
  #checkAccess(at: number, count: number, flag: number): number {
    const { view } = this.in;
    const index = view.getUint32(at + regionAccess.fields.region.offset, true);
    const region = regionOf(this.#device, index, commandName(this.in.command));
    // Exact below 2^53, and above it still larger than any region.
    const offset = view.getUint32(at + 4, true) * 4294967296 + view.getUint32(at, true);
    if (offset + count > region.sizeBytes) {
      throw this.#refuse(
        EINVAL,
        `[${offset}, +${count}) is outside region ${index} of ${region.sizeBytes} bytes`,
      );
    }
    if ((region.flags & flag) === 0) {
      throw this.#refuse(
        EINVAL,
        `region ${index} cannot be ${flag === REGION_FLAG.read ? "read" : "written"}`,
      );
    }
    return offset;
  }

  #accessCount(): number {
    this.#requireBytes(regionAccess.sizeBytes);
    const { view, payloadOffset } = this.in;
    const count = view.getUint32(payloadOffset + regionAccess.fields.count.offset, true);
    if (count > this.#limits.maxDataTransferBytes) throw this.#refuse(EINVAL, `count ${count}`);
    return count;
  }

  /** Starts a reply with the request's offset, region and count. */
  #echoAccess(): void {
    const { bytes, payloadOffset } = this.in;
    const out = this.out.bytes;
    for (let i = 0; i < regionAccess.sizeBytes; i++) out[HEADER_BYTES + i] = bytes[payloadOffset + i]!;
  }

  #regionRead(): number {
    const count = this.#accessCount();
    const { view, payloadOffset, payloadBytes } = this.in;
    if (payloadBytes !== regionAccess.sizeBytes) {
      throw this.#refuse(EINVAL, `${payloadBytes} bytes of payload`);
    }
    const offset = this.#checkAccess(payloadOffset, count, REGION_FLAG.read);
    const index = view.getUint32(payloadOffset + regionAccess.fields.region.offset, true);
    this.out.reserve(regionAccess.sizeBytes + count);
    this.#echoAccess();
    const into = this.#replyData(count);
    // A device that fills less than it was asked for must not send what an earlier reply held.
    into.fill(0);
    if (count > 0) this.#device.readRegion(index, offset, into);
    return regionAccess.sizeBytes + count;
  }

  #replyData(count: number): Uint8Array<ArrayBuffer> {
    const out = this.out.bytes;
    if (count > SMALL_ACCESS_BYTES) return out.subarray(DATA_OFFSET, DATA_OFFSET + count);
    if (this.#replyBuffer !== out.buffer) {
      this.#replyBuffer = out.buffer;
      this.#replyViews = [];
    }
    return this.#replyViews[count] ??= out.subarray(DATA_OFFSET, DATA_OFFSET + count);
  }

  #regionWrite(): number {
    const count = this.#accessCount();
    const { payloadOffset, payloadBytes } = this.in;
    if (payloadBytes !== regionAccess.sizeBytes + count) {
      throw this.#refuse(EINVAL, `${payloadBytes} bytes of payload with count ${count}`);
    }
    const offset = this.#checkAccess(payloadOffset, count, REGION_FLAG.write);
    this.#write(payloadOffset, offset, count);
    this.#echoAccess();
    return regionAccess.sizeBytes;
  }

  #write(at: number, offset: number, count: number): void {
    if (count === 0) return;
    const { view, bytes } = this.in;
    const index = view.getUint32(at + regionAccess.fields.region.offset, true);
    const data = at + regionAccess.sizeBytes;
    if (count > SMALL_ACCESS_BYTES) {
      this.#device.writeRegion(index, offset, bytes.subarray(data, data + count));
      return;
    }
    const from = this.#writeViews[count]!;
    for (let i = 0; i < count; i++) from[i] = bytes[data + i]!;
    this.#device.writeRegion(index, offset, from);
  }

  #regionWriteMulti(): number {
    this.#requireBytes(writeMulti.sizeBytes);
    const { payloadBytes } = this.in;
    const { writeCount } = writeMulti.decode(this.in.payload);
    if (writeCount > BigInt(LIMIT.multiWrites)) throw this.#refuse(EINVAL, `wr_cnt ${writeCount}`);
    const writes = Number(writeCount);
    if (payloadBytes !== writeMulti.sizeBytes + writes * writeMultiEntry.sizeBytes) {
      throw this.#refuse(EINVAL, `${payloadBytes} bytes of payload with wr_cnt ${writes}`);
    }
    const countAt = (at: number): number =>
      this.in.view.getUint32(at + writeMultiEntry.fields.count.offset, true);
    // Asked for each time: a device that reads its client's memory meanwhile may move the message.
    const entryAt = (i: number): number =>
      this.in.payloadOffset + writeMulti.sizeBytes + i * writeMultiEntry.sizeBytes;
    // All are checked before the first is done.
    for (let i = 0; i < writes; i++) {
      const count = countAt(entryAt(i));
      if (count > SMALL_ACCESS_BYTES) throw this.#refuse(EINVAL, `a write of ${count} bytes`);
      this.#checkAccess(entryAt(i), count, REGION_FLAG.write);
    }
    for (let i = 0; i < writes; i++) {
      const at = entryAt(i);
      const count = countAt(at);
      this.#write(at, this.#checkAccess(at, count, REGION_FLAG.write), count);
    }
    return this.#put(writeMulti.encode({ writeCount }));
  }

  /** Tells the device, lets go of the client's memory, and closes. The device is told once, also when it throws. */
  override close(): void {
    const attached = this.#attached;
    this.#attached = false;
    try {
      if (attached) this.#device.detached();
    } finally {
      this.#table.clear();
      this.#clearSpaces();
      this.#messages.close();
      super.close();
    }
  }
}
