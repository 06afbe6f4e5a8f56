/**
 * The transport virtqueue from the device's side: takes commands in ring order, checks whom they are for and how long they are, and has
 * them carried out.
 *
 * @module
 */
import { RingsideError } from "../../../errors/mod.ts";
import { TVQ_COMMAND, type TvqCommand, tvqCommand } from "../../../virtio/spec/transport_vq.ts";
import {
  TVQ_ACK,
  TVQ_PADDED_HEADER,
  type TvqHeader,
  type TvqHeaderCodec,
} from "../../../virtio/spec/transport_vq_header.ts";
import type { TvqLayout } from "../../../virtio/spec/transport_vq_payloads.ts";
import { Chain } from "../queue/chain.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import { type ManagedQueue, Refusal, TAIL_BYTES_MAX, type TvqHandler, type TvqRequest } from "./command.ts";
import { DEVICE_COMMANDS } from "./device_commands.ts";
import type { ManagedDevice } from "./managed_device.ts";
import { PACKED_STATE_COMMANDS, QUEUE_COMMANDS } from "./queue_commands.ts";

/** How commands lie in memory: the wire does not say. */
export interface CommandFormat {
  /** Default `aligned`. */
  readonly layout?: TvqLayout | undefined;
  /** Default `TVQ_PADDED_HEADER`. */
  readonly header?: TvqHeaderCodec | undefined;
}

/** The device whose commands they are. */
export interface CommandOwner {
  /** The features that give commands a meaning were negotiated. */
  readonly ready: boolean;
  /** Commands for itself. */
  readonly ownCommands: readonly TvqHandler<void>[];
  /** Commands for a managed device that change more than that device. */
  readonly managedCommands: readonly TvqHandler<ManagedDevice>[];
  /** A managed device; undefined when none has this id. */
  device(id: bigint): ManagedDevice | undefined;
  /** A command was not carried out. @param header undefined: it had none */
  refused(refusal: Refusal, header: TvqHeader | undefined): void;
}

type Handlers<About> = ReadonlyMap<TvqCommand, TvqHandler<About>>;

function byCommand<About>(handlers: readonly TvqHandler<About>[]): Handlers<About> {
  // A packed ring's commands have the numbers of a split ring's, by which they are looked up.
  return new Map(handlers.map((one) => [tvqCommand(one.command.class, one.command.command)!, one]));
}

const OF_QUEUES = byCommand(QUEUE_COMMANDS);
const OF_PACKED_QUEUES: Handlers<ManagedQueue> = new Map([...OF_QUEUES, ...byCommand(PACKED_STATE_COMMANDS)]);

/** See the module. */
export class CommandServer {
  readonly #layout: TvqLayout;
  /** How a command begins. */
  protected readonly codec: TvqHeaderCodec;
  readonly #owner: CommandOwner;
  readonly #own: Handlers<void>;
  readonly #ofDevices: Handlers<ManagedDevice>;
  readonly #chain: Chain;
  readonly #head: Uint8Array<ArrayBuffer>;

  /** For a transport virtqueue of `queueSize` entries. */
  constructor(
    { layout = "aligned", header = TVQ_PADDED_HEADER }: CommandFormat,
    queueSize: number,
    owner: CommandOwner,
  ) {
    this.#layout = layout;
    this.codec = header;
    this.#owner = owner;
    this.#own = byCommand(owner.ownCommands);
    this.#ofDevices = byCommand([...DEVICE_COMMANDS, ...owner.managedCommands]);
    this.#chain = new Chain(queueSize);
    this.#head = new Uint8Array(header.headerBytes);
  }

  /** One burst. @returns how many commands */
  serve(queue: DeviceQueue, budget: number): number {
    const chain = this.#chain;
    let done = 0;
    while (done < budget) {
      const id = queue.pop(chain);
      if (id < 0) break;
      if (done === 0) queue.suppress();
      this.answer(queue, id, chain);
      done++;
    }
    if (done > 0) queue.publish();
    return done;
  }

  /** Carries a command out and returns its chain. */
  protected answer(queue: DeviceQueue, id: number, chain: Chain): void {
    queue.pushUsed(id, chain.write(this.reply(chain)));
  }

