/**
 * A transport virtqueue as its driver uses it: many commands in flight, one for each managed device at a time, in order (reference 4; ).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { DeviceError, UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { checkTimeout } from "../control/command.ts";
import {
  type CommandCounts,
  CommandEngine,
  type CommandPolicy,
  type CommandSite,
} from "../control/engine.ts";
import type { CommandRoom } from "../control/lane.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import { TVQ_ACK, TVQ_PADDED_HEADER, type TvqHeaderCodec } from "../spec/transport_vq_header.ts";
import type { TvqLayout } from "../spec/transport_vq_payloads.ts";
import { describeManagementCommand, ManagementCommandError, ManagementTimeoutError } from "./error.ts";
import { type ManagementCommand, QueuedManagementCommand } from "./queued_command.ts";

/** How a transport virtqueue is used. */
export interface ManagementQueueOptions {
  /** How long a command may take, from the call to the answer, in milliseconds. Default 5000; each call may have its own. */
  readonly timeoutMs?: number;
  /** Commands in flight. Default 32; the queue may have room for fewer. */
  readonly depth?: number;
  /** Layout of payloads: the device has one of them, and nothing says which. Default `aligned`. */
  readonly layout?: TvqLayout;
  /** Header of commands. Default `TVQ_PADDED_HEADER`. */
  readonly header?: TvqHeaderCodec;
  /** Called while a synchronous command spins: for a device that lives in this thread. */
  readonly pump?: () => void;
}

/** How one command is sent. */
export interface ManagementCallOptions {
  /** From the call to the answer. Default: the queue's. */
  readonly timeoutMs?: number;
}

/** What became of commands so far. */
export type ManagementStatistics = Readonly<CommandCounts>;

/** Commands in flight when nothing else is said. */
export const MANAGEMENT_DEPTH = 32;
const TIMEOUT_MS = 5000;
const ROOM: CommandRoom = { label: "management commands", readableBytes: 128, writableBytes: 128, spares: 2 };

/**
 * Sends commands. Errors of commands: `ManagementCommandError` (an ack other than OK), `ManagementTimeoutError`, `DeviceError` (the answer is none, or the
 * device broke the ring: then every command fails so until it is reset), `UsageError`, `ClosedError` after `close`, which a reset does, too: whether
 * a command that it overtook was carried out does not matter then, since the managed devices are gone with it.
 */
export class ManagementQueue implements Disposable {
  static {
    typedErrors(this);
  }

  /** PCI address or path of the management function. */
  readonly name: string;
  /** Layout of payloads. */
  readonly layout: TvqLayout;
  readonly #header: TvqHeaderCodec;
  readonly #timeoutMs: number;
  readonly #pump: (() => void) | undefined;
  readonly #engine: CommandEngine<QueuedManagementCommand>;

  /** Takes a queue that carries nothing else, of a device that is, or will be, live before the first command. @throws ExhaustedError, SyscallError, UsageError */
  constructor(site: CommandSite, queue: Virtqueue, options: ManagementQueueOptions = {}) {
    const { layout = "aligned", depth = MANAGEMENT_DEPTH } = options;
    if (layout !== "aligned" && layout !== "packed") {
      throw new UsageError(`layout ${shown(layout)}`, { hint: "aligned or packed" });
    }
    this.name = site.name;
    this.layout = layout;
    this.#header = options.header ?? TVQ_PADDED_HEADER;
    this.#timeoutMs = checkTimeout(options.timeoutMs ?? TIMEOUT_MS);
    this.#pump = options.pump;
    this.#engine = new CommandEngine(site, [queue], new ManagementPolicy(this.name, this.#header), {
      what: "transport virtqueue",
      depth: managementDepth(depth),
      room: ROOM,
      pipelined: false,
      time: "asked",
    });
  }

  /** Commands that the device has, given up ones included. */
  get outstanding(): number {
    return this.#engine.outstanding;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#engine.closed;
  }

  /** Since it was made. */
  statistics(): ManagementStatistics {
    return { ...this.#engine.counts };
  }

  /** Sends a command as soon as order allows. @returns what the device wrote behind the ack, `inBytes` at most */
  async execute(
    command: ManagementCommand,
    options: ManagementCallOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    const queued = this.#queued(command, options);
    await this.#engine.execute(queued);
    return queued.reply;
  }

  /**
   * As `execute`, in this thread: spins, and naps when it takes long. Answers that come meanwhile settle the calls that they answer.
   * @param options `pump` is called while spinning
   */
  executeNow(
    command: ManagementCommand,
    options: ManagementCallOptions & { readonly pump?: () => void } = {},
  ): Uint8Array<ArrayBuffer> {
    const queued = this.#queued(command, options);
    this.#engine.executeNow(queued, options.pump ?? this.#pump);
    return queued.reply;
  }

  /** Ends every command with `ClosedError`, and takes their memory away: the device must have been reset. May be called again. */
  close(): void {
    this.#engine.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #queued(
    command: ManagementCommand,
    { timeoutMs = this.#timeoutMs }: ManagementCallOptions,
  ): QueuedManagementCommand {
    this.#engine.check();
    return new QueuedManagementCommand(command, checkTimeout(timeoutMs), this.#header);
  }
}

/** Checks `ManagementQueueOptions.depth`. @throws UsageError */
export function managementDepth(depth: number): number {
  if (Number.isInteger(depth) && depth >= 1 && depth <= 1024) return depth;
  throw new UsageError(`${shown(depth)} management commands in flight`, { hint: "1 to 1024" });
}

/** What an answer means. */
class ManagementPolicy implements CommandPolicy<QueuedManagementCommand> {
  readonly #name: string;
  readonly #header: TvqHeaderCodec;

  constructor(name: string, header: TvqHeaderCodec) {
    this.#name = name;
    this.#header = header;
  }

  answered(queued: QueuedManagementCommand, bytes: Uint8Array<ArrayBuffer>, usedBytes: number): boolean {
    const { ackBytes } = this.#header;
    const place = queued.where(this.#name);
    if (usedBytes < ackBytes || usedBytes > bytes.length) {
      throw new DeviceError(
        `${
          describeManagementCommand(place)
        }: the device wrote ${usedBytes} bytes; an ack has ${ackBytes}, the buffer ${bytes.length}`,
        { function: this.#name, field: "used.len" },
        { hint: "whether the command had an effect is not known; reset the management device" },
      );
    }
    const ack = this.#header.decodeAck(bytes);
    if (ack !== TVQ_ACK.OK) throw new ManagementCommandError(place, ack);
    queued.reply = bytes.slice(ackBytes, usedBytes);
    return true;
  }

  timedOut(queued: QueuedManagementCommand, sent: boolean, others: number): ManagementTimeoutError {
    const place = queued.where(this.#name);
    if (sent) {
      return new ManagementTimeoutError(
        place,
        true,
        `was not answered in ${queued.timeoutMs} ms`,
        "the device may still do it; its memory stays reserved until then. Reset the management device if it does not recover",
      );
    }
    return new ManagementTimeoutError(
      place,
      false,
      `could not be sent in ${queued.timeoutMs} ms`,
      others === 0
        ? "it waited for those before it: allow more time"
        : `the device has ${others} ${others === 1 ? "command" : "commands"} that it has not answered`,
    );
  }
}
