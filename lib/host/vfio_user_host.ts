/**
 * A vfio-user socket as a host of one function: what QEMU, SPDK, libvfio-user or this library serves without a host around it.
 *
 * @module
 */
import { ClosedError, NotFoundError, ProtocolError, RefusedError, UnsupportedError } from "../errors/mod.ts";
import { PciAddress } from "../pci/address.ts";
import { DEVICE_FLAG, REGION, type VfioDevice } from "../vfio/device.ts";
import { VfioUserDevice } from "../sockets/vfio_user/client/device.ts";
import { VFIO_USER } from "./changes/driver_binding.ts";
import type { Finding, FunctionInfo, Host, OpenOptions, PciFunctionInfo } from "./host.ts";
import { PciIdsNames } from "./functions/names.ts";
import { connectSocket } from "./socket.ts";

/** The protocol has no address; this is the function's. */
const ADDRESS = "0000:00:00.0";
const CONFIG_BYTES = [64, 256, 4096];

/**
 * `Host` over one vfio-user socket. It connects once: `open` hands that connection on, since servers end with their first client, and a
 * further `open` makes a new one. Nobody binds drivers here, makes VFs or keeps a journal: these calls are `UnsupportedError`s.
 */
export class VfioUserHost implements Host {
  /** See `Host`: `vfio-user:` and the socket's path. */
  readonly name: string;
  readonly #path: string;
  readonly #names = new PciIdsNames();
  readonly #config: Uint8Array<ArrayBuffer>;
  readonly #barSizes: readonly number[];
  /** The connection while nobody has it. */
  #idle: VfioUserDevice | null;
  #open: VfioUserDevice | null = null;
  #closed = false;

  private constructor(path: string, device: VfioUserDevice) {
    this.name = `vfio-user:${path}`;
    this.#path = path;
    this.#idle = device;
    if ((device.info.flags & DEVICE_FLAG.pci) === 0 || device.info.numRegions <= REGION.config) {
      throw new UnsupportedError(`${path} serves a device that is no PCI function`);
    }
    const { sizeBytes } = device.regionInfo(REGION.config);
    if (!CONFIG_BYTES.includes(sizeBytes)) {
      throw new ProtocolError(`${path} serves a function with ${sizeBytes} bytes of configuration space`);
    }
    this.#config = new Uint8Array(sizeBytes);
    device.readRegion(REGION.config, 0, this.#config);
    this.#barSizes = Array.from({ length: REGION.rom + 1 }, (_, index) => device.regionInfo(index).sizeBytes);
  }

  /**
   * Connects to a socket.
   * @param timeoutMs how long a call may wait for the server; default 5000
   * @throws NotFoundError (no such path, or no socket), PeerGoneError (nobody listens), RefusedError (another client is connected),
   * ProtocolError (another protocol or version), TimeoutError, UnsupportedError (no PCI function), SyscallError
   */
  static connect(path: string, timeoutMs?: number): VfioUserHost {
    using opened = new DisposableStack();
    const host = new VfioUserHost(path, opened.use(connect(path, timeoutMs)));
    opened.move();
    return host;
  }

  list(): FunctionInfo[] {
    return [this.describe(ADDRESS)];
  }

  /** See `Host`. The driver is `vfio-user`. */
  describe(address: string): PciFunctionInfo {
    this.#locate(address);
    const view = new DataView(this.#config.buffer);
    const vendorId = view.getUint16(0, true);
    const deviceId = view.getUint16(2, true);
    const classCode = view.getUint32(8, true) >>> 8;
    return {
      address: ADDRESS,
      bus: "pci",
      vendorId,
      deviceId,
      subsystemVendorId: view.getUint16(0x2c, true),
      subsystemId: view.getUint16(0x2e, true),
      revision: view.getUint8(8),
      classCode,
      ...this.#names.namesOf(vendorId, deviceId, classCode),
      driver: VFIO_USER,
      groupMembers: [],
      numaNode: -1,
      netInterfaces: [],
      blockDevices: [],
    };
  }

  /** See `Host`: as it was when the host was connected. */
  readConfig(address: string): Uint8Array<ArrayBuffer> {
    this.#locate(address);
    return this.#config.slice();
  }

  barSizes(address: string): number[] {
    this.#locate(address);
    return [...this.#barSizes];
  }

  /** See `Host`. A `timeoutMs` makes a new connection. */
  open(address: string, options: OpenOptions = {}): VfioDevice {
    this.#locate(address);
    if (this.#open !== null && !this.#open.closed) {
      throw new RefusedError(`${ADDRESS} is in use by this process`, {
        hint: "close the opened device first",
      });
    }
    if (options.timeoutMs !== undefined) this.#closeIdle();
    this.#open = this.#idle ?? connect(this.#path, options.timeoutMs);
    this.#idle = null;
    return this.#open;
  }

  examine(): Finding[] {
    this.#locate(ADDRESS);
    return [{ what: "vfio-user socket", state: "ok", detail: `${this.#path} answers, 1 function` }];
  }

  /** Such a host lacks it. @throws UnsupportedError */
  bind(): never {
    throw this.#lacks("no drivers to bind the function to: it is ready to be opened");
  }

  /** Such a host lacks it. @throws UnsupportedError */
  setVfCount(): never {
    throw this.#lacks("no VFs: each function has a socket of its own");
  }

  /** Such a host lacks it. @throws UnsupportedError */
  restore(): never {
    throw this.#lacks("no journal: nothing is changed that could be put back");
  }

  /** Such a host lacks it. @throws UnsupportedError */
  journal(): never {
    return this.restore();
  }

  /** Closes the connection, unless it was opened: then it is the device's. */
  [Symbol.dispose](): void {
    this.#closed = true;
    this.#closeIdle();
  }

  #closeIdle(): void {
    this.#idle?.close();
    this.#idle = null;
  }

  #locate(text: string): void {
    if (this.#closed) throw new ClosedError(`host ${this.name}`);
    const address = PciAddress.parse(text).toString();
    if (address === ADDRESS) return;
    throw new NotFoundError(`there is no PCI function ${address}`, {
      hint: `the one function of a vfio-user socket is ${ADDRESS}`,
    });
  }

  #lacks(what: string): UnsupportedError {
    return new UnsupportedError(`${this.name}: a vfio-user socket has ${what}`);
  }
}

function connect(path: string, timeoutMs?: number): VfioUserDevice {
  return connectSocket("vfio-user", path, () => VfioUserDevice.connect(path, { name: ADDRESS, timeoutMs }));
}
