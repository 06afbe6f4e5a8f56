/**
 * Driver of the virtio console (id 3; virtio 1.4 §5.3), whatever transport its function is reached through: one port, or several that
 * come and go.
 *
 * @module
 */
import { requireType, typedErrors } from "../lib/errors/doors.ts";
import { shown, TimeoutError, UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import { CONSOLE_CONFIG, CONSOLE_FEATURE } from "../lib/virtio/constants/console.ts";
import { DEVICE_ID } from "../lib/virtio/constants/device_id.ts";
import { featureNames } from "../lib/virtio/features.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import { refuseLegacy, SessionOwner } from "./session_owner.ts";
import type { VirtioConsoleOptions } from "./virtio_console/options.ts";
import type { ConsolePort } from "./virtio_console/port.ts";
import { ConsoleSession, type PortChange } from "./virtio_console/session.ts";

export type { RingOptions } from "../lib/virtio/features.ts";
export type { InterruptChoice } from "../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
export type { WaitMode } from "../lib/virtio/waiter.ts";
export type { WaitOptions } from "./session_owner.ts";
export type { ConsoleSize } from "./virtio_console/config.ts";
export type { VirtioConsoleOptions } from "./virtio_console/options.ts";
export type { ConsolePort } from "./virtio_console/port.ts";
export type { PortChange } from "./virtio_console/session.ts";

/**
 * Puts one byte out without queues, and whatever state the device is in: before it is opened, or after its rings broke.
 * @throws UnsupportedError when the device does not offer EMERG_WRITE, or is no console; ClosedError
 */
export function emergencyWrite(transport: VirtioTransport, byte: number): void {
  requireType(transport, "object", "emergencyWrite: transport", "name", "deviceId", "readStatus");
  checkId(transport);
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
export class VirtioConsole implements Disposable, AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** How the function is reached. */
  readonly transport: VirtioTransport;
  readonly #owner: SessionOwner<ConsoleSession>;
  readonly #options: VirtioConsoleOptions;
  readonly #listeners = new Set<(change: PortChange, port: ConsolePort) => void>();

  private constructor(transport: VirtioTransport, options: VirtioConsoleOptions) {
    this.transport = transport;
    this.#options = options;
    this.#owner = new SessionOwner(transport, "console", options.resetTimeoutMs);
  }

  /**
   * Resets the device, negotiates, sets up queues, and starts it.
   * @throws UnsupportedError (no console), DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static async open(transport: VirtioTransport, options: VirtioConsoleOptions = {}): Promise<VirtioConsole> {
    checkId(transport);
    refuseLegacy(transport, "only the used length says how many bytes came in");
    const console = new VirtioConsole(transport, options);
    try {
      console.#start();
      return console;
    } catch (error) {
      console.close();
      await console.settled;
      throw error;
    }
  }

  /** Features in force. */
  get features(): bigint {
    return this.#owner.device.features;
  }

  /** Names of the features in force, lowest bit first. */
  get featureNames(): string[] {
    return featureNames(this.features, this.transport.deviceId, this.transport.profile);
  }

  /** Ports come and go: MULTIPORT is in force. */
  get multiport(): boolean {
    return this.#owner.live.control !== undefined;
  }

  /** Ports that the device has room for. */
  get maxPorts(): number {
    return this.#owner.live.maxPorts;
  }

  /** Ports that are there, by number. A reset makes new ones. */
  get ports(): readonly ConsolePort[] {
    return this.#owner.live.ports;
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#owner.interruptKind;
  }

  /** Interrupts that were taken so far. */
  get interrupts(): number {
    return this.#owner.interrupts;
  }

  /** Times that the device was reset after the first start. */
  get resets(): number {
    return this.#owner.resets;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#owner.closed;
  }

  /** A port; waits until it is there. @throws TimeoutError, UsageError when the device has no room for it */
  async waitPort(index: number, timeoutMs: number = Infinity): Promise<ConsolePort> {
    const session = this.#owner.live;
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
        if (this.#owner.isLive(session)) this.#owner.device.checkAlive();
        throw new TimeoutError(`${this.transport.name}: port ${index} did not come in ${timeoutMs} ms`);
      }
    }
  }

  /** Calls `listener` when something happens to a port. @returns what takes it off again */
  onPortChange(listener: (change: PortChange, port: ConsolePort) => void): () => void {
    requireType(listener, "function", "onPortChange: listener");
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Waits for a control message and handles those that are there. @returns false after `timeoutMs`, and at once without MULTIPORT */
  async waitChange(timeoutMs: number): Promise<boolean> {
    const session = this.#owner.live;
    if (session.control === undefined) return false;
    if (!await session.waitMessage(timeoutMs)) return false;
    session.service();
    return true;
  }

  /** Looks after what nobody waits for: pending interrupts, control messages, a device that stopped. @throws DeviceError */
  service(): void {
    this.#owner.waiter.service();
    this.#owner.live.service();
    this.#owner.live.configChanged();
  }

  /** As the function `emergencyWrite`. */
  emergencyWrite(byte: number): void {
    if (this.closed) throw this.#owner.gone();
    emergencyWrite(this.transport, byte);
  }

  /**
   * Resets the device and brings it up again with the options of `open`. Waits that are under way end with `ClosedError`; ports of before
   * are void. @throws as `open`; the device is then stopped, and `reset` may be tried again
   */
  reset(): Promise<void> {
    return this.#owner.reset(() => this.#start());
  }

  /** Resets the device and frees queues and buffers. The transport stays open. `settled` resolves when interrupted waits are over. */
  close(): void {
    this.#owner.close();
  }

  /** Resolves when nothing of the waits that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#owner.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until interrupted waits are over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.#owner.settled;
  }

  #start(): void {
    const tell = (change: PortChange, port: ConsolePort) => {
      for (const listener of this.#listeners) listener(change, port);
    };
    this.#owner.start((session) =>
      new ConsoleSession(session, this.#options, tell, () => this.#owner.live.configChanged())
    );
  }
}

function checkId(transport: VirtioTransport): void {
  if (transport.deviceId === DEVICE_ID.console) return;
  throw new UnsupportedError(`${transport.name} is no console: its virtio id is ${transport.deviceId}`);
}
