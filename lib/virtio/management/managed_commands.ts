/**
 * The commands of one managed device, each as a call (reference 4.1).
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { DeviceError, UsageError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import type { AddressSpaces } from "../../memory/mod.ts";
import type { Fields, Struct, Values } from "../../wire/mod.ts";
import {
  checkQueueState,
  type PackedQueueState,
  type QueueState,
  type SplitQueueState,
} from "../spec/queue_state.ts";
import {
  TVQ_COMMAND,
  TVQ_PACKED_STATE,
  TVQ_VQ_STATUS,
  type TvqCommand,
  tvqMask,
} from "../spec/transport_vq.ts";
import {
  packedStateFromTvq,
  packedStateToTvq,
  TVQ_CONFIG_GET,
  TVQ_CONFIG_SET,
  type TvqFields,
  type TvqLayout,
  type TvqPayload,
} from "../spec/transport_vq_payloads.ts";
import type { MsiRecord, MsiSettings } from "./msi_record.ts";
import type { ManagementCommand } from "./queued_command.ts";

/** When a call gives its result: in this thread (`now`), or as a promise. */
export type CallMode = "now" | "later";

/** The result of a call. */
export type Answer<M extends CallMode, T> = M extends "now" ? T : Promise<T>;

/** A command and what its answer means. */
export interface ManagementCall<T> {
  /** To be sent. */
  readonly command: ManagementCommand;
  /** Reads the in-data of a command that succeeded. @throws DeviceError for what cannot be */
  readonly read: (data: Uint8Array<ArrayBuffer>) => T;
}

/** Whom commands go to, and how. */
export interface CommandTarget<M extends CallMode> {
  /** Function and device, for messages: `0000:01:00.0/3`. */
  readonly name: string;
  /** Id of the device. */
  readonly deviceId: bigint;
  /** Layout of payloads. */
  readonly layout: () => TvqLayout;
  /** Those of the management function. */
  readonly addressSpaces: AddressSpaces;
  /** Sends. What `make` throws comes as what the call throws. */
  readonly send: <T>(make: () => ManagementCall<T>) => Answer<M, T>;
}

/** Where a queue is notified: an address of the platform. */
export interface NotifyArea {
  /** First byte. */
  readonly address: bigint;
  /** Bytes. */
  readonly sizeBytes: bigint;
}

/** Where the rings of a queue are, as IOVAs of its address space. */
export interface ManagedQueueAreas {
  /** Descriptor table, or packed descriptor ring. */
  readonly descriptorArea: bigint;
  /** Available ring, or the driver's event suppression. */
  readonly driverArea: bigint;
  /** Used ring, or the device's event suppression. */
  readonly deviceArea: bigint;
}

type FieldValues<D extends TvqFields> = Values<TvqPayload<D>["packed"]["fields"]>;

const NOTHING = (): void => {};

/**
 * The commands, each once. Numbers and sizes are checked before anything is sent.
 *
 * Errors of all calls: `ManagementCommandError`, `ManagementTimeoutError`, `DeviceError` (an answer that cannot be), `UsageError`, and `ClosedError` once the
 * device is destroyed, which a reset of the management device does, too.
 */
export class ManagedCommands<M extends CallMode> {
  static {
    typedErrors(this);
  }

  readonly #target: CommandTarget<M>;
  readonly #msi: MsiRecord;

  /** Sends nothing. @param msi what was set is noted there */
  constructor(target: CommandTarget<M>, msi: MsiRecord) {
    this.#target = target;
    this.#msi = msi;
  }

  /** FEAT_DEVICE_GET: features offered. */
  features(): Answer<M, bigint> {
    return this.#do(TVQ_COMMAND.FEAT_DEVICE_GET, {}, ({ features }) => features);
  }

  /** FEAT_DRIVER_SET: features that the driver accepts, before FEATURES_OK. */
  setDriverFeatures(features: bigint): Answer<M, void> {
    return this.#do(TVQ_COMMAND.FEAT_DRIVER_SET, { features }, NOTHING);
  }

  /** FEAT_DRIVER_GET. */
  driverFeatures(): Answer<M, bigint> {
    return this.#do(TVQ_COMMAND.FEAT_DRIVER_GET, {}, ({ features }) => features);
  }

