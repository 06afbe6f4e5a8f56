/**
 * What a command of a transport virtqueue can come back with, as typed errors (reference 4.2). The draft knows success and failure only; where a device
 * says more (`TVQ_ACK`), the error does, too.
 *
 * @module
 */
import { requireType } from "../../errors/doors.ts";
import { DeviceError, TimeoutError } from "../../errors/mod.ts";
import { shown } from "../../errors/shown.ts";
import { tvqCommand, tvqCommandName } from "../spec/transport_vq.ts";
import { TVQ_ACK, type TvqAckName, tvqAckName } from "../spec/transport_vq_header.ts";

/** A command, for messages. */
export interface ManagementCommandPlace {
  /** PCI address or path of the management function. */
  readonly function: string;
  /** 0: the management device itself. */
  readonly deviceId: bigint;
  /** Class. */
  readonly class: number;
  /** Number in its class. */
  readonly command: number;
  /** Virtqueue of the managed device that it is about. */
  readonly queue?: number | undefined;
  /** What it was about besides, such as `offset 6, 2 bytes`. */
  readonly detail?: string | undefined;
}

/** `VQ_SIZE_SET of device 3 (queue 1)`. */
export function describeManagementCommand(place: Omit<ManagementCommandPlace, "function">): string {
  requireType(place, "object", "describeManagementCommand: place", "deviceId", "class", "command");
  const { deviceId, queue, detail } = place;
  requireType(detail ?? "", "string", "describeManagementCommand: place.detail");
  const device = deviceId === 0n ? "" : ` of device ${shown(deviceId)}`;
  const about = [queue === undefined ? undefined : `queue ${shown(queue)}`, detail].filter((one) =>
    one !== undefined
  );
  return tvqCommandName(place.class, place.command) + device +
    (about.length === 0 ? "" : ` (${about.join(", ")})`);
}

/** The device answered a command with an ack other than OK. `location` names function, queue of the managed device, and field as far as the ack says it. */
export class ManagementCommandError extends DeviceError {
  /** Name of the class. */
  override name = "ManagementCommandError";
  /** Class of the command. */
  readonly class: number;
  /** Number in its class. */
  readonly command: number;
  /** `VQ_SIZE_SET`. */
  readonly commandName: string;
  /** 0: the management device itself. */
  readonly deviceId: bigint;
  /** As received: 1 to 255. */
  readonly ack: number;
  /** What it means: ERR for a code that is not known. */
  readonly ackName: TvqAckName;

  /** Takes an ack other than OK. */
  constructor(place: ManagementCommandPlace, ack: number) {
    const known = tvqAckName(ack);
    const what = describeManagementCommand(place), name = tvqCommandName(place.class, place.command);
    const { field, hint } = REASONS_OF[name]?.[known ?? "ERR"] ?? REASONS[known ?? "ERR"] ?? REASONS.ERR!;
    super(
      `${what}: ${known ?? `${shown(ack)} (a code of the device's own, taken as ERR)`}`,
      {
        function: place.function,
        queue: place.queue,
        field: field === "" ? lastField(place) : field,
      },
      { hint },
    );
    this.class = place.class;
    this.command = place.command;
    this.commandName = name;
    this.deviceId = place.deviceId;
    this.ack = ack;
    this.ackName = known ?? "ERR";
  }

  /** Queue of the managed device; undefined for a command that is about none. */
  get queue(): number | undefined {
    return this.location.queue;
  }

  /** Field of the command that the device is not content with; `ack` when it does not say. */
  get field(): string {
    return this.location.field!;
  }
}

/** A command was not answered in time, or could not be sent in time. */
export class ManagementTimeoutError extends TimeoutError {
  /** Name of the class. */
  override name = "ManagementTimeoutError";
  /** Class of the command. */
  readonly class: number;
  /** Number in its class. */
  readonly command: number;
  /** 0: the management device itself. */
  readonly deviceId: bigint;
  /** The device has it. */
  readonly sent: boolean;

  /** Says what was waited for. @param why ends the sentence, such as `was not answered in 5000 ms` */
  constructor(place: ManagementCommandPlace, sent: boolean, why: string, hint: string) {
    super(`${place.function}: ${describeManagementCommand(place)} ${why}`, { hint });
    this.class = place.class;
    this.command = place.command;
    this.deviceId = place.deviceId;
    this.sent = sent;
  }
}

/** Field that an ack is about; empty: the value, which is the last field of the command. And what to do. */
type Reasons = Readonly<Partial<Record<TvqAckName, { readonly field: string; readonly hint: string }>>>;

const REASONS: Reasons = {
  COMMAND: { field: "class", hint: "the device has no such command" },
  DEVICE_ID: {
    field: "device_id",
    hint: "AVAIL_RES_GET and MDEV_CREATE are for device 0, all else for a managed device (N-4.2, N-4.5)",
  },
  NO_DEVICE: {
    field: "device_id",
    hint: "it was destroyed, or never created; ids are not used again (A-4.33)",
  },
  QUEUE_INDEX: { field: "queue_index", hint: "the device has fewer queues (N-4.13, A-4.30)" },
  OUT_DATA: { field: "command-out-data", hint: "the device has another layout: open it with `layout`" },
  IN_DATA: { field: "command-in-data", hint: "the device has another layout: open it with `layout`" },
  FEATURES: { field: "", hint: "accept or ask for no more than is offered (N-4.3, A-4.14)" },
  CONFIG: { field: "", hint: "offset and size lie in the config space (N-4.10)" },
  VALUE: { field: "", hint: "the device does not take this value" },
  STATE: {
    field: "",
    hint: "not now: queues are set up while disabled, features accepted before FEATURES_OK (A-4.30, A-4.36)",
  },
  RESOURCES: { field: "num_avail_vqs", hint: "destroy a device first; AVAIL_RES_GET says what is left" },
  DEVICE_TYPE: { field: "virtio_device_id", hint: "the device cannot create this type" },
  NOT_NEGOTIATED: { field: "", hint: "the command needs a feature that the driver did not negotiate" },
  ERR: { field: "ack", hint: "the device does not say why: nothing was changed" },
};

/** Where a command means something of its own. */
const REASONS_OF: Readonly<Record<string, Reasons>> = {
  MDEV_CREATE: {
    FEATURES: {
      field: "device_features",
      hint:
        "ask for no more than is offered, and for VIRTIO_F_VERSION_1 (N-4.3, A-4.14); or the device has another layout: open it with `layout`",
    },
    CONFIG: { field: "dev_config", hint: "no device of this type can have this config space (A-4.16)" },
    NOT_NEGOTIATED: {
      field: "class",
      hint: "VIRTIO_F_TRANSPT_VQ_MDEV is not in force: look at `featureBits`",
    },
  },
  CONFIG_SET: { STATE: { field: "", hint: "the config space is written after FEATURES_OK" } },
};

function lastField(place: ManagementCommandPlace): string {
  const command = tvqCommand(place.class, place.command);
  return Object.keys(command?.out.packed.fields ?? {}).at(-1) ?? "ack";
}

/** The device has no such queue: as far as its ack says, or does not say anything else. */
export function saysNoQueue(error: unknown): boolean {
  return error instanceof ManagementCommandError &&
    (error.ack === TVQ_ACK.QUEUE_INDEX || error.ackName === "ERR");
}

/** The device has no such managed device (any more). */
export function saysNoDevice(error: unknown): boolean {
  return error instanceof ManagementCommandError && error.ack === TVQ_ACK.NO_DEVICE;
}
