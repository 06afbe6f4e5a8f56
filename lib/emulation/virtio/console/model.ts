/**
 * A virtio console (virtio 1.2 §5.3): one port, or several with control queues.
 *
 * @module
 */
import { UsageError } from "../../../errors/mod.ts";
import {
  CONSOLE_CONFIG,
  CONSOLE_CONTROL,
  CONSOLE_CONTROL_BYTES,
  CONSOLE_CONTROL_QUEUE,
  CONSOLE_EVENT,
  CONSOLE_FEATURE,
  CONSOLE_RESIZE,
  consoleQueues,
} from "../../../virtio/spec/console.ts";
import { DEVICE_ID } from "../../../virtio/spec/device_id.ts";
import type { ModelOptions } from "../../device_kind.ts";
import type { DeviceControls } from "../../device_control.ts";
import type { DeviceCore, DeviceModel } from "../../device_model.ts";
import { Chain } from "../queue/chain.ts";
import { type ConsolePeer, LoopbackPeer, SocketPeer } from "./peer.ts";
import { ConsoleModelPort } from "./port.ts";

const DATA_RULE = "virtio 1.2 §5.3.6.1";
const CONTROL_RULE = "virtio 1.2 §5.3.6.2";

/** Own fields of a virtio-console function. */
export interface ConsoleFields {
  /** Ports. Default 1; with more MULTIPORT is offered. */
  readonly ports?: number;
  /** Names of the ports, by number; an empty one is not sent. */
  readonly portNames?: readonly string[];
  /** The other end of each port: itself (default), or whoever connects to `<directory>/<address>.port<n>`. */
  readonly peer?: "loopback" | "socket";
  /** Columns of port 0. Default 80. */
  readonly cols?: number;
  /** Rows of port 0. Default 25. */
  readonly rows?: number;
}

/** What a console is made from. */
export type ConsoleModelOptions = ConsoleFields & ModelOptions;

/** The device. */
export class ConsoleModel implements DeviceModel {
  readonly deviceId: number = DEVICE_ID.console;
  /** Simple communication controller, other. */
  readonly classCode = 0x078000;
  readonly configSizeBytes: number = CONSOLE_CONFIG.sizeBytes;
  /** `emerg_wr` takes bytes before anything is negotiated (§5.3.5.1). */
  readonly configWritableAlways = true;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly controls: DeviceControls;
  /** Ports that the device has room for. */
  readonly maxPorts: number;
  readonly #options: ConsoleModelOptions;
  readonly #chain: Chain;
  /** By number; undefined: removed. */
  readonly #ports: (ConsoleModelPort | undefined)[] = [];
  /** Control messages for the driver, oldest first. */
  readonly #messages: Uint8Array[] = [];
  #core: DeviceCore | null = null;
  #multiport = false;
  #driverReady = false;
  #started = false;
  #cols: number;
  #rows: number;

