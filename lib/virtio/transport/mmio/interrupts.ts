/**
 * Interrupts of a virtio-mmio device: its line, and in the drafts messages of its own for each vector (reference 7.2, 7.3).
 *
 * @module
 */
import { EventFd } from "../../../../ffi/mod.ts";
import { typedErrors } from "../../../errors/doors.ts";
import { DeviceError, UnsupportedError, UsageError } from "../../../errors/mod.ts";
import { shown } from "../../../errors/shown.ts";
import type { InterruptSet, VectorKind } from "../../../vfio/interrupts.ts";
import { MessageVectors, type MsiMessage } from "../../../vfio/msi_addresses.ts";
import type { MmioWindow } from "./window.ts";

/** What interrupts: a queue, or the config space. */
export type MsiSource = number | "config";

/** How a draft has its vectors programmed. Nothing of it outlives a reset of the device. */
export interface MsiProgram {
  /** Vectors that a driver can give to its sources; 0 when there are none, which `lack` explains. */
  readonly vectors: number;
  /** Why there are none. */
  readonly lack: string | undefined;
  /** A vector can be masked while it is programmed; else MSI as a whole is turned off meanwhile. */
  readonly masks: boolean;
  /**
   * Gives a source a message. The device takes address and data at the command that comes after them.
   * @param vector the driver's number for it @param message null: the source is to have none
   * @returns false when the device has no vector for it @throws UnsupportedError when a message cannot be taken away
   */
  bind(source: MsiSource, vector: number, message: MsiMessage | null): boolean;
  /** Turns MSI on or off. @returns what it is then, as the device says */
  turn(on: boolean): boolean;
  /** The device was reset. */
  forget?(): void;
}

/**
 * One kind at a time: the line (`intx`) or messages (`msi`). Messages are turned on as a whole, when all vectors are configured (N-7.4): at DRIVER_OK.
 * Where the device does not take them, its line is used in their place (N-7.3): it raises the first of the vectors that were given out.
 */
