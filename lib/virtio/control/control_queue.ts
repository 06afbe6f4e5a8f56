/**
 * A control queue as several device types have one: a class and a command, data, and what the device answers: a byte that acknowledges, and a reply
 * where there is one (virtio 1.4 §5.1.6.5; reference 5.3).
 *
 * @module
 */
import { TimeoutError } from "../../errors/mod.ts";
import type { Virtqueue } from "../queue/virtqueue.ts";
import { Command } from "./command.ts";
import { CommandEngine, type CommandPolicy, type CommandSite } from "./engine.ts";

/** What the device finds in place of an acknowledgement. */
export const ACK_NOT_WRITTEN = 0xff;
const ACK_BYTES = 1;
/** Where parts begin that are apart, since there are 64-bit members in them. */
const ALIGN_BYTES = 8;
/** For each direction of a command, unless one needs more. */
const ROOM_BYTES = 4096;
const ROOM = { label: "control commands", readableBytes: ROOM_BYTES, writableBytes: ROOM_BYTES, spares: 0 };

/** See the module's text. */
class ControlCommand extends Command {
  /** For messages. */
  readonly what: string;
  /** As the device wrote it. */
  ack = ACK_NOT_WRITTEN;
  /** A copy of as much of the reply as the device says it has written. */
  reply = new Uint8Array();
  /** Bytes that the device says it has written, `ack` among them. */
  writtenBytes = 0;
  readonly #pieces: readonly Uint8Array[];
  readonly #starts: readonly number[];

  constructor(
    what: string,
    pieces: readonly Uint8Array[],
    replyBytes: number,
    timeoutMs: number,
    apart: boolean,
  ) {
    const starts: number[] = [];
    const cuts: number[] = [];
    let end = 0;
    for (const { length } of pieces) {
      const start = apart ? Math.ceil(end / ALIGN_BYTES) * ALIGN_BYTES : end;
      if (apart && starts.length > 0) cuts.push(end, start);
      starts.push(start);
      end = start + length;
    }
    const [writableBytes, writableCuts] = replyBytes === 0
      ? [ACK_BYTES, []]
      : [ALIGN_BYTES + replyBytes, [ACK_BYTES, ALIGN_BYTES]];
    super("", end === 0, timeoutMs, end, writableBytes, cuts, writableCuts);
    this.what = what;
    this.#pieces = pieces;
    this.#starts = starts;
  }

  override encode(readable: Uint8Array, writable: Uint8Array): void {
    this.#pieces.forEach((piece, at) => readable.set(piece, this.#starts[at]));
    writable[0] = ACK_NOT_WRITTEN;
  }
}

/** Sends one command at a time; those that are called meanwhile wait for their turn. */
export class ControlQueue implements CommandPolicy<ControlCommand>, Disposable {
  /** Its virtqueue. */
  readonly queue: Virtqueue;
  readonly #where: string;
  readonly #timeoutMs: number;
  readonly #partsApart: boolean;
  readonly #engine: CommandEngine<ControlCommand>;

  /**
   * Takes over a queue that is set up.
   * @param timeoutMs how long a command may take from when it is sent @param partsApart class and command, and each piece of the data, take a descriptor
   * of their own @throws ExhaustedError, SyscallError
   */
  constructor(site: CommandSite, queue: Virtqueue, timeoutMs: number, partsApart: boolean) {
    this.queue = queue;
    this.#where = `${site.name}, queue ${queue.index}`;
    this.#timeoutMs = timeoutMs;
    this.#partsApart = partsApart;
    this.#engine = new CommandEngine(site, [queue], this, {
      what: "control queue",
      depth: 1,
      room: ROOM,
      pipelined: false,
      time: "sent",
    });
  }

  /**
   * Sends a command and waits for its answer, whatever it is.
   * @param what for messages @param head class and command @param data the structures that the command consists of, in their order
   * @param replyBytes room for what follows `ack`; 0 for none
   * @throws TimeoutError (no answer: nothing more is sent until the device is reset), DeviceError (it stopped, or broke the ring), ExhaustedError, ClosedError
   */
  async send(
    what: string,
    head: Uint8Array,
    data: readonly Uint8Array[],
    replyBytes = 0,
  ): Promise<Pick<ControlCommand, "ack" | "reply" | "writtenBytes">> {
    const command = new ControlCommand(what, [head, ...data], replyBytes, this.#timeoutMs, this.#partsApart);
    await this.#engine.execute(command);
    return command;
  }

  /** Resolves when no command is under way or waits for its turn, also because there will be none any more. */
  async idle(): Promise<void> {
    await this.#engine.quiet(new ControlCommand("", [], 0, Infinity, false), () => {}).catch(() => {});
  }

  /** No other command is sent until the device is reset. */
  get stuck(): boolean {
    return this.#engine.broken;
  }

  /** For the engine. */
  answered(command: ControlCommand, bytes: Uint8Array<ArrayBuffer>, usedBytes: number): boolean {
    command.ack = bytes[0]!;
    command.reply = bytes.slice(ALIGN_BYTES, ALIGN_BYTES - ACK_BYTES + usedBytes);
    command.writtenBytes = usedBytes;
    return true;
  }

  /** For the engine. */
  timedOut({ what }: ControlCommand): TimeoutError {
    return new TimeoutError(`${this.#where}: ${what} was not answered in ${this.#timeoutMs} ms`, {
      hint: "reset the device",
    });
  }

  /** Takes the command memory away. The queue is its device's, which must have been reset. */
  [Symbol.dispose](): void {
    this.#engine.close();
  }
}