  /** The header of a command; undefined when there is not all of it. */
  protected header(chain: Chain): TvqHeader | undefined {
    return chain.peek(this.#head) < this.codec.headerBytes ? undefined : this.codec.decodeHeader(this.#head);
  }

  /** Carries a command out. @returns acknowledgement and in-data: with an acknowledgement other than OK there is none */
  protected reply(chain: Chain): Uint8Array {
    const { ackBytes } = this.codec;
    const header = this.header(chain);
    const data = this.#carryOut(header, chain);
    const refused = data instanceof Refusal;
    const bytes = new Uint8Array(ackBytes + (refused ? 0 : data.length));
    this.codec.encodeAck(refused ? TVQ_ACK[data.ack] : TVQ_ACK.OK, bytes);
    if (refused) this.#owner.refused(data, header);
    else bytes.set(data, ackBytes);
    return bytes;
  }

  #carryOut(header: TvqHeader | undefined, chain: Chain): Uint8Array | Refusal {
    const { headerBytes, ackBytes } = this.codec;
    if (header === undefined || chain.writableBytes < ackBytes) {
      const { readableBytes, writableBytes } = chain;
      return new Refusal(
        header === undefined ? "OUT_DATA" : "IN_DATA",
        "A-4.35",
        `a command of ${readableBytes} bytes with ${writableBytes} for its answer: ${headerBytes} and ${ackBytes} are the least`,
      );
    }
    const command = tvqCommand(header.class, header.command);
    if (command === undefined) return new Refusal("COMMAND", "4.1", "there is no such command");
    if (!this.#owner.ready) {
      return new Refusal(
        "NOT_NEGOTIATED",
        "4",
        "VIRTIO_F_TRANSPT_VQ and VIRTIO_F_TRANSPT_VQ_MDEV are not negotiated",
      );
    }
    try {
      return this.#dispatch(command, header.deviceId, chain);
    } catch (error) {
      if (!(error instanceof RingsideError)) throw error;
      return new Refusal("ERR", "management", error.message);
    }
  }

  #dispatch(command: TvqCommand, deviceId: bigint, chain: Chain): Uint8Array | Refusal {
    const own = this.#own.get(command);
    if (own !== undefined) {
      if (deviceId === 0n) return this.#run(own, undefined, this.#read(own, chain));
      return new Refusal("DEVICE_ID", "N-4.2", "only for the management device, which is device 0");
    }
    if (deviceId === 0n) {
      const rule = command === TVQ_COMMAND.MDEV_DESTROY ? "N-4.4" : "N-4.5";
      return new Refusal("DEVICE_ID", rule, "not for the management device, which is device 0");
    }
    const device = this.#owner.device(deviceId);
    if (device === undefined) return new Refusal("NO_DEVICE", "A-4.33", "there is no such device");
    const ofDevice = this.#ofDevices.get(command);
    if (ofDevice !== undefined) return this.#run(ofDevice, device, this.#read(ofDevice, chain));
    const ofQueue = (device.core.packed ? OF_PACKED_QUEUES : OF_QUEUES).get(command)!;
    const request = this.#read(ofQueue, chain);
    if (request instanceof Refusal) return request;
    const index = Number(request.values.queue_index);
    const queue = device.core.queues[index];
    if (queue === undefined || queue.maxSize === 0) {
      // Nothing says how many queues there are: who asks for a size finds out, and breaks no rule.
      const rule = command === TVQ_COMMAND.VQ_SIZE_GET ? undefined : "N-4.13";
      return new Refusal("QUEUE_INDEX", rule, `there is no queue ${index}`);
    }
    const answer = this.#run(ofQueue, { device, queue }, request);
    return answer instanceof Refusal ? answer.of(index) : answer;
  }

  /** Out-data of a command, which may be longer than it needs, and whether its in-data has room. */
  #read<About>({ command }: TvqHandler<About>, chain: Chain): TvqRequest | Refusal {
    const { headerBytes, ackBytes } = this.codec;
    const [out, into] = [command.out[this.#layout], command.in[this.#layout]];
    const there = chain.readableBytes - headerBytes;
    if (there < out.sizeBytes) {
      return new Refusal("OUT_DATA", "A-4.35", `${there} of ${out.sizeBytes} bytes of ${out.name}`);
    }
    const room = chain.writableBytes - ackBytes;
    if (room < into.sizeBytes) {
      return new Refusal("IN_DATA", "A-4.35", `room for ${room} of ${into.sizeBytes} bytes of ${into.name}`);
    }
    const tailBytes = command.tail === "out" ? Math.min(there - out.sizeBytes, TAIL_BYTES_MAX) : 0;
    const bytes = new Uint8Array(out.sizeBytes + tailBytes);
    chain.peek(bytes, headerBytes);
    return { values: out.decode(bytes), tail: bytes.subarray(out.sizeBytes), room };
  }

  #run<About>(
    { command, answer }: TvqHandler<About>,
    about: About,
    request: TvqRequest | Refusal,
  ): Uint8Array | Refusal {
    if (request instanceof Refusal) return request;
    const data = answer(about, request);
    return data instanceof Refusal || data instanceof Uint8Array
      ? data
      : command.in[this.#layout].encode(data);
  }
}
