/**
 * A transport virtqueue that breaks its rules on purpose, for tests of drivers.
 *
 * @module
 */
import { TVQ_COMMAND } from "../../../virtio/spec/transport_vq.ts";
import { TVQ_ACK } from "../../../virtio/spec/transport_vq_header.ts";
import { type CommandFormat, type CommandOwner, CommandServer } from "../management/command_server.ts";
import type { Chain } from "../queue/chain.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import { type LieFamily, type LiePlan, LieSwitch, xorshift } from "./lie.ts";

/** Names, what their number means, and its default. */
export const MANAGEMENT_LIES = {
  /** Every command is answered with this acknowledgement, and not carried out. */
  "tvq-ack": TVQ_ACK.ERR,
  /** Commands are carried out; each byte of their in-data is this one. */
  "tvq-data": 0xff,
  /** The first byte of in-data is another one each time, from this one on; the rest is right. */
  "tvq-drift": 0,
  /** Answers are right, but end after so many bytes. */
  "tvq-short": 0,
  /** So many commands are answered; no other ever is. */
  "tvq-silence": 0,
  /** Every answer is random, acknowledgement, in-data and used length; the number is the seed. */
  "tvq-garbage": 1,
} as const;

/** Name of such a lie. */
export type ManagementLie = keyof typeof MANAGEMENT_LIES;

const BIT_16 = 0x1_0000;
const GARBAGE_BYTES = 4096;

/** All of them, told about commands. */
export const MANAGEMENT_FAMILY: LieFamily<ManagementLie> = {
  who: "a management device",
  prefix: "tvq-",
  names: Object.keys(MANAGEMENT_LIES) as ManagementLie[],
  numbers: (lie) => [MANAGEMENT_LIES[lie], 0],
  then: ":number, and @ with the name of a command",
  opcodes: Object.fromEntries(Object.values(TVQ_COMMAND).map((one) => [one.name, opcode(one)])),
};

/** Class and command in one number. */
function opcode(of: { readonly class: number; readonly command: number }): number {
  return of.class * BIT_16 + of.command;
}

/** A server whose answers are not to be believed. */
export class LyingCommandServer extends CommandServer {
  readonly #plan: LiePlan<ManagementLie>;
  readonly #random: () => number;
  /** Commands that are still to be answered; they are counted through resets. */
  #left = 0;
  #drift = 0;
  readonly #told: LieSwitch;

  /** A server that tells this lie. */
  constructor(format: CommandFormat, queueSize: number, owner: CommandOwner, plan: LiePlan<ManagementLie>) {
    super(format, queueSize, owner);
    this.#plan = plan;
    this.#told = plan.told ?? new LieSwitch();
    this.#told.whenOn(() => this.#left = this.#drift = plan.numbers[0]);
    this.#random = xorshift(plan.numbers[0]);
  }

  /** As of an honest server, unless this command is lied about. */
  protected override answer(queue: DeviceQueue, id: number, chain: Chain): void {
    const { lie, numbers: [number], opcode: about } = this.#plan;
    const header = this.header(chain);
    const other = about !== undefined && (header === undefined || opcode(header) !== about);
    if (other || !this.#told.on) {
      super.answer(queue, id, chain);
      return;
    }
    switch (lie) {
      case "tvq-ack": {
        const bytes = new Uint8Array(this.codec.ackBytes);
        this.codec.encodeAck(number & 0xff, bytes);
        queue.pushUsed(id, chain.write(bytes));
        return;
      }
      case "tvq-data":
        queue.pushUsed(id, chain.write(this.reply(chain).fill(number, this.codec.ackBytes)));
        return;
      case "tvq-drift": {
        const bytes = this.reply(chain);
        if (bytes.length > this.codec.ackBytes) bytes[this.codec.ackBytes] = this.#drift++;
        queue.pushUsed(id, chain.write(bytes));
        return;
      }
      case "tvq-short":
        queue.pushUsed(id, chain.write(this.reply(chain).subarray(0, number)));
        return;
      case "tvq-silence":
        if (this.#left === 0) return;
        this.#left--;
        super.answer(queue, id, chain);
        return;
      case "tvq-garbage": {
        const bytes = new Uint8Array(Math.min(chain.writableBytes, GARBAGE_BYTES));
        for (let i = 0; i < bytes.length; i++) bytes[i] = this.#random();
        chain.write(bytes);
        queue.pushUsed(id, this.#random() % (bytes.length + 1));
      }
    }
  }
}
