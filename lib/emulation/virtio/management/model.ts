/**
 * A management device: makes managed devices, and is their only transport (virtio-comment, "Introduce the commands set of the transport vq",
 * August 2022; reference 4).
 *
 * @module
 */
import type { OwnedFd } from "../../../../ffi/mod.ts";
import { RingsideError, UsageError } from "../../../errors/mod.ts";
import { DmaTable } from "../../../sockets/dma_table.ts";
import { DRAFT_FEATURE_BIT, FEATURE } from "../../../virtio/spec/features.ts";
import { deviceTypeName } from "../../../virtio/spec/device_types.ts";
import {
  MANAGEMENT_DEVICE,
  MANAGEMENT_QUEUE,
  TVQ_COMMAND,
  tvqCommandName,
} from "../../../virtio/spec/transport_vq.ts";
import type { TvqHeader } from "../../../virtio/spec/transport_vq_header.ts";
import type { MachineModels, ModelPlace } from "../../device_kind.ts";
import type { DeviceCore, DeviceModel, ModelNotifyArea, Violation } from "../../device_model.ts";
import { FunctionTurns } from "../../function_turns.ts";
import { parseLie } from "../lies/lie.ts";
import { LyingCommandServer, MANAGEMENT_FAMILY } from "../lies/management.ts";
import { DONE, on, Refusal, type TvqHandler } from "./command.ts";
import { type CommandFormat, type CommandOwner, CommandServer } from "./command_server.ts";
import { ManagedDevice, managedName, type Management } from "./managed_device.ts";
import { deliverMsi } from "../msi/deliver.ts";
import type { MsiMessage } from "../msi/entry.ts";
import { NotifyArea, PLACE_BYTES } from "./notify_area.ts";
import { type ManagementLimits, ManagementResources } from "./resources.ts";

const QUEUE_SIZE = 128;
/** Bytes of `dev_config` that a kind is given: zeros where the command ended before. */
const CONFIG_BYTES = 256;
const ALL_FEATURES = 2n ** 64n - 1n;
/** Feature bits that are the device type's own: 0 to 23, 50 to 63. */
const DEVICE_TYPE_BITS = 2n ** 24n - 1n | ALL_FEATURES & ~(2n ** 50n - 1n);
/** What means something on PCI only. A managed device never offers it, whatever is asked for. */
const PCI_ONLY = FEATURE.SR_IOV | FEATURE.NOTIF_CONFIG_DATA | FEATURE.ADMIN_VQ;

/** What a management device is made from. */
export interface ManagementOptions extends ManagementLimits, CommandFormat {
  /** MSI-X vectors that messages of managed devices can lead to, beside the function's own two. */
  readonly vectors: number;
  /** Bit of VIRTIO_F_TRANSPT_VQ. Default 44. */
  readonly transportBit?: number;
  /** Bit of VIRTIO_F_TRANSPT_VQ_MDEV. Default 45. */
  readonly managedBit?: number;
  /** Address spaces beside the function's own. */
  readonly addressSpaces: number;
  /** Embedded switch that its network devices are ports of. */
  readonly switch?: string;
}

