/**
 * What users of the machine come to by a socket: its server, watched and given its turn.
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
import type { OneClientServer, ServerWatcher } from "../sockets/one_client_server.ts";
import type { Violation } from "./device_model.ts";
import type { EventDispatcher } from "./event_dispatcher.ts";
import type { FunctionTurns, Polled } from "./function_turns.ts";

/** What it asks of its machine. */
export interface DeviceMachine {
  /** A violation to be listed. */
  violation(violation: Violation): void;
  /** Where its descriptors are watched. */
  readonly events: EventDispatcher;
  /** Where it says that it has work. */
  readonly turns: FunctionTurns;
}

/** What a device behind it asks, whatever it is. */
export interface SocketSurroundings {
  /** A violation to be listed. */
  violation(violation: Violation): void;
  /** Descriptors that are to be watched. */
  readonly watch: (fd: OwnedFd, handler: () => void) => void;
  /** Ends the watching of a descriptor. */
  readonly unwatch: (fd: OwnedFd) => void;
  /** A user came, or is gone. */
  userChanged(there: boolean): void;
  /** There may be work, or something else to wait for. */
  touched(): void;
}

/** See the module. */
export abstract class MachineSocket implements Polled, Disposable {
  /** What the machine calls it. */
  readonly address: string;
  abstract readonly device: Polled["device"];
  readonly #machine: DeviceMachine;
  #server: OneClientServer | null = null;
  #offered = false;

  /** Without its device, which the subclass makes with `socketSurroundings`. */
  protected constructor(address: string, machine: DeviceMachine) {
    this.address = address;
    this.#machine = machine;
  }

  /** Makes the server; null: it has no socket, as in tests without processes. @throws SyscallError, UsageError */
  protected abstract listen(watcher: ServerWatcher): OneClientServer | null;
  /** Name of the protocol: the rule of what breaks it. */
  protected abstract readonly rule: string;
  /** Takes down what is behind. May be called twice. */
  protected abstract closeDevice(): void;

  /** Where descriptors are watched. */
  protected get events(): EventDispatcher {
    return this.#machine.events;
  }

  /** What its device needs of the machine. */
  protected socketSurroundings(): SocketSurroundings {
    const { events, turns } = this.#machine;
    return {
      violation: (violation) => this.#machine.violation(violation),
      watch: (fd, handler) => {
        events.watch(fd, () => {
          turns.touched(this);
          handler();
        });
      },
      unwatch: (fd) => events.unwatch(fd),
      touched: () => turns.touched(this),
      userChanged: (there) => there ? turns.came(this) : turns.left(this),
    };
  }

  /** Users may open it now. */
  get offered(): boolean {
    return this.#offered;
  }

  /** Makes the socket. @throws ExhaustedError when there are no more descriptors; SyscallError, UsageError */
  offer(): void {
    if (this.#offered) return;
    try {
      this.#listen();
    } catch (error) {
      throw isErrno(error, "EMFILE", "ENFILE") ? outOfDescriptors(this.address, error) : error;
    }
    this.#offered = true;
  }

  #listen(): void {
    const { events, turns } = this.#machine;
    const server = this.listen({
      connected: (fd) => {
        events.watch(fd, () => {
          // Whatever the user asks for may be work, or change what the device waits for.
          turns.touched(this);
          this.#server?.handleConnection();
        });
      },
      disconnecting: (fd, reason) => {
        events.unwatch(fd);
        if (reason !== null) this.#reportBreak(reason);
      },
      refused: (reason) => this.#reportBreak(reason),
      blocked: (fd, blocked) => events.watchWriting(fd, blocked),
    });
    if (server === null) return;
    using opened = new DisposableStack();
    opened.use(server);
    events.watch(server.listenerFd, () => server.handleListener());
    opened.move();
    this.#server = server;
  }

  /** Removes the socket; a client that is there loses its connection. */
  withdraw(): void {
    const server = this.#server;
    this.#server = null;
    this.#offered = false;
    if (server === null) return;
    this.#machine.events.unwatch(server.listenerFd);
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
    if (this.#server?.dueAt === 0) this.#machine.turns.touched(this);
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
    this.closeDevice();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #reportBreak(reason: Error): void {
    this.#machine.violation({ function: this.address, rule: this.rule, message: reason.message });
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
