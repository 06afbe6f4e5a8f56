/**
 * An administration command on its way.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { ADMIN_OPCODE } from "../spec/admin.ts";
import { Command } from "../control/command.ts";
import type { AdminCall } from "./calls.ts";
import type { AdminCommandPlace } from "./error.ts";
import {
  type AdminCommand,
  adminFrameSize,
  type AdminReply,
  encodeAdminCommand,
  legacyDetail,
  prepareAdminReply,
} from "./frame.ts";

const NOTHING = { readable: 0, writable: 0 };

/** A caller's command, read once: the caller's object and bytes may change before it is sent. */
export function copyOf(given: AdminCommand): AdminCommand {
  const { ...command } = given;
  if (command.data === undefined) return command;
  requireType(command.data, "bytes", "execute: command.data");
  return { ...command, data: command.data.slice() };
}

/** Lines of members of the groups that there are, by number. */
const LINES: readonly string[][] = [[], []];

function lineOf({ groupType, memberId = 0n }: AdminCommand): string {
  const known = LINES[groupType];
  const member = Number(memberId);
  if (known === undefined || member > 0xffff) return `${groupType}:${memberId}`;
  return known[member] ??= `${groupType}:${memberId}`;
}

/** See the module's text. Its line is its member: commands of one member keep their order (N-3.6). LIST_USE goes alone (N-3.2, N-3.7). */
export class QueuedCommand extends Command {
  /** Undefined for one that only wants the queues to be quiet. */
  readonly command: AdminCommand | undefined;
  /** What is made of the reply keeps nothing of it. */
  readonly passing: boolean;
  readonly #call: AdminCall<unknown> | undefined;
  readonly #name: string;
  #outcome: unknown;

  /**
   * @param command undefined: it only wants quiet; else nobody changes it any more @param padReads as `AdminQueueOptions`
   * @param call whose command it is, which says what is made of the reply. Default: the reply @param name function, for messages
   * @throws UsageError for what is no command
   */
  constructor(
    command: AdminCommand | undefined,
    timeoutMs: number,
    padReads: boolean,
    call?: AdminCall<unknown>,
    name = "",
  ) {
    const { readable, writable } = command === undefined ? NOTHING : adminFrameSize(command, padReads);
    const member = command === undefined ? "" : lineOf(command);
    const alone = command === undefined || command.opcode === ADMIN_OPCODE.LIST_USE;
    super(member, alone, timeoutMs, readable, writable);
    this.command = command;
    this.passing = call?.passing ?? false;
    this.#call = call;
    this.#name = name;
  }

  /** After success. @throws what the reply comes to instead, which is no answer then */
  answered(reply: AdminReply): void {
    this.#outcome = this.#call === undefined ? reply : this.#call.read(reply, this.#name);
  }

  override outcome(): unknown {
    return this.#outcome;
  }

  override encode(readable: Uint8Array, writable: Uint8Array): void {
    encodeAdminCommand(this.command!, readable);
    prepareAdminReply(writable);
  }

  /** For messages. */
  where(name: string): AdminCommandPlace {
    const { opcode = 0, groupType = 0, memberId = 0n, detail } = this.command ?? {};
    const said = detail ?? (this.command && legacyDetail(this.command));
    return { function: name, opcode, groupType, memberId, queue: this.queue, detail: said };
  }
}
