/**
 * A managed device, as its management device's driver holds it.
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { ClosedError } from "../../errors/mod.ts";
import type { AddressSpaces } from "../../memory/mod.ts";
import { EndHandlers } from "../../wait/end_handlers.ts";
import { type CallMode, type CommandTarget, ManagedCommands } from "./managed_commands.ts";
import { MsiRecord, type MsiSettings } from "./msi_record.ts";
import type { ManagementQueue } from "./queue.ts";

/** What a managed device stands on. */
export interface ManagedDeviceParts {
  /** PCI address or path of the management function. */
  readonly function: string;
  /** Given by the device: not 0. */
  readonly id: bigint;
  /** Virtio device id. */
  readonly type: number;
  /** The queue of now. @throws ClosedError when there is none */
  readonly queue: () => ManagementQueue;
  /** As `CommandTarget.addressSpaces`. */
  readonly addressSpaces: AddressSpaces;
}

/** See the module's text. Its commands resolve to their answers; `now` has the same in this thread. */
export class ManagedDevice extends ManagedCommands<"later"> {
  static {
    typedErrors(this);
  }

  /** Unique over the life of the management device. */
  readonly id: bigint;
  /** Function and id: `0000:01:00.0/3`. */
  readonly name: string;
  /** Virtio device id. */
  readonly type: number;
  /** The same commands, each in this thread. */
  readonly now: ManagedCommands<"now">;
  readonly #msi: MsiRecord;
  readonly #ends = new EndHandlers();
  #destroyed = false;

  /** Made when the device is created. */
  constructor({ function: owner, id, type, queue, addressSpaces }: ManagedDeviceParts) {
    const name = `${owner}/${id}`, msi = new MsiRecord();
    const target = <M extends CallMode>(send: CommandTarget<M>["send"]): CommandTarget<M> => {
      return { name, deviceId: id, addressSpaces, layout: () => queue().layout, send };
    };
    const requireAlive = () => {
      if (this.#destroyed) throw this.gone();
      return queue();
    };
    const later: CommandTarget<"later">["send"] = async (make) => {
      const live = requireAlive(), { command, read } = make();
      return read(await live.execute(command));
    };
    const now: CommandTarget<"now">["send"] = (make) => {
      const live = requireAlive(), { command, read } = make();
      return read(live.executeNow(command));
    };
    super(target(later), msi);
    this.id = id;
    this.name = name;
    this.type = type;
    this.now = new ManagedCommands(target(now), msi);
    this.#msi = msi;
  }

  /** The MSI of a queue, as it was set last. */
  queueMsi(queue: number): MsiSettings {
    requireType(queue, "number", "queueMsi: queue");
    return this.#msi.of(queue);
  }

  /** The MSI of the config space, as it was set last. */
  get configMsi(): MsiSettings {
    return this.#msi.of("config");
  }

  /** It is gone: destroyed, or with a reset of the management device. */
  get destroyed(): boolean {
    return this.#destroyed;
  }

  /** That it is gone. */
  gone(): ClosedError {
    return new ClosedError(`managed device ${this.name}`);
  }

  /** Calls `handler` once when it is gone. @returns forgets it @internal */
  onEnd(handler: () => void): () => void {
    return this.#ends.add(handler, "ManagedDevice.onEnd: handler");
  }

  /** The device is gone: nothing is sent to it any more, and whoever waits for it hears of it. @internal */
  end(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#ends.tell();
  }
}