  /** A console whose sockets are made by `connect`. @throws UsageError for options that cannot be */
  constructor(options: ConsoleModelOptions = {}) {
    const { ports = 1, peer = "loopback", cols = 80, rows = 25, queueSize = 64 } = options;
    if (peer === "socket" && options.directory === undefined) {
      throw new UsageError("ports with sockets need a directory", {
        hint: "serve the host from a directory, or use loopback ports",
      });
    }
    this.#options = options;
    this.#cols = cols;
    this.#rows = rows;
    this.maxPorts = ports;
    const off = options.featuresOff ?? 0n;
    this.features = (CONSOLE_FEATURE.SIZE | CONSOLE_FEATURE.EMERG_WRITE |
      (ports > 1 ? CONSOLE_FEATURE.MULTIPORT : 0n)) & ~off;
    const multiport = (this.features & CONSOLE_FEATURE.MULTIPORT) !== 0n;
    this.queueSizes = new Array<number>(multiport ? 2 * ports + 2 : 2).fill(queueSize);
    this.#chain = new Chain(queueSize);
    this.controls = {
      ...(multiport && { ports: { read: () => this.#portList, write: (value) => this.#changePorts(value) } }),
      ...((this.features & CONSOLE_FEATURE.SIZE) !== 0n && {
        size: { read: () => `${this.#cols} ${this.#rows}`, write: (value) => this.#changeSize(value) },
      }),
    };
  }

  /** The ports, by number; undefined: removed. */
  get ports(): readonly (ConsoleModelPort | undefined)[] {
    return this.#ports;
  }

  /** Takes its place and makes its sockets; called once. @throws SyscallError, UsageError */
  connect(core: DeviceCore): void {
    this.#core = core;
    for (let index = 0; index < this.maxPorts; index++) this.addPort(index);
  }

  /** Removes the sockets; may be called again. */
  close(): void {
    for (const port of this.#ports) port?.peer.close();
    this.#ports.length = 0;
    this.#core = null;
  }

  /** Plugs a port in. @throws UsageError when it is there, or there is no room for it; SyscallError */
  addPort(index: number): void {
    const core = this.#core;
    if (core === null || index >= this.maxPorts || this.#ports[index] !== undefined) {
      throw new UsageError(`there is no room for port ${index}`, {
        hint: `it has ports 0 to ${this.maxPorts - 1}, and ${this.#portList || "none"} plugged in`,
      });
    }
    const port = new ConsoleModelPort(index, this.#options.portNames?.[index] ?? "", this.#makePeer(index));
    this.#ports[index] = port;
    port.peer.start(core, () => {
      port.changed = true;
    });
    this.#announce(port);
  }

  /** Pulls a port out. @throws UsageError when it is not there */
  removePort(index: number): void {
    const port = this.#ports[index];
    if (port === undefined) {
      throw new UsageError(`there is no port ${index}`, {
        hint: `plugged in are ${this.#portList || "none"}`,
      });
    }
    this.#ports[index] = undefined;
    port.peer.close();
    if (port.announced) this.#send(index, CONSOLE_EVENT.deviceRemove, 0);
  }

  /** Changes the size of port 0. */
  resize(cols: number, rows: number): void {
    this.#cols = cols;
    this.#rows = rows;
    this.#core?.configChanged();
    if (this.#ports[0]?.announced) this.#sendSize(0);
  }

  /** Reads device-specific configuration. */
  config(): Uint8Array {
    return CONSOLE_CONFIG.encode({
      cols: this.#cols,
      rows: this.#rows,
      max_nr_ports: this.maxPorts,
      emerg_wr: 0,
    });
  }

  /** Puts the byte out at port 0, whatever state the device is in. */
  writeConfig(offset: number, from: Uint8Array): void {
    if (
      offset !== CONSOLE_CONFIG.fields.emerg_wr.offset ||
      (this.features & CONSOLE_FEATURE.EMERG_WRITE) === 0n
    ) {
      this.#core?.report(
        "virtio 1.2 §5.3.4",
        `write of ${from.length} bytes at ${offset} of virtio_console_config`,
      );
      return;
    }
    this.#ports[0]?.peer.write(Uint8Array.of(from[0]!));
  }

  /** The driver is ready. */
  start(): void {
    this.#multiport = ((this.#core?.negotiatedFeatures ?? 0n) & CONSOLE_FEATURE.MULTIPORT) !== 0n;
    this.#started = true;
    const first = this.#ports[0];
    if (!this.#multiport && first !== undefined) {
      first.announced = true;
      first.driverOpen = true;
    }
  }

  /** Forgets everything of the driver; peers stay. */
  reset(): void {
    this.#started = false;
    this.#multiport = false;
    this.#driverReady = false;
    this.#messages.length = 0;
    for (const port of this.#ports) port?.reset();
  }

  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    const core = this.#core;
    if (core === null || !this.#started) return 0;
    let moved = this.#multiport ? this.#control(core, budget) : 0;
    for (const port of this.#ports) {
      if (port === undefined || !port.announced) continue;
      moved += this.#serve(core, port, budget - moved);
    }
    return moved;
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    const core = this.#core;
    if (core === null || !this.#started) return false;
    let work = false;
    for (const port of this.#ports) {
      if (port === undefined || !port.announced) continue;
      const { receive, transmit } = consoleQueues(port.index);
      if (!port.holdsBack && core.queue(transmit)?.arm()) work = true;
      if (port.peer.readable && port.driverOpen && core.queue(receive)?.arm()) work = true;
      if (port.changed) work = true;
    }
    if (!this.#multiport) return work;
    if (core.queue(CONSOLE_CONTROL_QUEUE.transmit)?.arm()) work = true;
    if (this.#messages.length > 0 && core.queue(CONSOLE_CONTROL_QUEUE.receive)?.arm()) work = true;
    return work;
  }

  /** A peer that does not read is looked at again after a while. */
  get wakeAfterMs(): number | undefined {
    for (const port of this.#ports) {
      if (port?.peer.blocked) return 1;
    }
    return undefined;
  }

  /** Numbers of those that are plugged in. */
  get #portList(): string {
    return this.#ports.flatMap((port) => port?.index ?? []).join(" ");
  }

  #changePorts(value: string): void {
    const [, verb, index] = /^(add|remove) ([0-9]{1,4})$/.exec(value) ?? [];
    if (verb === undefined) throw new UsageError(`${JSON.stringify(value)} is neither add N nor remove N`);
    if (verb === "add") this.addPort(Number(index));
    else this.removePort(Number(index));
    this.#core?.wake?.();
  }

  #changeSize(value: string): void {
    const [, cols, rows] = /^([0-9]{1,5})[ x]([0-9]{1,5})$/.exec(value) ?? [];
    if (Number(cols) < 0x1_0000 && Number(rows) < 0x1_0000) {
      this.resize(Number(cols), Number(rows));
      this.#core?.wake?.();
    } else throw new UsageError(`${JSON.stringify(value)} is no size`, { hint: "COLUMNS ROWS, as 132 43" });
  }

  #makePeer(index: number): ConsolePeer {
    if (this.#options.peer !== "socket") return new LoopbackPeer();
    return new SocketPeer(`${this.#options.directory}/${this.#core!.name}.port${index}`);
  }

  #serve(core: DeviceCore, port: ConsoleModelPort, budget: number): number {
    const { receive, transmit } = consoleQueues(port.index);
    let moved = 0;
    const sending = core.queue(transmit);
    if (sending !== undefined && budget > 0) {
      const count = port.transmit(sending, this.#chain, budget);
      if (count < 0) {
        core.violation(DATA_RULE, "a transmit buffer is device-writable", transmit);
        return moved;
      }
      moved += count;
    }
    const filling = core.queue(receive);
    if (filling !== undefined && port.driverOpen && budget > moved) {
      const count = port.receive(filling, this.#chain, budget - moved);
      if (count < 0) {
        core.violation(DATA_RULE, "a receive buffer is device-readable", receive);
        return moved;
      }
      moved += count;
    }
    if (port.changed) {
      port.changed = false;
      this.#tellOpen(port);
    }
    return moved;
  }

  #control(core: DeviceCore, budget: number): number {
    let moved = 0;
    const chain = this.#chain;
    const commands = core.queue(CONSOLE_CONTROL_QUEUE.transmit);
    while (commands !== undefined && moved < budget) {
      const id = commands.pop(chain);
      if (id < 0) break;
      if (chain.writableBytes > 0) {
        core.violation(CONTROL_RULE, "a control message is device-writable", commands.index);
        return moved;
      }
      const message = new Uint8Array(CONSOLE_CONTROL_BYTES);
      if (chain.peek(message) === CONSOLE_CONTROL_BYTES) this.#command(core, message);
      else core.report(CONTROL_RULE, `a control message of ${chain.readableBytes} bytes`, commands.index);
      commands.pushUsed(id, 0);
      moved++;
    }
    if (moved > 0) commands?.publish();

    const into = core.queue(CONSOLE_CONTROL_QUEUE.receive);
    let told = 0;
    while (into !== undefined && moved + told < budget && this.#messages.length > 0) {
      const id = into.pop(chain);
      if (id < 0) break;
      const message = this.#messages.shift()!;
      if (chain.readableBytes > 0 || chain.writableBytes < message.length) {
        core.violation(
          CONTROL_RULE,
          `a control message of ${message.length} bytes, and a buffer of ${chain.writableBytes}`,
          into.index,
        );
        return moved + told;
      }
      chain.write(message);
      into.pushUsed(id, message.length);
      told++;
    }
    if (told > 0) into?.publish();
    return moved + told;
  }

  #command(core: DeviceCore, bytes: Uint8Array): void {
    const { id, event, value } = CONSOLE_CONTROL.decode(bytes);
    if (event === CONSOLE_EVENT.deviceReady) {
      if (value !== 1) return core.report(CONTROL_RULE, `the driver could not set the device up (${value})`);
      this.#driverReady = true;
      for (const port of this.#ports) if (port !== undefined) this.#announce(port);
      return;
    }
    const port = this.#ports[id];
    if (event === CONSOLE_EVENT.portReady && port?.announced === false) {
      // Linux's driver after a freeze (hibernation) and a restore: its ports are those that it had before the reset.
      core.report(
        CONTROL_RULE,
        `PORT_READY for port ${id} without DEVICE_READY: taken, as if it had been said`,
      );
      this.#driverReady = true;
      port.announced = true;
    }
    if (port === undefined || !port.announced) {
      // One that was pulled out meanwhile is no mistake of the driver's.
      if (id >= this.maxPorts) core.report(CONTROL_RULE, `event ${event} for port ${id}`);
      return;
    }
    if (event === CONSOLE_EVENT.portReady) {
      if (value !== 1) return core.report(CONTROL_RULE, `the driver could not set port ${id} up (${value})`);
      if (id === 0) {
        this.#send(id, CONSOLE_EVENT.consolePort, 1);
        this.#sendSize(id);
      }
      if (port.name !== "") {
        this.#send(id, CONSOLE_EVENT.portName, 1, new TextEncoder().encode(port.name));
      }
      this.#tellOpen(port);
    } else if (event === CONSOLE_EVENT.portOpen) {
      port.driverOpen = value === 1;
    } else core.report(CONTROL_RULE, `event ${event} is not the driver's to send`);
  }

  #announce(port: ConsoleModelPort): void {
    if (!this.#driverReady || port.announced) return;
    port.announced = true;
    this.#send(port.index, CONSOLE_EVENT.deviceAdd, 0);
  }

  #tellOpen(port: ConsoleModelPort): void {
    const open = port.peer.connected;
    if (!this.#multiport || port.toldOpen === open) return;
    port.toldOpen = open;
    this.#send(port.index, CONSOLE_EVENT.portOpen, open ? 1 : 0);
  }

  #sendSize(id: number): void {
    if ((this.features & CONSOLE_FEATURE.SIZE) === 0n) return;
    this.#send(id, CONSOLE_EVENT.resize, 0, CONSOLE_RESIZE.encode({ cols: this.#cols, rows: this.#rows }));
  }

  #send(id: number, event: number, value: number, more?: Uint8Array): void {
    if (this.#multiport) this.#messages.push(CONSOLE_CONTROL.encode({ id, event, value }, more));
  }
}
