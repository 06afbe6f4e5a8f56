/**
 * One command of a management device, and what becomes of it.
 *
 * @module
 */
import type { Field, Values } from "../../../wire/mod.ts";
import type { TvqCommand } from "../../../virtio/spec/transport_vq.ts";
import type { TvqAckName } from "../../../virtio/spec/transport_vq_header.ts";
import type { TvqFields } from "../../../virtio/spec/transport_vq_payloads.ts";
import type { CoreQueue } from "../core/queue.ts";
import type { ManagedDevice } from "./managed_device.ts";

/** A command that is not carried out. Nothing has changed by it. */
export class Refusal {
  /** What the driver is told. */
  readonly ack: TvqAckName;
  /** Rule that the driver broke; undefined when it broke none. */
  readonly rule: string | undefined;
  /** What is wrong. */
  readonly message: string;

  /** Notes why. */
  constructor(ack: TvqAckName, rule: string | undefined, message: string) {
    this.ack = ack;
    this.rule = rule;
    this.message = message;
  }

  /** The same, about a queue. */
  of(queue: number): Refusal {
    return new Refusal(this.ack, this.rule, `queue ${queue}: ${this.message}`);
  }
}

/** Values of a payload. */
export type TvqValues<D extends TvqFields> = Values<{ readonly [N in keyof D]: Field<D[N]> }>;

/** A command that was read. */
export interface TvqRequest<O extends TvqFields = TvqFields> {
  /** Fields of its out-data. */
  readonly values: TvqValues<O>;
  /** What follows them; at most `TAIL_BYTES_MAX` of it. */
  readonly tail: Uint8Array;
  /** Bytes that the in-data may have. */
  readonly room: number;
}

/** In-data: the fields of the command's, or bytes, or none. */
export type TvqAnswer<I extends TvqFields = TvqFields> = TvqValues<I> | Uint8Array | Refusal;

/** What carries a command out for `About`: the management device, a managed device, or one of its queues. */
export interface TvqHandler<About> {
  /** Its numbers and payloads. */
  readonly command: TvqCommand;
  /** Carries it out. */
  readonly answer: (about: About, request: TvqRequest) => TvqAnswer;
}

/** A queue of a managed device. */
export interface ManagedQueue {
  /** The device. */
  readonly device: ManagedDevice;
  /** Its queue, which exists. */
  readonly queue: CoreQueue;
}

/** Ties a command to what carries it out. */
export function on<About, O extends TvqFields, I extends TvqFields>(
  command: TvqCommand<O, I>,
  answer: (about: About, request: TvqRequest<O>) => TvqAnswer<I>,
): TvqHandler<About> {
  // The payload that was read is the command's own: whoever carries a command out takes both from here.
  return { command, answer } as unknown as TvqHandler<About>;
}

/** Done, and nothing to say. */
export const DONE = {};

/** Longest part of the out-data behind the fields that means anything: configurations are shorter. */
export const TAIL_BYTES_MAX = 4096;