export class MmioInterrupts
  implements Pick<InterruptSet, "available" | "enable" | "disable" | "rearm" | "kind"> {
  static {
    typedErrors(this);
  }

  /** Of a draft; absent in the standard's forms. */
  program: MsiProgram | undefined;
  readonly #window: MmioWindow;
  readonly #vectors: MessageVectors | undefined;
  /** Vector of each source that has one. */
  readonly #bound = new Map<MsiSource, number>();
  /** MSI is on in the device. */
  #on = false;
  /** DRIVER_OK was written. */
  #live = false;
  /** The line stands for the vectors. */
  #fellBack = false;

  /** Nothing is on yet. */
  constructor(window: MmioWindow) {
    this.#window = window;
    const { messages } = window;
    this.#vectors = messages === undefined ? undefined : new MessageVectors(messages, window.name);
  }

  /** What is on. */
  get kind(): VectorKind | null {
    return this.#messages.length > 0 && !this.#fellBack ? "msi" : this.#window.interrupts.kind;
  }

  /** How many vectors of a kind can be had. */
  available(kind: VectorKind): number {
    if (kind === "intx") return this.#window.interrupts.available("intx");
    if (kind !== "msi" || this.program === undefined) return 0;
    return Math.min(this.program.vectors, this.#vectors?.available ?? 0);
  }

  /** Why there are no messages, where a draft has them. */
  get lack(): string | undefined {
    if (this.program === undefined) {
      return `${this.#window.name}: virtio-mmio has one line; messages are in profiles mmio-v3 and mmio-msi-v2 alone`;
    }
    const { messages, name } = this.#window;
    if (messages === undefined) return `${name}: nobody says where messages go; use the line, or poll`;
    return messages.lack ?? this.program.lack;
  }

  /** Turns the line on, or has messages allotted. @throws UnsupportedError, ExhaustedError, UsageError, SyscallError */
  enable(kind: VectorKind, count = 1, given?: readonly EventFd[]): readonly EventFd[] {
    using kept = new DisposableStack();
    for (const one of given ?? []) kept.use(one);
    if (this.kind !== null) {
      throw new UsageError(`${this.#window.name}: ${this.kind} interrupts are on already`, {
        hint: "disable them first",
      });
    }
    if (!Number.isInteger(count) || count < 1) {
      throw new UsageError(`${this.#window.name}: ${shown(count)} ${kind} vectors`, { hint: "1 or more" });
    }
    if (kind === "intx") {
      kept.move();
      return this.#window.interrupts.enable("intx", count, given);
    }
    const available = this.available(kind);
    if (available < count) {
      throw new UnsupportedError(
        `${this.#window.name} has ${available} ${kind} vectors, ${count} are wanted`,
        {
          hint: this.lack ?? "",
        },
      );
    }
    kept.move();
    return this.#vectors!.allot(count, given);
  }

  /** Turns off what is on: MSI by the command for it. The messages are given back whatever the device does. */
  disable(): void {
    try {
      if (this.#on) this.program!.turn(false);
    } finally {
      this.#on = this.#fellBack = false;
      this.#bound.clear();
      this.#vectors?.giveBack();
      this.#window.interrupts.disable();
    }
  }

  /** Of the line. */
  rearm(): void {
    this.#window.interrupts.rearm();
  }

  /** Gives a source one of the vectors; null: none. The line, where it stands for them, has no vectors to be told of. */
  bind(source: MsiSource, vector: number | null): void {
    if (this.#fellBack) return;
    const { program } = this;
    if (program === undefined || this.kind !== "msi") {
      throw new UsageError(`${this.#window.name}: there are vectors only while MSI is enabled`, {
        hint: 'call enableInterrupts("msi", …) first',
      });
    }
    const message = vector === null ? null : this.#messages[vector];
    if (message === undefined) {
      throw new UsageError(`${this.#window.name}: there is no MSI vector ${shown(vector)}`);
    }
    if (this.vectorOf(source) === vector) return;
    const off = this.#on && !program.masks;
    if (off) this.#on = program.turn(false);
    let taken: boolean;
    try {
      taken = program.bind(source, vector ?? 0, message);
    } catch (error) {
      this.#goOn(off);
      throw error;
    }
    if (!taken) return this.#fallBack();
    if (vector === null) this.#bound.delete(source);
    else this.#bound.set(source, vector);
    this.#goOn(off);
  }

  /** Turns messages on again where a driver is at work. @param off they were turned off for a change */
  #goOn(off: boolean): void {
    if (!this.#live || this.#on) return;
    this.start();
    // What happened meanwhile went to the line, which nobody watches: whoever waits looks once for nothing at worst.
    if (off) { for (const { eventFd } of this.#messages) eventFd.signal(); }
  }

  /** The vector of a source; null for none. */
  vectorOf(source: MsiSource): number | null {
    return this.#bound.get(source) ?? null;
  }

  /** DRIVER_OK is about to be written: all vectors are configured (N-7.4). @throws DeviceError where neither messages nor a line work */
  start(): void {
    this.#live = true;
    if (this.kind !== "msi" || this.#on) return;
    this.#on = this.program!.turn(true);
    if (!this.#on) this.#fallBack();
  }

  /** The device was reset, which turns MSI off (N-7.1) and forgets its vectors. */
  forget(): void {
    this.#on = this.#live = false;
    this.#bound.clear();
    this.program?.forget?.();
  }

  /** N-7.3: MSI off, and the line. */
  #fallBack(): void {
    const { name, interrupts } = this.#window;
    this.#on = false;
    this.program!.turn(false);
    if (interrupts.available("intx") === 0) {
      throw new DeviceError("MSI cannot be set up, and there is no line", { function: name }, {
        hint: "poll",
      });
    }
    interrupts.enable("intx", 1, [new EventFd(this.#messages[0]!.eventFd.fd.duplicate())]);
    this.#bound.clear();
    this.#fellBack = true;
  }

  get #messages(): readonly MsiMessage[] {
    return this.#vectors?.messages ?? [];
  }
}
