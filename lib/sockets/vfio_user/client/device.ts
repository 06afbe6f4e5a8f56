/**
 * A function that another process serves over the vfio-user protocol: a PCI function, or a platform device.
 *
 * @module
 */
import { typedErrors } from "../../../errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../errors/mod.ts";
import { type EventFd, isErrno, type MappedMemory, UnixSocket } from "../../../../ffi/mod.ts";
import { DmaSpace } from "../../../memory/mod.ts";
import {
  DEVICE_FEATURE,
  DEVICE_FLAG,
  type IrqInfo,
  type IrqRequest,
  type RegionArea,
  type RegionInfo,
  type VfioDeviceInfo,
} from "../../../vfio/device.ts";
import { DeviceLifeline } from "../../../vfio/device_lifeline.ts";
import { type HotResetInfo, requirePciDevice, type VfioPciDevice } from "../../../vfio/pci_device.ts";
import { parseVfToken } from "../../../vfio/uuid.ts";
import type { Lifeline } from "../../../wait/lifeline.ts";
import type { PeerCapabilities } from "../capabilities.ts";
import { ClientChannel } from "./channel.ts";
import { sendIrqRequest } from "./irqs.ts";
import { type MappingLimits, UserMapper } from "./mapper.ts";
import { ClientMemory } from "./memory.ts";
import { negotiate } from "./version.ts";
import { type FeatureAction, readMigrationData, requestFeature, writeMigrationData } from "./features.ts";
import { ClientRegions, type RegionWrite } from "./regions.ts";
import { irqInfo } from "../../../vfio/kernel/abi.ts";
import { COMMAND, LIMIT, userDeviceInfo } from "../protocol.ts";

/** How to connect. */
export interface VfioUserOptions {
  /** Name of the function, such as its PCI address; default the socket's path. */
  readonly name?: string;
  /** How long a call may wait for the server, in milliseconds; default 5000. A call that waits longer breaks the connection. */
  readonly timeoutMs?: number;
  /** Map only files that are sealed against shrinking (F_SEAL_SHRINK); default false. A server that truncates a mapped file ends this process. */
  readonly requireSealed?: boolean;
  /** The VF token to be shown, as the text of a UUID, for a server of this library: of a VF whose PF has one, or to be set on a PF. */
  readonly vfToken?: string;
  /** Called once, when the device has been closed. */
  readonly onClosed?: () => void;
}

/**
 * The client side of a vfio-user connection.
 *
 * Calls block this thread until the server has answered, for `timeoutMs` at most. When the server is gone, silent or breaks the
 * protocol, the call throws `PeerGoneError`, `TimeoutError` or `ProtocolError`, and so does every later call; `close()` still
 * releases everything.
 *
 * `isPciDevice` says whether it is a PCI function; what PCI alone has is an `UnsupportedError` of any other.
 */
export class VfioUserDevice implements VfioPciDevice {
  static {
    typedErrors(this);
  }

  readonly name: string;
  readonly path = "vfio-user";
  readonly info: VfioDeviceInfo;
  readonly dma: DmaSpace;
  /** What the server takes. */
  readonly serverCapabilities: PeerCapabilities;

  readonly #channel: ClientChannel;
  readonly #mapping: MappingLimits;
  readonly #mapper: UserMapper;
  readonly #spaces = new Map<number, { readonly mapper: UserMapper; readonly dma: DmaSpace }>();
  readonly #regions: ClientRegions;
  readonly #irqs: (IrqInfo | undefined)[] = [];
  readonly #onClosed: (() => void) | undefined;
  #lifeline: DeviceLifeline | null = null;
  #closed = false;

