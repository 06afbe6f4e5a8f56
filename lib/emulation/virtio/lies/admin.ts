/**
 * Administration queues that break the standard on purpose, for tests of drivers.
 *
 * @module
 */
import {
  ADMIN_OPCODE,
  ADMIN_STATUS,
  LEGACY_NOTIFY_ENTRIES,
  LEGACY_NOTIFY_FLAG,
  LEGACY_NOTIFY_INFO,
} from "../../../virtio/spec/admin.ts";
import type { Chain } from "../queue/chain.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import { type AdminCommand, encodeOutcome } from "../admin/command_chain.ts";
import { type LieFamily, type LiePlan, LieSwitch, xorshift } from "./lie.ts";
import { AdminController, type AdminControllerOptions } from "../admin/controller.ts";

/** Names, what their number means, and its default. The second number is the qualifier of `admin-status`. */
export const ADMIN_LIES = {
  /** So many commands are answered EAGAIN (TRYAGAIN) and not carried out; then the device is honest. */
  "admin-eagain": 1,
  /** Every command is answered with this status and not carried out; a second number is the qualifier. */
  "admin-status": ADMIN_STATUS.EINVAL,
  /** Every answer is random, status, result and used length; the number is the seed. */
  "admin-garbage": 1,
  /** Answers are right, but end after so many bytes. */
  "admin-short": 4,
  /** So many commands are answered; no other ever is. */
  "admin-silence": 0,
  /** Commands wait for so many rounds of the device, those of earlier queues longer: answers overtake each other. */
  "admin-late": 16,
  /** LIST_QUERY names opcodes that nobody knows, in so many words of 64 bits. */
  "admin-list-long": 16,
  /** LEGACY_NOTIFY_INFO has only entries that a driver must ignore (N-3.17), and no end. The number is not used. */
  "admin-notify-wild": 0,
} as const;

/** Name of such a lie. */
export type AdminLieName = keyof typeof ADMIN_LIES;

/** All of them, told about commands. */
export const ADMIN_FAMILY: LieFamily<AdminLieName> = {
  who: "administration queues",
  prefix: "admin-",
  names: Object.keys(ADMIN_LIES) as AdminLieName[],
  numbers: (lie) => [ADMIN_LIES[lie], 0],
  then: ":number, and @ with the name of an opcode",
  opcodes: ADMIN_OPCODE,
};

/** A controller whose answers are not to be believed. */
export class LyingAdminController extends AdminController {
  readonly #plan: LiePlan<AdminLieName>;
  readonly #random: () => number;
  /** Commands that are still to be lied about, or to be answered honestly. */
  #left = 0;
  readonly #told: LieSwitch;
  /** Rounds that the commands of each queue have waited. */
  readonly #waited: Uint32Array;

  /** A controller that tells this lie; the count lives through resets. */
  constructor(options: AdminControllerOptions, plan: LiePlan<AdminLieName>) {
    super(options);
    this.#plan = plan;
    this.#told = plan.told ?? new LieSwitch();
    this.#told.whenOn(() => this.#left = plan.numbers[0]);
    this.#random = xorshift(plan.numbers[0]);
    this.#waited = new Uint32Array(options.queues);
  }

  /** As of an honest controller; `admin-late` lets commands wait. */
  protected override serve(index: number, budget: number): number {
    if (this.#told.on && this.#plan.lie === "admin-late" && this.waiting(index, 1) > 0) {
      // A round in which a command waits counts as work: the device shall not fall asleep over it.
      if (this.#waited[index]! < this.#plan.numbers[0] * (this.queueSizes.length - index)) {
        this.#waited[index] = this.#waited[index]! + 1;
        return 1;
      }
      this.#waited[index] = 0;
      return super.serve(index, 1);
    }
    return super.serve(index, budget);
  }

  /** As of an honest controller, unless this command is lied about. */
  protected override answer(queue: DeviceQueue, id: number, chain: Chain, command: AdminCommand): void {
    const { lie, numbers: [number, second], opcode } = this.#plan;
    if (!this.#told.on || (opcode !== undefined && opcode !== command.opcode)) {
      super.answer(queue, id, chain, command);
      return;
    }
    switch (lie) {
      case "admin-eagain":
        if (this.#left === 0) break;
        this.#left--;
        queue.pushUsed(
          id,
          chain.write(encodeOutcome({ status: "EAGAIN", qualifier: "TRYAGAIN" })),
        );
        return;
      case "admin-status":
        queue.pushUsed(
          id,
          chain.write(Uint8Array.of(number, number >> 8, second, second >> 8, 0, 0, 0, 0)),
        );
        return;
      case "admin-garbage":
        queue.pushUsed(id, this.#garbage(chain));
        return;
      case "admin-short": {
        const bytes = encodeOutcome(this.carryOut(command));
        queue.pushUsed(id, chain.write(bytes.subarray(0, number)));
        return;
      }
      case "admin-silence":
        if (this.#left === 0) return;
        this.#left--;
        break;
      case "admin-list-long":
        if (command.opcode !== ADMIN_OPCODE.LIST_QUERY) break;
        queue.pushUsed(id, chain.write(this.#longList(command)));
        return;
      case "admin-notify-wild":
        if (command.opcode !== ADMIN_OPCODE.LEGACY_NOTIFY_INFO) break;
        queue.pushUsed(id, chain.write(encodeOutcome({ status: "OK", result: wildEntries() })));
        return;
      default:
    }
    super.answer(queue, id, chain, command);
  }

  #garbage(chain: Chain): number {
    const bytes = new Uint8Array(Math.min(chain.writableBytes, 4096));
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.#random();
    chain.write(bytes);
    return this.#random() % (bytes.length + 1);
  }

  #longList(command: AdminCommand): Uint8Array {
    const { status, qualifier = "OK", result } = this.carryOut(command);
    const long = new Uint8Array(Math.max(result?.length ?? 0, 8 * this.#plan.numbers[0])).fill(0xff);
    // The first word is honest: the others are of opcodes from 64 on.
    if (result !== undefined) long.set(result);
    return encodeOutcome({ status, qualifier, ...(result === undefined ? {} : { result: long }) });
  }
}

/** A reserved flag, BARs that cannot be, an odd offset, and one far behind every BAR. */
function wildEntries(): Uint8Array {
  const { member, owner } = LEGACY_NOTIFY_FLAG;
  const entries = [
    { flags: 7, bar: 4, offset: 0n },
    { flags: member, bar: 0, offset: 0n },
    { flags: owner, bar: 4, offset: 0x3001n },
    { flags: member, bar: 4, offset: 1n << 40n },
  ];
  const size = LEGACY_NOTIFY_INFO.sizeBytes;
  const bytes = new Uint8Array(LEGACY_NOTIFY_ENTRIES * size);
  entries.forEach((entry, i) => LEGACY_NOTIFY_INFO.encodeInto(bytes, i * size, entry));
  return bytes;
}
