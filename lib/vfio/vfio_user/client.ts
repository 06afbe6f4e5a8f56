/**
 * A PCI function that another process serves over the vfio-user protocol.
 *
 * @module
 */
import {
  ClosedError,
  ExhaustedError,
  ProtocolError,
  RefusedError,
  UnsupportedError,
  UsageError,
} from "../../errors/mod.ts";
import { type EventFd, isErrno, type MappedMemory, type OwnedFd, UnixSocket } from "../../../ffi/mod.ts";
import { type DmaAccess, type DmaMapper, DmaSpace, type IovaRange } from "../../memory/mod.ts";
import {
  DEVICE_FEATURE,
  DEVICE_FLAG,
  type HotResetInfo,
  type IrqInfo,
  type IrqRequest,
  type Lifeline,
  type RegionArea,
  type RegionInfo,
  type VfioDevice,
  type VfioDeviceInfo,
} from "../device.ts";
import { FEATURE_FLAG } from "../kernel/abi.ts";
import { parseVfToken } from "../uuid.ts";
import { decodeVersion, encodeVersion, type PeerCapabilities } from "./capabilities.ts";
import { ClientChannel } from "./client_channel.ts";
import { sendIrqRequest } from "./client_irqs.ts";
import { ClientMemory } from "./client_memory.ts";
import { ClientRegions } from "./client_regions.ts";
import {
  COMMAND,
  deviceFeature,
  DMA_MAP_FLAG,
  dmaMap,
  dmaUnmap,
  HEADER_BYTES,
  LIMIT,
  PROTOCOL_VERSION,
  userDeviceInfo,
  userIrqInfo,
} from "./protocol.ts";

/** How to connect. */
export interface VfioUserOptions {
  /** Name of the function, such as its PCI address; default the socket's path. */
  readonly name?: string;
  /** How long a call may wait for the server, in milliseconds; default 5000. A call that waits longer breaks the connection. */
  readonly timeoutMs?: number;
  /** Map only files that are sealed against shrinking (F_SEAL_SHRINK); default false. A server that truncates a mapped file ends this process. */
  readonly requireSealed?: boolean;
}

/**
 * IOVAs that are used: the 48 bits that common IOMMUs translate, without page 0 and without the window in which x86 machines take
 * memory writes for interrupts (a server that hands them to a virtual machine's IOMMU would meet it).
 */
export const VFIO_USER_IOVA_RANGES: readonly IovaRange[] = [
  { start: 0x1000n, last: 0xfedf_ffffn },
  { start: 0xfef0_0000n, last: (1n << 48n) - 1n },
];

/**
 * The client side of a vfio-user connection.
 *
 * Calls block this thread until the server has answered, for `timeoutMs` at most. When the server is gone, silent or breaks the
 * protocol, the call throws `PeerGoneError`, `TimeoutError` or `ProtocolError`, and so does every later call; `close()` still
 * releases everything.
 */
export class VfioUserDevice implements VfioDevice, DmaMapper {
  readonly name: string;
  readonly path = "vfio-user";
  readonly info: VfioDeviceInfo;
  readonly dma: DmaSpace;
  readonly iovaRanges: readonly IovaRange[] = VFIO_USER_IOVA_RANGES;
  readonly pageSizes: bigint;
  readonly needsFile = true;
  /** What the server takes. */
  readonly serverCapabilities: PeerCapabilities;

  readonly #channel: ClientChannel;
  readonly #memory: ClientMemory;
  readonly #regions: ClientRegions;
  readonly #irqs: (IrqInfo | undefined)[] = [];
  #closed = false;