  private constructor(channel: ClientChannel, memory: ClientMemory, options: VfioUserOptions) {
    this.#onClosed = options.onClosed;
    this.#channel = channel;
    this.name = channel.name;
    this.serverCapabilities = negotiate(channel, options.vfToken);
    this.#mapping = { ...this.serverCapabilities, count: 0 };
    this.#mapper = new UserMapper(channel, this.#mapping, 0, memory);
    this.info = this.#deviceInfo();
    this.#regions = new ClientRegions(channel, {
      count: this.info.numRegions,
      chunkBytes: Math.min(this.serverCapabilities.maxDataTransferBytes, LIMIT.dataTransferBytes),
      writesMany: this.serverCapabilities.writeMultiple,
      requireSealed: options.requireSealed ?? false,
      mapsAreas: this.serverCapabilities.mapArea ?? false,
    });
    this.dma = new DmaSpace(this.#mapper);
  }

  /**
   * Connects to a served function.
   * @throws SyscallError (nobody listens), RefusedError (another client is connected), PeerGoneError, TimeoutError, ProtocolError
   */
  static connect(socketPath: string, options: VfioUserOptions = {}): VfioUserDevice {
    // All of the caller's fields are read before there is anything to be let go of: reading one may throw.
    const given = { name: socketPath, ...options };
    return VfioUserDevice.fromSocket(UnixSocket.connect(socketPath, timeoutOf(given)), given);
  }

  /** As `connect`, on a socket that is connected. It is taken over, and closed when this throws. */
  static fromSocket(socket: UnixSocket, options: VfioUserOptions = {}): VfioUserDevice {
    const memory = new ClientMemory();
    using opened = new DisposableStack();
    opened.use(socket);
    const timeoutMs = timeoutOf(options);
    if (options.vfToken !== undefined) parseVfToken(options.vfToken);
    socket.setTimeoutMs(timeoutMs);
    const name = options.name ?? socket.fd.target;
    const channel = opened.use(new ClientChannel(socket, name, timeoutMs, memory));
    const device = new VfioUserDevice(channel, memory, options);
    opened.move();
    return device;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /**
   * Ends with the server, too. Whoever blocks this thread for long by other means than a call of the device calls its `check` now and then. Wired when it
   * is first asked for: what only looks at a function has no need of it.
   */
  get lifeline(): Lifeline {
    return this.#wired();
  }

  #wired(): DeviceLifeline {
    return this.#lifeline ??= new DeviceLifeline(this, this.#channel.lifeline);
  }

  onRemovalRequested(handler: () => void): () => void {
    requirePciDevice(this, "interrupt that asks for it back");
    return this.#wired().onRemovalRequested(handler);
  }

  onDeviceError(handler: () => void): () => void {
    requirePciDevice(this, "error interrupt");
    return this.#wired().onDeviceError(handler);
  }

  /** Why the connection is unusable, or null while it is fine. */
  get broken(): Error | null {
    return this.#channel.broken;
  }

  #requireOpen(): ClientChannel {
    if (this.#closed) throw new ClosedError(this.name);
    return this.#channel;
  }

  #openRegions(): ClientRegions {
    if (this.#closed) throw new ClosedError(this.name);
    return this.#regions;
  }

  #deviceInfo(): VfioDeviceInfo {
    const channel = this.#requireOpen();
    channel.ask(COMMAND.deviceGetInfo, userDeviceInfo, {});
    const { flags, numRegions, numIrqs } = channel.replied(userDeviceInfo);
    if (numRegions > LIMIT.regions) {
      throw channel.malformed(`reply to DEVICE_GET_INFO: num_regions is ${numRegions}`);
    }
    if (numIrqs > LIMIT.irqIndices) {
      throw channel.malformed(`reply to DEVICE_GET_INFO: num_irqs is ${numIrqs}`);
    }
    return { flags, numRegions, numIrqs };
  }

  regionInfo(index: number): RegionInfo {
    return this.#openRegions().info(index);
  }

  readRegion(index: number, offset: number, into: Uint8Array<ArrayBuffer>): void {
    this.#openRegions().read(index, offset, into);
  }

  writeRegion(index: number, offset: number, from: Uint8Array<ArrayBuffer>): void {
    this.#openRegions().write(index, offset, from);
  }

  /**
   * Several short writes in order, by REGION_WRITE_MULTI where the server takes it, else one message each.
   * @throws UsageError before the first is sent; SyscallError when the server refuses: those of earlier messages (200 writes each) are done
   */
  writeRegions(writes: readonly RegionWrite[]): void {
    this.#openRegions().writeMany(writes);
  }

  mapRegion(index: number, area: RegionArea, options: { writable?: boolean } = {}): MappedMemory {
    return this.#openRegions().map(index, area, options);
  }

  doorbellFd(
    index: number,
    offset: number,
    sizeBytes: number,
    value?: number,
  ): { fd: EventFd; value?: number } | undefined {
    return this.#openRegions().doorbell(index, offset, sizeBytes, value);
  }

  irqInfo(index: number): IrqInfo {
    const channel = this.#requireOpen();
    const known = this.#irqs[index];
    if (known !== undefined) return known;
    if (!Number.isInteger(index) || index < 0 || index >= this.info.numIrqs) {
      throw new UsageError(`${this.name}: interrupt index ${index} of ${this.info.numIrqs}`);
    }
    channel.ask(COMMAND.deviceGetIrqInfo, irqInfo, { index });
    const reply = channel.replied(irqInfo);
    if (reply.index !== index) {
      throw channel.malformed(`reply to DEVICE_GET_IRQ_INFO: index is ${reply.index} instead of ${index}`);
    }
    if (reply.count > LIMIT.vectors) {
      throw channel.malformed(`reply to DEVICE_GET_IRQ_INFO: count is ${reply.count}`);
    }
    return this.#irqs[index] = { index, flags: reply.flags, count: reply.count };
  }

  setIrqs(request: IrqRequest): void {
    const channel = this.#requireOpen();
    const { maxMessageFds } = this.serverCapabilities;
    sendIrqRequest(channel, this, request, this.irqInfo(request.index), maxMessageFds);
  }

  /** Memory of other address spaces than 0 is gone with it, and they can be asked for again. */
  reset(): void {
    const channel = this.#requireOpen();
    if ((this.info.flags & DEVICE_FLAG.reset) === 0) {
      throw new UnsupportedError(`${this.name}: the served function has no reset`);
    }
    channel.request(COMMAND.deviceReset, 0);
    this.#lifeline?.wasReset();
    this.#endSpaces();
  }

  hotResetInfo(): HotResetInfo {
    this.#requireOpen();
    requirePciDevice(this, "hot reset");
    throw new UnsupportedError(`${this.name}: the vfio-user protocol has no hot reset`, {
      hint: "use reset()",
    });
  }

  hotReset(): void {
    this.hotResetInfo();
  }

  probeFeature(feature: number, direction?: "get" | "set"): boolean {
    try {
      this.deviceFeature(feature, direction === undefined ? "probe" : `probe-${direction}`);
      return true;
    } catch (error) {
      if (isErrno(error, ...NO_FEATURE)) return false;
      throw error;
    }
  }

  setVfToken(token: string): void {
    this.#requireOpen();
    requirePciDevice(this, "VF token");
    const bytes = parseVfToken(token);
    try {
      this.deviceFeature(DEVICE_FEATURE.pciVfToken, "set", bytes);
    } catch (error) {
      if (!isErrno(error, ...NO_FEATURE)) throw error;
      throw new UnsupportedError(`${this.name}: the server takes no VF token`, { cause: error });
    }
  }

  /**
   * DEVICE_FEATURE as it is, for features that have no call of their own: data is what linux/vfio.h says of the feature.
   *
   * @param feature a `DEVICE_FEATURE` number @param data what a `set` writes, and the arguments of a `get`
   * @param answerBytes room for what a `get` answers @returns that answer; nothing for the other actions
   * @throws UsageError, SyscallError with the server's errno (ENOTTY, EINVAL: it has no such feature), ProtocolError
   */
  deviceFeature(
    feature: number,
    action: FeatureAction,
    data: Uint8Array<ArrayBuffer> = new Uint8Array(),
    answerBytes = 0,
  ): Uint8Array<ArrayBuffer> {
    return requestFeature(this.#requireOpen(), feature, action, data, answerBytes);
  }

  /**
   * The next part of the device's state while it is saved (device state STOP_COPY or PRE_COPY, set by feature 2), at most `maxBytes`, which the
   * server's `max_data_xfer_size` limits further. @returns none at the end @throws UsageError, SyscallError, ProtocolError
   */
  readMigrationData(maxBytes: number = LIMIT.dataTransferBytes): Uint8Array<ArrayBuffer> {
    const most = Math.min(this.serverCapabilities.maxDataTransferBytes, LIMIT.dataTransferBytes);
    return readMigrationData(this.#requireOpen(), Math.min(maxBytes, most));
  }

  /** Gives the device the next part of a saved state (device state RESUMING), in messages that the server takes. @throws SyscallError */
  writeMigrationData(data: Uint8Array<ArrayBuffer>): void {
    const channel = this.#requireOpen();
    const most = Math.min(this.serverCapabilities.maxDataTransferBytes, LIMIT.writeBytes);
    for (let at = 0; at < data.byteLength; at += most) {
      writeMigrationData(channel, data.subarray(at, at + most));
    }
  }

  /** See SPACE_MAP in docs/vfio_user.md. @throws UnsupportedError when the server has none, UsageError, ClosedError */
  addressSpace(id: number): DmaSpace {
    const channel = this.#requireOpen();
    const { addressSpaces: most = 0 } = this.serverCapabilities;
    if (most === 0) {
      throw new UnsupportedError(`${this.name} has no address space ${id} beside 0: its server offers none`, {
        hint: "the vfio-user protocol has none; an emulated management function of this library does",
      });
    }
    if (!Number.isInteger(id) || id < 1 || id > most) {
      throw new UsageError(`${this.name}: address space ${id} is not one of the server's, 1 to ${most}`);
    }
    const known = this.#spaces.get(id);
    if (known !== undefined) return known.dma;
    const mapper = new UserMapper(channel, this.#mapping, id);
    const dma = new DmaSpace(mapper);
    this.#spaces.set(id, { mapper, dma });
    return dma;
  }

  /** The server has let go of them. */
  #endSpaces(): void {
    for (const { mapper, dma } of this.#spaces.values()) {
      mapper.end();
      dma.close();
    }
    this.#spaces.clear();
  }

  /**
   * Closes the connection and everything that came from it. The server lets go of our memory when the connection ends, so no
   * message is sent, and a dead server cannot hold this up.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#channel.close();
      this.#mapper.end();
      this.dma.close();
      this.#endSpaces();
      this.#regions.close();
    } finally {
      this.#lifeline?.close();
      this.#onClosed?.();
    }
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** libvfio-user says EINVAL of a feature that it does not have, where the kernel says ENOTTY. */
const NO_FEATURE = ["ENOTTY", "EINVAL", "ENOTSUP", "ENOSYS"] as const;

function timeoutOf(options: VfioUserOptions): number {
  const timeoutMs = options.timeoutMs ?? 5000;
  if (!(timeoutMs > 0)) throw new UsageError(`a timeout of ${timeoutMs} ms`);
  return timeoutMs;
}
