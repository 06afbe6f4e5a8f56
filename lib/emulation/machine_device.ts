/**
 * A function of the machine, on whatever bus, with what hangs on it: its socket, its doorbells, its turn.
 *
 * @module
 */
import {
  isErrno,
  openFdCount,
  type OwnedFd,
  resourceLimit,
  RLIMIT,
  type SyscallError,
} from "../../ffi/mod.ts";
import { ExhaustedError } from "../errors/mod.ts";
import { VfioUserServer, type VfioUserServerOptions } from "../sockets/vfio_user/server/server.ts";
import type { Violation } from "./device_model.ts";
import type { DeviceSurroundings, EmulatedDevice } from "./emulated_device.ts";
import type { EventDispatcher } from "./event_dispatcher.ts";
import type { FunctionTurns } from "./function_turns.ts";

/** What a `MachineDevice` is made from, beside the device's own options. */
export interface MachineDeviceOptions {
  /** Full address. */
  readonly address: string;
  /** IOMMU group. */
  readonly iommuGroup: number;
  /** NUMA node, −1 when not said. */
  readonly numaNode: number;
  /** How its vfio-user server deals with its clients. */
  readonly serving?: Pick<VfioUserServerOptions, "unsealed" | "answers">;
  /** Path of its vfio-user socket; undefined: it has none, as in tests without processes. */
  readonly socketPath?: string;
}

/** What a function asks of its machine. */
export interface DeviceMachine {
  /** A violation to be listed. */
  violation(violation: Violation): void;
  /** Where its descriptors are watched. */
  readonly events: EventDispatcher;
  /** Where it says that it has work. */
  readonly turns: FunctionTurns;
}

/** See the module. */
export abstract class MachineDevice implements Disposable {
  /** Address. */
  readonly address: string;
  /** What it was made from. */
  abstract readonly options: MachineDeviceOptions;
  /** The function itself. */
  abstract readonly device: EmulatedDevice;
  readonly #events: EventDispatcher;
  readonly #turns: FunctionTurns;
  #server: VfioUserServer | null = null;
  #offered = false;

  /** Without its device, which the subclass makes with `surroundings`. */
  protected constructor(address: string, { events, turns }: DeviceMachine) {
    this.address = address;
    this.#events = events;
    this.#turns = turns;
  }

  /** What its device needs of the machine. */
  protected surroundings({ violation }: Pick<DeviceMachine, "violation">): DeviceSurroundings {
    const events = this.#events, turns = this.#turns;
    return {
      violation,
      watch: (fd: OwnedFd, handler: () => void) => {
        events.watch(fd, () => {
          turns.touched(this);
          handler();
        });
      },
      unwatch: (fd: OwnedFd) => events.unwatch(fd),
      touched: () => turns.touched(this),
      userChanged: (there) => there ? turns.came(this) : turns.left(this),
      resampleChanged: (before, now) => {
        if (before !== null) events.unwatch(before.fd);
        if (now !== null) events.watch(now.fd, () => this.device.interrupts.line.resampled());
      },
    };
  }

  /** Users may open it now. */
  get offered(): boolean {
    return this.#offered;
  }

  /** Makes the socket. @throws ExhaustedError when there are no more descriptors; SyscallError, UsageError */
  offer(): void {
    if (this.#offered) return;
    const { socketPath } = this.options;
    if (socketPath !== undefined) {
      try {
        this.#listen(socketPath);
      } catch (error) {
        throw isErrno(error, "EMFILE", "ENFILE") ? outOfDescriptors(this.address, error) : error;
      }
    }
    this.#offered = true;
  }

  #listen(path: string): void {
    using opened = new DisposableStack();
    const server = opened.use(VfioUserServer.listen(path, this.device, {
      ...this.options.serving,
      watcher: {
        connected: (fd) => {
          this.#events.watch(fd, () => {
            // Whatever the user asks for may be work, or change what the function waits for.
            this.#turns.touched(this);
            server.handleConnection();
          });
        },
        disconnecting: (fd, reason) => {
          this.#events.unwatch(fd);
          if (reason !== null) this.#reportBreak(reason);
        },
        refused: (reason) => this.#reportBreak(reason),
        blocked: (fd, blocked) => this.#events.watchWriting(fd, blocked),
      },
    }));
    this.#events.watch(server.listenerFd, () => server.handleListener());
    opened.move();
    this.#server = server;
  }

  /** Removes the socket; a client that is there loses its connection. */
  withdraw(): void {
    const server = this.#server;
    this.#server = null;
    this.#offered = false;
    if (server === null) return;
    this.#events.unwatch(server.listenerFd);
    server.close();
  }

  /** See `Polled`. What its user asked for while it was asked for its memory is done before. */
  mayPoll(): boolean {
    const server = this.#server;
    if (server === null) return true;
    this.expire();
    return !server.exhausted;
  }

  /** Lets a client go that is overdue with what it owes; what it sent and was not carried out yet is work. */
  expire(nowMs?: number): void {
    if (this.#server?.dueAt === 0) this.#turns.touched(this);
    else if (nowMs === undefined) return;
    this.#server?.expire(nowMs);
  }

  /** Lets the client go and waits for the next. */
  disconnect(): void {
    this.#server?.disconnect();
  }

  /** Takes it all down. May be called twice. */
  close(): void {
    this.withdraw();
    this.device.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #reportBreak(reason: Error): void {
    this.device.report({ function: this.address, rule: "vfio-user", message: reason.message });
  }
}

function outOfDescriptors(address: string, cause: SyscallError): ExhaustedError {
  const { soft, hard } = resourceLimit(RLIMIT.openFiles);
  const more = soft < hard ? `, which may be raised to ${hard}` : "";
  return new ExhaustedError(
    `no descriptor is left for the socket of ${address}: this host's process has ${openFdCount()} open, and its limit is ${soft}${more}`,
    {
      hint: "ask for fewer VFs, close functions, or start the emulated host with a higher limit (ulimit -n)",
      cause,
    },
  );
}