  private constructor(channel: ClientChannel, memory: ClientMemory, requireSealed: boolean) {
    this.#channel = channel;
    this.#memory = memory;
    this.name = channel.name;
    this.serverCapabilities = negotiate(channel);
    this.pageSizes = BigInt(this.serverCapabilities.pageSizes);
    this.info = this.#deviceInfo();
    this.#regions = new ClientRegions(channel, {
      count: this.info.numRegions,
      chunkBytes: Math.min(this.serverCapabilities.maxDataTransferBytes, LIMIT.dataTransferBytes),
      requireSealed,
      mapsAreas: this.serverCapabilities.mapArea ?? false,
    });
    this.dma = new DmaSpace(this);
  }

  /**
   * Connects to a served function.
   * @throws SyscallError (nobody listens), RefusedError (another client is connected), PeerGoneError, TimeoutError, ProtocolError
   */
  static connect(socketPath: string, options: VfioUserOptions = {}): VfioUserDevice {
    const socket = UnixSocket.connect(socketPath, timeoutOf(options));
    return VfioUserDevice.fromSocket(socket, { name: socketPath, ...options });
  }

  /** As `connect`, on a socket that is connected. It is taken over, and closed when this throws. */
  static fromSocket(socket: UnixSocket, options: VfioUserOptions = {}): VfioUserDevice {
    const memory = new ClientMemory();
    try {
      const timeoutMs = timeoutOf(options);
      socket.setTimeoutMs(timeoutMs);
      const channel = new ClientChannel(socket, options.name ?? socket.fd.target, timeoutMs, memory);
      try {
        return new VfioUserDevice(channel, memory, options.requireSealed ?? false);
      } catch (error) {
        channel.close();
        throw error;
      }
    } catch (error) {
      socket.close();
      throw error;
    }
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Ends with the server. Whoever blocks this thread for long by other means than a call of the device calls its `answer` now and then. */
  get lifeline(): Lifeline {
    return this.#channel.lifeline;
  }

  /** Why the connection is unusable, or null while it is fine. */
  get broken(): Error | null {
    return this.#channel.broken;
  }

  #open(): ClientChannel {
    if (this.#closed) throw new ClosedError(this.name);
    return this.#channel;
  }

  #openRegions(): ClientRegions {
    if (this.#closed) throw new ClosedError(this.name);
    return this.#regions;
  }

  #deviceInfo(): VfioDeviceInfo {
    const channel = this.#open();
    userDeviceInfo.encodeInto(channel.out.bytes, HEADER_BYTES, EMPTY_INFO);
    channel.request(COMMAND.deviceGetInfo, userDeviceInfo.sizeBytes);
    channel.expectAtLeast(userDeviceInfo.sizeBytes);
    const { flags, numRegions, numIrqs } = userDeviceInfo.decode(channel.in.payload);
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
    const channel = this.#open();
    const known = this.#irqs[index];
    if (known !== undefined) return known;
    if (!Number.isInteger(index) || index < 0 || index >= this.info.numIrqs) {
      throw new UsageError(`${this.name}: interrupt index ${index} of ${this.info.numIrqs}`);
    }
    const request = { argsz: userIrqInfo.sizeBytes, flags: 0, index, count: 0 };
    userIrqInfo.encodeInto(channel.out.bytes, HEADER_BYTES, request);
    channel.request(COMMAND.deviceGetIrqInfo, userIrqInfo.sizeBytes);
    channel.expectAtLeast(userIrqInfo.sizeBytes);
    const reply = userIrqInfo.decode(channel.in.payload);
    if (reply.index !== index) {
      throw channel.malformed(`reply to DEVICE_GET_IRQ_INFO: index is ${reply.index} instead of ${index}`);
    }
    if (reply.count > LIMIT.vectors) {
      throw channel.malformed(`reply to DEVICE_GET_IRQ_INFO: count is ${reply.count}`);
    }
    return this.#irqs[index] = { index, flags: reply.flags, count: reply.count };
  }

  setIrqs(request: IrqRequest): void {
    const channel = this.#open();
    sendIrqRequest(channel, request, this.irqInfo(request.index), this.serverCapabilities.maxMessageFds);
  }

  reset(): void {
    const channel = this.#open();
    if ((this.info.flags & DEVICE_FLAG.reset) === 0) {
      throw new UnsupportedError(`${this.name}: the served function has no reset`);
    }
    channel.request(COMMAND.deviceReset, 0);
  }

  hotResetInfo(): HotResetInfo {
    this.#open();
    throw new UnsupportedError(`${this.name}: the vfio-user protocol has no hot reset`, {
      hint: "use reset()",
    });
  }

  hotReset(): void {
    this.hotResetInfo();
  }

  probeFeature(feature: number, direction?: "get" | "set"): boolean {
    if (!Number.isInteger(feature) || feature < 0 || feature > 0xffff) {
      throw new UsageError(`device feature ${feature}`);
    }
    const action = direction === undefined ? 0 : FEATURE_FLAG[direction];
    try {
      this.#requestFeature(feature | FEATURE_FLAG.probe | action, 0);
      return true;
    } catch (error) {
      // libvfio-user says EINVAL where the kernel says ENOTTY.
      if (isErrno(error, "ENOTTY", "EINVAL", "ENOTSUP", "ENOSYS")) return false;
      throw error;
    }
  }

  setVfToken(token: string): void {
    const channel = this.#open();
    const bytes = parseVfToken(token);
    channel.out.bytes.set(bytes, HEADER_BYTES + deviceFeature.sizeBytes);
    try {
      this.#requestFeature(DEVICE_FEATURE.pciVfToken | FEATURE_FLAG.set, bytes.byteLength);
    } catch (error) {
      if (!isErrno(error, "ENOTTY", "EINVAL", "ENOTSUP", "ENOSYS")) throw error;
      throw new UnsupportedError(`${this.name}: the server takes no VF token`, { cause: error });
    }
  }

  #requestFeature(flags: number, dataBytes: number): void {
    const channel = this.#open();
    const argsz = deviceFeature.sizeBytes + dataBytes;
    deviceFeature.encodeInto(channel.out.bytes, HEADER_BYTES, { argsz, flags });
    channel.request(COMMAND.deviceFeature, argsz);
  }

  /** Called by `dma`. @throws ExhaustedError when the server takes no more mappings */
  mapDma(
    memory: MappedMemory,
    file: OwnedFd | null,
    iova: bigint,
    sizeBytes: number,
    access: DmaAccess,
  ): void {
    const channel = this.#open();
    if (file === null) {
      throw new UsageError(`${this.name}: DMA memory without a file cannot be passed to the server`);
    }
    if (this.#memory.count >= this.serverCapabilities.maxDmaMaps) {
      throw new ExhaustedError(`${this.name}: the server takes ${this.#memory.count} DMA mappings at a time`);
    }
    dmaMap.encodeInto(channel.out.bytes, HEADER_BYTES, {
      argsz: dmaMap.sizeBytes,
      flags: (access.deviceReads ? DMA_MAP_FLAG.read : 0) | (access.deviceWrites ? DMA_MAP_FLAG.write : 0),
      offset: 0n,
      address: iova,
      size: BigInt(sizeBytes),
    });
    channel.request(COMMAND.dmaMap, dmaMap.sizeBytes, [file]);
    this.#memory.add(iova, sizeBytes, memory, access);
    channel.lookForCommands();
  }

  /** Called by `dma`. On a closed or broken connection there is nothing left to unmap: it only forgets the range. */
  unmapDma(iova: bigint, sizeBytes: number): void {
    if (!this.#memory.has(iova, sizeBytes)) {
      throw new UsageError(
        `${this.name}: no DMA mapping of ${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`,
      );
    }
    this.#memory.remove(iova);
    const channel = this.#channel;
    if (this.#closed || channel.broken !== null) return;
    dmaUnmap.encodeInto(channel.out.bytes, HEADER_BYTES, {
      argsz: dmaUnmap.sizeBytes,
      flags: 0,
      address: iova,
      size: BigInt(sizeBytes),
    });
    channel.request(COMMAND.dmaUnmap, dmaUnmap.sizeBytes);
  }

  /**
   * Closes the connection and everything that came from it. The server lets go of our memory when the connection ends, so no
   * message is sent, and a dead server cannot hold this up.
   */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#channel.close();
    this.dma.close();
    this.#memory.clear();
    this.#regions.close();
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** The widest register access, which must stay one message. */
const WIDEST_ACCESS_BYTES = 8;
const EMPTY_INFO = { argsz: userDeviceInfo.sizeBytes, flags: 0, numRegions: 0, numIrqs: 0 };

function timeoutOf(options: VfioUserOptions): number {
  const timeoutMs = options.timeoutMs ?? 5000;
  if (!(timeoutMs > 0)) throw new UsageError(`a timeout of ${timeoutMs} ms`);
  return timeoutMs;
}

function negotiate(channel: ClientChannel): PeerCapabilities {
  const offer = encodeVersion(PROTOCOL_VERSION.minor, {
    maxMessageFds: LIMIT.messageFds,
    maxDataTransferBytes: LIMIT.dataTransferBytes,
    maxDmaMaps: LIMIT.dmaMaps,
    pageSizes: LIMIT.pageSizes,
    writeMultiple: true,
    mapArea: true,
    twinSocket: "offered",
  });
  channel.out.put(offer);
  try {
    channel.request(COMMAND.version, offer.byteLength, undefined, LIMIT.messageFds);
  } catch (error) {
    if (!isErrno(error, "EBUSY")) throw error;
    throw new RefusedError(`${channel.name}: the server has another client`, {
      hint: "close the process that uses the function",
      cause: error,
    });
  }
  const fds = channel.in.takeFds();
  try {
    const { major, minor, capabilities } = channel.decode(() =>
      decodeVersion(channel.in.payload, channel.name)
    );
    if (major !== PROTOCOL_VERSION.major || minor > PROTOCOL_VERSION.minor) {
      throw new ProtocolError(
        `${channel.name}: the server answers with protocol version ${major}.${minor}`,
        { hint: `this client speaks ${PROTOCOL_VERSION.major}.${PROTOCOL_VERSION.minor}` },
      );
    }
    if (capabilities.maxDataTransferBytes < WIDEST_ACCESS_BYTES) {
      throw new UnsupportedError(
        `${channel.name}: the server takes ${capabilities.maxDataTransferBytes} bytes in one message, fewer than a register has`,
      );
    }
    const { twinSocket } = capabilities;
    const twin = typeof twinSocket === "number" ? fds[twinSocket] : undefined;
    if (fds.length !== (twinSocket === undefined ? 0 : 1) || (twin === undefined && fds.length > 0)) {
      throw new ProtocolError(
        `${channel.name}: VERSION twin_socket is ${
          twinSocket ?? "absent"
        }, and ${fds.length} descriptors came along`,
      );
    }
    if (twin !== undefined) {
      fds.length = 0;
      channel.useTwin(twin);
    }
    return capabilities;
  } finally {
    for (const fd of fds) fd.close();
  }
}
