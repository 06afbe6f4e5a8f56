/**
 * Driver of the virtio console (id 3; virtio 1.4 §5.3), whatever transport its function is reached through: one port, or several that
 * come and go.
 *
 * ```ts
 * import { VirtioConsole } from "@ringside/ringside/drivers/virtio-console";
 *
 * await using device = await VirtioConsole.open(transport); // of `openTransport`
 * const port = await device.waitPort(0, 1000);
 * port.open();
 * await port.write(new TextEncoder().encode("hello\n"), 1000);
 * for await (const bytes of port) console.log(bytes); // until the peer closes
 * ```
 *
 * @module
 */
import { requireType, typedErrors } from "../../lib/errors/doors.ts";
import { TimeoutError, UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";
import { CONSOLE_CONFIG, CONSOLE_FEATURE } from "../../lib/virtio/spec/console.ts";
import { DEVICE_ID } from "../../lib/virtio/spec/device_id.ts";
import type { VirtioTransport } from "../../lib/virtio/transport/transport.ts";
import { VirtioDriver } from "../driver.ts";
import { checkKind, type DriverKind, DriverLife } from "../driver_life.ts";
import { Listeners } from "../listeners.ts";
import type { Session } from "../session.ts";
import type { VirtioConsoleOptions } from "./options.ts";
import type { ConsolePort, PortChange } from "./port.ts";
import { ConsoleSession, type PortListeners } from "./session.ts";

export type { RingOptions } from "../../lib/virtio/features.ts";
export type { InterruptChoice } from "../../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../../lib/virtio/transport/transport.ts";
export type { WaitMode } from "../../lib/wait/waiter.ts";
export type { VirtioDriver } from "../driver.ts";
export type { DriverOptions } from "../driver_options.ts";
export type { ConsoleSize } from "./config.ts";
export type { VirtioConsoleOptions } from "./options.ts";
export type { ConsolePort, PortChange } from "./port.ts";

const CONSOLE: DriverKind = { what: "console", deviceId: DEVICE_ID.console };
const KIND: DriverKind = { ...CONSOLE, modernOnly: "only the used length says how many bytes came in" };

/**
 * Puts one byte out without queues, and whatever state the device is in: before it is opened, or after its rings broke.
 * @throws UnsupportedError when the device does not offer EMERG_WRITE, or is no console; ClosedError
 */
export function emergencyWrite(transport: VirtioTransport, byte: number): void {
  requireType(transport, "object", "emergencyWrite: transport", "name", "deviceId", "readStatus");
  checkKind(transport, CONSOLE);
  if (!Number.isInteger(byte) || byte < 0 || byte > 255) {
    throw new UsageError(`${transport.name}: byte ${shown(byte)}`);
  }
  if ((transport.readDeviceFeatures() & CONSOLE_FEATURE.EMERG_WRITE) === 0n) {
    throw new UnsupportedError(`${transport.name} does not offer VIRTIO_CONSOLE_F_EMERG_WRITE`);
  }
  transport.writeConfig(CONSOLE_CONFIG.fields.emerg_wr.offset, 4, byte);
}

/**
 * An opened console. It owns its queues and buffers; the transport stays the caller's.
 *
 * With MULTIPORT ports are announced by the device: `waitPort` waits for one. Control messages are looked at while something is waited for,
 * and by `service`. Errors: `DeviceError` (the device lies; `await reset()` brings it back), `TimeoutError`, `UsageError`, `ClosedError`.
 */
export class VirtioConsole extends VirtioDriver {
  static {
    typedErrors(this);
  }

  readonly #life: DriverLife<ConsoleSession>;
  readonly #listeners: PortListeners;

  private constructor(life: DriverLife<ConsoleSession>, listeners: PortListeners) {
    super(life);
    this.#life = life;
    this.#listeners = listeners;
  }

  /**
   * Resets the device, negotiates, sets up queues, and starts it.
   * @throws UnsupportedError (no console), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static async open(transport: VirtioTransport, options: VirtioConsoleOptions = {}): Promise<VirtioConsole> {
    const listeners: PortListeners = new Listeners();
    const build = (session: Session) => new ConsoleSession(session, options, listeners);
    const life = new DriverLife(transport, KIND, options, build);
    return await life.open(new VirtioConsole(life, listeners));
  }

  /** Ports come and go: MULTIPORT is in force. */
  get multiport(): boolean {
    return this.#life.live.control !== undefined;
  }

  /** Ports that the device has room for. */
  get maxPorts(): number {
    return this.#life.live.maxPorts;
  }

  /** Ports that are there, by number. A reset makes new ones. */
  get ports(): readonly ConsolePort[] {
    return this.#life.live.ports;
  }

  /** A port; waits until it is there. @throws TimeoutError, UsageError when the device has no room for it */
  async waitPort(index: number, timeoutMs: number = Infinity): Promise<ConsolePort> {
    const session = this.#life.live;
    if (!Number.isInteger(index) || index < 0 || index >= session.maxPorts) {
      throw new UsageError(`${this.transport.name}: there is no port ${index}`, {
        hint: `0 to ${session.maxPorts - 1}`,
      });
    }
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      session.service();
      const port = session.port(index);
      if (port !== undefined) return port;
      const leftMs = Math.max(deadline - performance.now(), 0);
      if (!await session.waitMessage(leftMs)) {
        if (this.#life.isLive(session)) this.#life.device.checkAlive();
        throw new TimeoutError(`${this.transport.name}: port ${index} did not come in ${timeoutMs} ms`);
      }
    }
  }

  /** Calls `listener` when something happens to a port. @returns what takes it off again */
  onPortChange(listener: (change: PortChange, port: ConsolePort) => void): () => void {
    return this.#listeners.add(listener, "onPortChange");
  }

  /** Waits for a control message and handles those that are there. @returns false after `timeoutMs`, and at once without MULTIPORT */
  async waitChange(timeoutMs: number): Promise<boolean> {
    const session = this.#life.live;
    if (session.control === undefined) return false;
    if (!await session.waitMessage(timeoutMs)) return false;
    session.service();
    return true;
  }

  /** Looks after what nobody waits for: pending interrupts, control messages, a device that stopped. @throws DeviceError */
  service(): void {
    this.#life.waiter.service();
    this.#life.live.service();
    this.#life.live.configChanged();
  }

  /** As the function `emergencyWrite`. */
  emergencyWrite(byte: number): void {
    if (this.closed) throw this.#life.gone();
    emergencyWrite(this.transport, byte);
  }
}