  /** STATUS_SET. 0 resets the device, and success means that it is reset (N-4.7); its MSIs are disabled then (N-4.11). */
  setStatus(status: number): Answer<M, void> {
    return this.#do(TVQ_COMMAND.STATUS_SET, { status }, () => {
      if (status === 0) this.#msi.forget();
    });
  }

  /** STATUS_GET. */
  status(): Answer<M, number> {
    return this.#do(TVQ_COMMAND.STATUS_GET, {}, ({ status }) => status);
  }

  /** GENERATION_GET: changes when something that was read of the config space has changed (N-4.9). */
  generation(): Answer<M, number> {
    return this.#do(TVQ_COMMAND.GENERATION_GET, {}, ({ generation }) => generation);
  }

  /** CONFIG_GET: bytes of the config space; aligned 1, 2, 4 or 8 are read in one piece. */
  readConfig(offset: number, size: number): Answer<M, Uint8Array<ArrayBuffer>> {
    const { CONFIG_GET } = TVQ_COMMAND;
    return this.#target.send(() => {
      const out = this.#encode(CONFIG_GET, TVQ_CONFIG_GET[this.#target.layout()], { offset, size });
      const command = this.#command(CONFIG_GET, out, size, undefined, range(offset, size));
      return {
        command,
        read: (data) => {
          this.#requireLength(CONFIG_GET, data, size);
          return data;
        },
      };
    });
  }

  /** CONFIG_SET. */
  writeConfig(offset: number, bytes: Uint8Array): Answer<M, void> {
    const { CONFIG_SET } = TVQ_COMMAND;
    return this.#target.send(() => {
      requireType(bytes, "bytes", "writeConfig: bytes");
      const head = TVQ_CONFIG_SET[this.#target.layout()];
      const out = this.#encode(CONFIG_SET, head, { offset, size: bytes.length }, bytes);
      return {
        command: this.#command(CONFIG_SET, out, 0, undefined, range(offset, bytes.length)),
        read: NOTHING,
      };
    });
  }

  /** MSI_VQ_SET: the message that an interrupt of a queue is. */
  setQueueMsi(queue: number, message: Pick<MsiSettings, "address" | "data">): Answer<M, void> {
    return this.#do(
      TVQ_COMMAND.MSI_VQ_SET,
      () => ({ queue_index: queue, ...parts(message, "setQueueMsi: message") }),
      (_, { address, data }) => this.#msi.note(queue, { address, data }),
      queue,
    );
  }

  /** MSI_VQ_ENABLE. While it is disabled, interrupts are lost. */
  enableQueueMsi(queue: number, enabled: boolean): Answer<M, void> {
    const values = () => ({ queue_index: queue, enable: Number(flag(enabled, "enableQueueMsi: enabled")) });
    return this.#do(TVQ_COMMAND.MSI_VQ_ENABLE, values, () => this.#msi.note(queue, { enabled }), queue);
  }

  /** MSI_VQ_MASK. While it is masked, one interrupt is kept, and comes when it is unmasked and enabled (A-4.4, N-4.11). */
  maskQueueMsi(queue: number, masked: boolean): Answer<M, void> {
    const values = () => ({ queue_index: queue, mask: tvqMask(flag(masked, "maskQueueMsi: masked")) });
    return this.#do(TVQ_COMMAND.MSI_VQ_MASK, values, () => this.#msi.note(queue, { masked }), queue);
  }

  /** MSI_CONFIG_SET: as `setQueueMsi`, for changes of the config space. */
  setConfigMsi(message: Pick<MsiSettings, "address" | "data">): Answer<M, void> {
    return this.#do(
      TVQ_COMMAND.MSI_CONFIG_SET,
      () => parts(message, "setConfigMsi: message"),
      (_, { address, data }) => this.#msi.note("config", { address, data }),
    );
  }

  /** MSI_CONFIG_ENABLE. */
  enableConfigMsi(enabled: boolean): Answer<M, void> {
    const note = () => this.#msi.note("config", { enabled });
    const values = () => ({ enable: Number(flag(enabled, "enableConfigMsi: enabled")) });
    return this.#do(TVQ_COMMAND.MSI_CONFIG_ENABLE, values, note);
  }

  /** MSI_CONFIG_MASK. */
  maskConfigMsi(masked: boolean): Answer<M, void> {
    const note = () => this.#msi.note("config", { masked });
    const values = () => ({ mask: tvqMask(flag(masked, "maskConfigMsi: masked")) });
    return this.#do(TVQ_COMMAND.MSI_CONFIG_MASK, values, note);
  }

  /** VQ_ADDR_SET, of a queue that is disabled. */
  setQueueAreas(queue: number, areas: ManagedQueueAreas): Answer<M, void> {
    const values = () => {
      requireType(areas, "object", "setQueueAreas: areas", "descriptorArea", "driverArea", "deviceArea");
      const { descriptorArea, driverArea, deviceArea } = areas;
      return {
        queue_index: queue,
        descriptor_area: descriptorArea,
        device_area: deviceArea,
        driver_area: driverArea,
      };
    };
    return this.#do(TVQ_COMMAND.VQ_ADDR_SET, values, NOTHING, queue);
  }

  /** VQ_ENABLE_SET, after all else of the queue is set (N-4.15). A queue that is disabled keeps where it stands. */
  enableQueue(queue: number, enabled: boolean): Answer<M, void> {
    const values = () => ({
      queue_index: queue,
      status: flag(enabled, "enableQueue: enabled") ? TVQ_VQ_STATUS.ENABLE : TVQ_VQ_STATUS.DISABLE,
    });
    return this.#do(TVQ_COMMAND.VQ_ENABLE_SET, values, NOTHING, queue);
  }

  /** VQ_ENABLE_GET. */
  queueEnabled(queue: number): Answer<M, boolean> {
    const read = ({ status }: { status: number }) => status === TVQ_VQ_STATUS.ENABLE;
    return this.#do(TVQ_COMMAND.VQ_ENABLE_GET, { queue_index: queue }, read, queue);
  }

  /** VQ_SIZE_SET, of a queue that is disabled. */
  setQueueSize(queue: number, size: number): Answer<M, void> {
    return this.#do(TVQ_COMMAND.VQ_SIZE_SET, { queue_index: queue, size }, NOTHING, queue);
  }

  /** VQ_SIZE_GET: the most that the device takes, after a reset (N-4.16), then what was set. */
  queueSize(queue: number): Answer<M, number> {
    return this.#do(TVQ_COMMAND.VQ_SIZE_GET, { queue_index: queue }, ({ size }) => size, queue);
  }

  /** VQ_NOTIFY_GET: where the queue's index is written to notify (N-4.17). */
  notifyArea(queue: number): Answer<M, NotifyArea> {
    const read = ({ address, size }: { address: bigint; size: bigint }) => ({ address, sizeBytes: size });
    return this.#do(TVQ_COMMAND.VQ_NOTIFY_GET, { queue_index: queue }, read, queue);
  }

  /** VQ_STATE_SET, of a queue that is disabled: where it goes on. @param size descriptors that it has or will have */
  setQueueState(queue: number, state: QueueState, size: number): Answer<M, void> {
    const checked = () => checkQueueState(state, queueSize(size));
    return state?.layout === "packed"
      ? this.#do(
        TVQ_PACKED_STATE.SET,
        () => ({ queue_index: queue, ...packedStateToTvq(checked() as PackedQueueState) }),
        NOTHING,
        queue,
      )
      : this.#do(
        TVQ_COMMAND.VQ_STATE_SET,
        () => ({ queue_index: queue, avail_index: (checked() as SplitQueueState).availableIndex }),
        NOTHING,
        queue,
      );
  }

  /**
   * VQ_STATE_GET: where the device stands in a queue. @param layout that was negotiated @param size descriptors that it has
   * @throws DeviceError for a state that cannot be
   */
  queueState(queue: number, layout: "split" | "packed", size: number): Answer<M, QueueState> {
    const checked = (state: unknown): QueueState => {
      try {
        return checkQueueState(state, size);
      } catch (error) {
        throw this.#error((error as Error).message, queue, "VQ_STATE_GET");
      }
    };
    const values = () => {
      queueSize(size);
      if (layout === "split" || layout === "packed") return { queue_index: queue };
      throw new UsageError(`queueState: layout ${shown(layout)}`, { hint: "split or packed" });
    };
    return layout === "split"
      ? this.#do(
        TVQ_COMMAND.VQ_STATE_GET,
        values,
        ({ avail_index }) => checked({ layout, availableIndex: avail_index }),
        queue,
      )
      : this.#do(TVQ_PACKED_STATE.GET, values, (fields) => checked(packedStateFromTvq(fields)), queue);
  }

  /** VQ_ASID_SET: the address space that all accesses of the queue use from now on (N-4.18); it is made if need be. @throws UnsupportedError where there is none but 0 */
  setQueueAsid(queue: number, asid: number): Answer<M, void> {
    return this.#do(
      TVQ_COMMAND.VQ_ASID_SET,
      () => {
        if (asid !== 0) this.#target.addressSpaces.addressSpace(asid);
        return { queue_index: queue, asid };
      },
      NOTHING,
      queue,
    );
  }

  /** VQ_RESET_DO, with RING_RESET negotiated: the queue is as after a reset of the device (N-4.19), its MSI disabled; success means that it is done. */
  resetQueue(queue: number): Answer<M, void> {
    return this.#do(
      TVQ_COMMAND.VQ_RESET_DO,
      { queue_index: queue },
      () => this.#msi.note(queue, null),
      queue,
    );
  }

  #do<O extends TvqFields, I extends TvqFields, T>(
    command: TvqCommand<O, I>,
    values: FieldValues<O> | (() => FieldValues<O>),
    read: (fields: FieldValues<I>, given: FieldValues<O>) => T,
    queue?: number,
  ): Answer<M, T> {
    return this.#target.send(() => {
      const layout = this.#target.layout();
      const given = typeof values === "function" ? values() : values;
      const into = command.in[layout];
      return {
        command: this.#command(
          command,
          this.#encode(command, command.out[layout], given),
          into.sizeBytes,
          queue,
        ),
        read: (data) => {
          this.#requireLength(command, data, into.sizeBytes, queue);
          return read(into.decode(data), given);
        },
      };
    });
  }

  /** @throws UsageError that names the device; also for a value that was not given, which the codec takes for 0 */
  #encode<F extends Fields>(
    { name }: Pick<TvqCommand, "name">,
    payload: Struct<F>,
    given: Values<F>,
    tail?: Uint8Array,
  ): Uint8Array {
    try {
      for (const field in given) {
        if (given[field] === undefined) throw new UsageError(`${field} is not given`);
      }
      return payload.encode(given, tail);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      throw new UsageError(`${this.#target.name}, ${name}: ${error.message}`, { cause: error });
    }
  }

  #command(
    { class: ofClass, command }: Pick<TvqCommand, "class" | "command">,
    out: Uint8Array,
    inBytes: number,
    queue?: number,
    detail?: string,
  ): ManagementCommand {
    return { class: ofClass, command, deviceId: this.#target.deviceId, out, inBytes, queue, detail };
  }

  #requireLength({ name }: Pick<TvqCommand, "name">, data: Uint8Array, bytes: number, queue?: number): void {
    if (data.length >= bytes) return;
    throw this.#error(`${data.length} bytes of in-data, ${bytes} belong there`, queue, name);
  }

  #error(message: string, queue: number | undefined, field: string): DeviceError {
    return new DeviceError(message, { function: this.#target.name, queue, field });
  }
}

/** What a caller without types may take for one: "off" is not false. @throws UsageError */
function flag(value: boolean, what: string): boolean {
  requireType(value, "boolean", what);
  return value;
}

function parts(message: Pick<MsiSettings, "address" | "data">, what: string) {
  requireType(message, "object", what, "address", "data");
  const { address, data } = message;
  return { address, data };
}

/** @throws UsageError */
function queueSize(size: number): number {
  if (Number.isInteger(size) && size >= 1 && size <= 0x8000) return size;
  throw new UsageError(`a queue of ${shown(size)} descriptors`, { hint: "1 to 32768" });
}

function range(offset: number, size: number): string {
  return `offset ${offset}, ${size} ${size === 1 ? "byte" : "bytes"}`;
}
