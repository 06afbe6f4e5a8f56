/**
 * A command from the moment it was asked for until it is answered or given up.
 *
 * @module
 */
import type { CommandPlace } from "./command_memory.ts";
import type { AdminCommandPlace } from "./error.ts";
import type { AdminCommand, AdminFrameSize, AdminReply } from "./frame.ts";
import type { AdminLane } from "./lane.ts";

/** See the module's text. */
export class Pending {
  /** Undefined for one that only wants the queues to be quiet. */
  readonly command: AdminCommand | undefined;
  /** Of its frame. */
  readonly size: AdminFrameSize;
  /** Member that it is for: commands of one member keep their order (N-3.6). */
  readonly member: string;
  /** Goes alone: nothing else may be outstanding (N-3.2, N-3.7). */
  readonly alone: boolean;
  /** As of `performance.now()`. */
  readonly deadline: number;
  /** As asked for. */
  readonly timeoutMs: number;
  /** Order in which they were asked for. */
  readonly sequence: number;
  /** Times it was sent. */
  attempts = 0;
  /** Not to be sent again before this time. */
  notBefore = 0;
  /** Queue that it was sent on last. */
  lane: AdminLane | null = null;
  /** Its memory, while the device has it. */
  place: CommandPlace | null = null;
  /** It waits in its member's line. */
  lined = false;
  /** Behind it in whatever it waits in. */
  next: Pending | null = null;
  /** It has its result; the device may still have it. */
  done = false;
  /** After success. */
  reply: AdminReply | undefined;
  /** After failure. */
  error: unknown;
  /** Set when somebody awaits it. */
  resolve: (() => void) | undefined;

  /** Not sent yet. */
  constructor(
    command: AdminCommand | undefined,
    size: AdminFrameSize,
    alone: boolean,
    timeoutMs: number,
    now: number,
    sequence: number,
  ) {
    this.command = command;
    this.size = size;
    this.alone = alone;
    this.timeoutMs = timeoutMs;
    this.deadline = now + timeoutMs;
    this.sequence = sequence;
    this.member = command === undefined ? "" : `${command.groupType}:${command.memberId ?? 0n}`;
  }

  /** For messages. */
  where(name: string): AdminCommandPlace {
    const { opcode = 0, groupType = 0, memberId = 0n, detail } = this.command ?? {};
    return {
      function: name,
      opcode,
      groupType,
      memberId,
      ...(this.lane === null ? {} : { queue: this.lane.index }),
      ...(detail === undefined ? {} : { detail }),
    };
  }
}