/** The device. */
export class ManagementModel implements DeviceModel, Management, CommandOwner {
  readonly deviceId: number = MANAGEMENT_DEVICE.id;
  /** System peripheral, other. */
  readonly classCode = 0x088000;
  readonly configSizeBytes = 0;
  readonly features: bigint;
  readonly queueSizes: readonly number[];
  readonly extraVectors: number;
  readonly addressSpaces: readonly DmaTable[];
  /** What it has to give. */
  readonly resources: ManagementResources;
  /** Its devices, by their ids. */
  readonly devices: ReadonlyMap<bigint, ManagedDevice>;
  readonly #devices = new Map<bigint, ManagedDevice>();
  readonly #options: ManagementOptions;
  readonly #models: MachineModels;
  readonly #transport: bigint;
  readonly #managed: bigint;
  readonly #commands: CommandServer;
  readonly #notify: NotifyArea;
  readonly #nothing = new DmaTable();
  /** What fails here fails for the function, which knows what to do. */
  readonly #turns = new FunctionTurns((_, error) => {
    throw error;
  });
  #core: DeviceCore | null = null;
  /** ids are not used again, not even after a reset. */
  #nextId = 1n;

  /** Without devices. @param models where they come from */
  constructor(
    options: ManagementOptions,
    models: MachineModels,
    { queueSize = QUEUE_SIZE, lie, told }: Partial<ModelPlace> = {},
  ) {
    const { TRANSPT_VQ, TRANSPT_VQ_MDEV } = DRAFT_FEATURE_BIT;
    this.#options = options;
    this.#models = models;
    this.#transport = 1n << BigInt(options.transportBit ?? TRANSPT_VQ);
    this.#managed = 1n << BigInt(options.managedBit ?? TRANSPT_VQ_MDEV);
    this.features = this.#transport | this.#managed;
    this.queueSizes = [queueSize];
    this.extraVectors = options.vectors;
    this.addressSpaces = Array.from({ length: options.addressSpaces }, () => new DmaTable());
    this.resources = new ManagementResources(options);
    this.devices = this.#devices;
    this.#notify = new NotifyArea(options.virtqueues, (message) => this.#core?.report("N-4.17", message));
    this.#commands = lie === undefined
      ? new CommandServer(options, queueSize, this)
      : new LyingCommandServer(options, queueSize, this, parseLie(lie, MANAGEMENT_FAMILY, told));
  }

  /** N-4.1. */
  checkFeatures(accepted: bigint): string | undefined {
    const alone = (accepted & this.#managed) !== 0n && (accepted & this.#transport) === 0n;
    return alone ? "VIRTIO_F_TRANSPT_VQ_MDEV needs VIRTIO_F_TRANSPT_VQ" : undefined;
  }

  // ---- life ----

  /** Takes its place; called once. */
  connect(core: DeviceCore): void {
    this.#core = core;
  }

  /** Lets go of everything; may be called again. */
  close(): void {
    this.reset();
    this.#core = null;
  }

  /** its devices go with it. */
  reset(): void {
    for (const device of [...this.#devices.values()]) this.#remove(device);
  }

  /** All its devices look for what came meanwhile. */
  resumed(): void {
    for (const device of this.#devices.values()) this.touched(device);
  }

  /** Carries commands out, and lets every device with work do some: the budget is the transport virtqueue's, and each device's own. */
  poll(budget: number): number {
    const queue = this.#core?.queue(MANAGEMENT_QUEUE.transport);
    const commands = queue === undefined ? 0 : this.#commands.serve(queue, budget);
    this.#turns.wakeDue();
    return commands + this.#turns.poll();
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    const commands = this.#core?.queue(MANAGEMENT_QUEUE.transport)?.arm() ?? false;
    return commands || this.#turns.anyAwake;
  }

  /** How long to sleep at most; undefined: until something rings. */
  get wakeAfterMs(): number | undefined {
    const leftMs = this.#turns.untilDueMs(performance.now());
    return leftMs === Infinity ? undefined : leftMs;
  }

  get notifyArea(): ModelNotifyArea {
    return this.#notify;
  }

  // ---- Management ----

  get name(): string {
    return this.#core?.name ?? "management device without a function";
  }

  get live(): boolean {
    return this.#core?.live ?? false;
  }

  space(asid: number): DmaTable | null {
    return asid === 0 ? this.#core?.dma ?? null : this.addressSpaces[asid - 1] ?? this.#nothing;
  }

  send(message: MsiMessage, device: ManagedDevice): void {
    const core = this.#core;
    if (core === null || !core.live) return;
    const raise = (vector: number) => void core.raiseVector(vector);
    const wrong = deliverMsi(message, { vectors: core.vectors, raise, dma: core.dma }, "N-4.12");
    if (wrong !== undefined) this.report(wrong.rule, wrong.problem, { function: device.name });
  }

  touched(device: ManagedDevice): void {
    this.#turns.touched(device);
    this.#core?.wake?.();
  }

  notifyAddress(place: number): bigint | undefined {
    const first = this.#core?.notifyAddress;
    return first === undefined ? undefined : first + BigInt(PLACE_BYTES * place);
  }

  report(rule: string, message: string, of: Pick<Violation, "function" | "queue">): void {
    this.#core?.report(rule, message, of.queue, of.function);
  }

  get watch(): ((fd: OwnedFd, handler: () => void) => void) | undefined {
    return this.#core?.watch;
  }

  get unwatch(): ((fd: OwnedFd) => void) | undefined {
    return this.#core?.unwatch;
  }

  // ---- CommandOwner ----

  /** Both bits were negotiated: its commands mean something. */
  get ready(): boolean {
    return ((this.#core?.negotiatedFeatures ?? 0n) & this.features) === this.features;
  }

  device(id: bigint): ManagedDevice | undefined {
    return this.#devices.get(id);
  }

  readonly ownCommands: readonly TvqHandler<void>[] = [
    on(TVQ_COMMAND.AVAIL_RES_GET, () => this.resources.available),
    on(TVQ_COMMAND.MDEV_CREATE, (_, { values: { virtio_device_id, device_features }, tail }) => {
      const made = this.#create(virtio_device_id, device_features, tail);
      return made instanceof Refusal ? made : { device_id: made.id };
    }),
  ];

  readonly managedCommands: readonly TvqHandler<ManagedDevice>[] = [
    // it is reset first.
    on(TVQ_COMMAND.MDEV_DESTROY, (device) => {
      this.#remove(device);
      return DONE;
    }),
  ];

  refused({ rule, message }: Refusal, header: TvqHeader | undefined): void {
    if (rule === undefined) return;
    if (header === undefined) return this.#core?.report(rule, message, MANAGEMENT_QUEUE.transport);
    const { deviceId, class: ofClass, command } = header;
    const of = this.#devices.get(deviceId)?.name;
    const whom = of === undefined ? ` of device ${deviceId}` : "";
    const text = `${tvqCommandName(ofClass, command)}${whom}: ${message}`;
    this.#core?.report(rule, text, of === undefined ? MANAGEMENT_QUEUE.transport : undefined, of);
  }

  /** A device that nothing is wrong with, or nothing at all. */
  #create(type: number, asked: bigint, config: Uint8Array): ManagedDevice | Refusal {
    const core = this.#core!;
    // the transport's own bits mean nothing to a managed device.
    const features = asked & ~this.features & ~PCI_ONLY;
    const ofType = features & DEVICE_TYPE_BITS;
    const alien = features & ~ofType & ~core.offered;
    if (alien !== 0n) return exceeds(alien, "the management device does not offer them");
    if ((features & FEATURE.VERSION_1) === 0n) {
      return new Refusal("FEATURES", "N-4.3", "without VERSION_1 there is no driver that can reach it");
    }
    const featuresOff = ALL_FEATURES & ~features;
    const id = this.#nextId;
    const model = this.#model(type, ofType, featuresOff, id, config);
    if (model instanceof Refusal) return model;
    const beyond = ofType & ~model.features;
    if (beyond !== 0n) {
      return exceeds(beyond, `a ${deviceTypeName(type)} with this configuration does not offer them`);
    }
    const share = this.resources.take(model.queueSizes.length);
    if (share === undefined) return new Refusal("RESOURCES", undefined, "no virtqueues or devices are left");
    const notificationData = (features & FEATURE.NOTIFICATION_DATA) !== 0n;
    const device = new ManagedDevice(id, model, share, this, {
      profile: "transport-vq",
      featuresOff,
      notificationData,
    });
    try {
      device.core.connect();
    } catch (error) {
      device.core.close();
      this.resources.giveBack(share);
      if (!(error instanceof RingsideError)) throw error;
      return new Refusal("RESOURCES", "management", error.message);
    }
    this.#nextId++;
    this.#devices.set(id, device);
    this.#notify.hold(device);
    this.#turns.came(device);
    return device;
  }

  #model(
    type: number,
    features: bigint,
    featuresOff: bigint,
    id: bigint,
    given: Uint8Array,
  ): DeviceModel | Refusal {
    const config = new Uint8Array(CONFIG_BYTES);
    config.set(given.subarray(0, CONFIG_BYTES));
    const { minQueues: queues } = this.resources.limits;
    const wanted = {
      type,
      features,
      config,
      queues,
      id,
      management: this.name,
      switch: this.#options.switch,
    };
    try {
      const model = this.#models.managed(wanted, { address: managedName(this.name, id), featuresOff });
      if (model !== undefined) return model;
      return new Refusal(
        "DEVICE_TYPE",
        "A-4.14",
        `a ${deviceTypeName(type)} cannot be a managed device here`,
      );
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      return new Refusal("CONFIG", "A-4.16", error.message);
    }
  }

  #remove(device: ManagedDevice): void {
    this.#devices.delete(device.id);
    this.#turns.left(device);
    this.#notify.release(device);
    this.resources.giveBack(device.share);
    device.core.close();
  }
}

function exceeds(features: bigint, why: string): Refusal {
  return new Refusal("FEATURES", "N-4.3", `features 0x${features.toString(16)}: ${why}`);
}
