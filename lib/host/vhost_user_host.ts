/**
 * A vhost-user socket as a host of one virtio device: what DPDK, the QEMU storage daemon, passt, virtiofsd or this library serve to virtual machines.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import { ClosedError, NotFoundError, RefusedError, UnsupportedError, UsageError } from "../errors/mod.ts";
import { VIRTIO_TYPE_NAMES } from "../pci/virtio_ids.ts";
import { VhostUserDevice } from "../sockets/vhost_user/client/device.ts";
import type { VhostUserOptions } from "../sockets/vhost_user/client/options.ts";
import type { Finding, Host, OpenOptions, VhostUserInfo } from "./host.ts";
import { connectSocket } from "./socket.ts";

/** What `type` may be, beside a number. */
const TYPES: Readonly<Record<string, number>> = { net: 1, blk: 2, console: 3, rng: 4 };
const DRIVER = "vhost-user";

/**
 * `Host` over one vhost-user socket. It connects once: `openVhostUser` hands that connection on, and a further one makes a new one. The device has no
 * registers and is on no bus: `open` and what PCI has are `UnsupportedError`s, and so is what a host of several functions can do.
 */
export class VhostUserHost implements Host {
  static {
    typedErrors(this);
  }

  /** See `Host`: as it was given. */
  readonly name: string;
  readonly #path: string;
  readonly #address: string;
  readonly #options: VhostUserOptions;
  /** It listens, and back ends connect. */
  readonly #serves: boolean;
  /** The connection while nobody has it. */
  #idle: VhostUserDevice | null;
  #open: VhostUserDevice | null = null;
  #closed = false;

  private constructor(
    name: string,
    path: string,
    address: string,
    options: VhostUserOptions,
    serves: boolean,
  ) {
    this.name = name;
    this.#path = path;
    this.#address = address;
    this.#options = options;
    this.#serves = serves;
    this.#idle = this.#connect(options);
  }

  /**
   * Connects to a socket.
   * @param text the socket's path, then after commas `type=` (net, blk, console, rng or a virtio device id; needed), and if wanted `reconnect=` and
   * `timeout=` (milliseconds), `mac=` of a network device, and `server=on` for back ends that connect themselves: then it listens
   * @throws UsageError, NotFoundError (no such path, or no socket), PeerGoneError (nobody listens), ProtocolError (another protocol), TimeoutError, SyscallError
   */
  static connect(text: string): VhostUserHost {
    const [path = "", ...settings] = text.split(",");
    const given = new Map(settings.map((one) => splitSetting(one)));
    const type = take(given, "type");
    if (type === undefined) {
      throw new UsageError("a vhost-user socket does not say what device it is", {
        hint: `vhost-user:${path},type=net (or blk, console, rng, a virtio device id)`,
      });
    }
    const deviceId = TYPES[type] ?? Number(type);
    if (!Number.isInteger(deviceId) || deviceId < 1) {
      throw new UsageError(`type ${type} is no virtio device`, {
        hint: `${Object.keys(TYPES).join(", ")}, or a virtio device id`,
      });
    }
    const reconnectMs = milliseconds(given, "reconnect");
    const timeoutMs = milliseconds(given, "timeout");
    const mac = take(given, "mac");
    const server = take(given, "server") ?? "off";
    if (server !== "on" && server !== "off") throw new UsageError(`server=${server} is neither on nor off`);
    for (const [name] of given) {
      throw new UsageError(`vhost-user sockets have no setting ${name}`, {
        hint: "type, reconnect, timeout, mac, server",
      });
    }
    const options = {
      deviceId,
      name: path,
      ...(reconnectMs === undefined ? {} : { reconnectMs }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(mac === undefined ? {} : { mac: parseMac(mac) }),
    };
    return new VhostUserHost(`vhost-user:${text}`, path, type, options, server === "on");
  }

  list(): VhostUserInfo[] {
    return [this.describe(this.#address)];
  }

  /** See `Host`. The device is called what `type` says; the driver is `vhost-user`. */
  describe(address: string): VhostUserInfo {
    this.#locate(address);
    const { deviceId } = this.#options;
    return {
      address: this.#address,
      bus: "vhost-user",
      virtioType: deviceId,
      deviceName: VIRTIO_TYPE_NAMES.get(deviceId) ?? `virtio device ${deviceId}`,
      driver: DRIVER,
      groupMembers: [],
      numaNode: -1,
      netInterfaces: [],
      blockDevices: [],
    };
  }

  /** See `Host`. A `timeoutMs` makes a new connection. */
  openVhostUser(address: string, { timeoutMs }: OpenOptions = {}): VhostUserDevice {
    this.#locate(address);
    if (this.#open !== null && !this.#open.closed) {
      throw new RefusedError(`${this.#path} is in use by this process`, {
        hint: "close the opened device first",
      });
    }
    if (timeoutMs !== undefined) this.#closeIdle();
    this.#open = this.#idle ??
      this.#connect({ ...this.#options, ...(timeoutMs === undefined ? {} : { timeoutMs }) });
    this.#idle = null;
    return this.#open;
  }

  examine(): Finding[] {
    this.#locate(this.#address);
    return [{ what: "vhost-user socket", state: "ok", detail: `${this.#path} answers, 1 device` }];
  }

  /** Such a host lacks it. @throws UnsupportedError */
  open(address: string): never {
    this.#locate(address);
    throw this.#lacks("no registers, regions or interrupts of a function: its virtio device can be driven");
  }

  /** Such a host lacks it. @throws UnsupportedError */
  readConfig(address: string): never {
    return this.open(address);
  }

  /** Such a host lacks it. @throws UnsupportedError */
  barSizes(address: string): never {
    return this.open(address);
  }

  /** Such a host lacks it. @throws UnsupportedError */
  bind(): never {
    throw this.#lacks("no drivers to bind the device to: it is ready to be opened");
  }

  /** Such a host lacks it. @throws UnsupportedError */
  setVfCount(): never {
    throw this.#lacks("no VFs");
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

  #connect(options: VhostUserOptions): VhostUserDevice {
    const path = this.#path;
    if (this.#serves && path !== "") return VhostUserDevice.listen(path, options);
    return connectSocket("vhost-user", path, () => VhostUserDevice.connect(path, options));
  }

  #closeIdle(): void {
    this.#idle?.close();
    this.#idle = null;
  }

  #locate(address: string): void {
    if (this.#closed) throw new ClosedError(`host ${this.name}`);
    if (address === this.#address) return;
    throw new NotFoundError(`there is no device ${address}`, {
      hint: `the one device of this vhost-user socket is ${this.#address}`,
    });
  }

  #lacks(what: string): UnsupportedError {
    return new UnsupportedError(`${this.name}: a vhost-user socket has ${what}`);
  }
}

function splitSetting(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  throw new UsageError(`"${text}" is no setting of a vhost-user socket`, {
    hint: "NAME=VALUE, after commas",
  });
}

function take(given: Map<string, string>, name: string): string | undefined {
  const value = given.get(name);
  given.delete(name);
  return value;
}

function milliseconds(given: Map<string, string>, name: string): number | undefined {
  const text = take(given, name);
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new UsageError(`${name}=${text} is no number of milliseconds`);
}

function parseMac(text: string): Uint8Array {
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) {
    return Uint8Array.from(text.split(":"), (byte) => parseInt(byte, 16));
  }
  throw new UsageError(`mac=${text} is no MAC address`, { hint: "02:00:00:00:00:01" });
}
