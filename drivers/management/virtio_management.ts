/**
 * Driver of a management device: it creates managed devices, and is the only way to them, by commands on its transport virtqueue (a draft that was never
 * merged into the standard; profile `transport-vq`).
 *
 * ```ts
 * import { VirtioManagement } from "@ringside/ringside/management";
 * import { VirtioRng } from "@ringside/ringside/drivers/virtio-rng";
 * import { DEVICE_ID, FEATURE, openTransport } from "@ringside/ringside/virtio";
 *
 * using transport = openTransport(device, { profile: "transport-vq" }); // of the management function
 * await using management = await VirtioManagement.open(transport, { function: device });
 * const { id } = await management.create({ type: DEVICE_ID.entropy, features: FEATURE.VERSION_1 });
 * using managed = management.openTransport(id);
 * await using rng = await VirtioRng.open(managed); // as on any other transport
 * console.log(await rng.read(16));
 * ```
 *
 * @module
 */
import { requireType, typedErrors } from "../../lib/errors/doors.ts";
import { NotFoundError, UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import { shown } from "../../lib/errors/shown.ts";
import type { AddressSpaces, DmaSpace } from "../../lib/memory/mod.ts";
import type { VfioDevice } from "../../lib/vfio/device.ts";
import { COMMAND_PARTS } from "../../lib/virtio/control/lane.ts";
import {
  createCall,
  destroyCall,
  type ManagedDeviceRequest,
  type ManagementResources,
  resourcesCall,
} from "../../lib/virtio/management/calls.ts";
import { saysNoDevice } from "../../lib/virtio/management/error.ts";
import type { ManagementCall } from "../../lib/virtio/management/managed_commands.ts";
import { ManagedDevice } from "../../lib/virtio/management/managed_device.ts";
import { FunctionMsi, type MsiAddresses } from "../../lib/vfio/msi_addresses.ts";
import { FunctionNotifyAreas, type NotifyAreas } from "../../lib/virtio/management/notify_areas.ts";
import type { ManagementCommand } from "../../lib/virtio/management/queued_command.ts";
import {
  MANAGEMENT_DEPTH,
  type ManagementCallOptions,
  managementDepth,
  ManagementQueue,
  type ManagementQueueOptions,
  type ManagementStatistics,
} from "../../lib/virtio/management/queue.ts";
import { DRAFT_FEATURE_BIT } from "../../lib/virtio/spec/features.ts";
import { MANAGEMENT_DEVICE, MANAGEMENT_QUEUE } from "../../lib/virtio/spec/transport_vq.ts";
import { ManagedTransport, type ManagedTransportOptions } from "../../lib/virtio/transport/managed.ts";
import type { VirtioTransport } from "../../lib/virtio/transport/transport.ts";
import { VirtioDriver } from "../driver.ts";
import { DriverLife, type DriverParts } from "../driver_life.ts";
import type { DriverOptions } from "../driver_options.ts";
import type { Session } from "../session.ts";

export type { ManagedDeviceRequest, ManagementResources } from "../../lib/virtio/management/calls.ts";
export {
  describeManagementCommand,
  ManagementCommandError,
  type ManagementCommandPlace,
  ManagementTimeoutError,
} from "../../lib/virtio/management/error.ts";
export type {
  Answer,
  CallMode,
  CommandTarget,
  ManagedCommands,
  ManagedQueueAreas,
  ManagementCall,
  NotifyArea,
} from "../../lib/virtio/management/managed_commands.ts";
export type { ManagedDevice, ManagedDeviceParts } from "../../lib/virtio/management/managed_device.ts";
export { FunctionMsi, type MsiAddresses, type MsiMessage } from "../../lib/vfio/msi_addresses.ts";
export type { MsiSettings } from "../../lib/virtio/management/msi_record.ts";
export { FunctionNotifyAreas, type NotifyAreas } from "../../lib/virtio/management/notify_areas.ts";
export type {
  ManagementCallOptions,
  ManagementQueue,
  ManagementQueueOptions,
  ManagementStatistics,
} from "../../lib/virtio/management/queue.ts";
export type { ManagementCommand } from "../../lib/virtio/management/queued_command.ts";
export type { CommandCounts } from "../../lib/virtio/control/engine.ts";
export { TVQ_CLASS, tvqCommandName } from "../../lib/virtio/spec/transport_vq.ts";
export {
  TVQ_ACK,
  TVQ_PADDED_HEADER,
  TVQ_TIGHT_HEADER,
  type TvqAckName,
  type TvqHeader,
  type TvqHeaderCodec,
} from "../../lib/virtio/spec/transport_vq_header.ts";
export type { TvqLayout } from "../../lib/virtio/spec/transport_vq_payloads.ts";
export type { ManagedTransportOptions } from "../../lib/virtio/transport/managed.ts";
export { moveManaged } from "../../lib/virtio/transport/move_managed.ts";
export type { VirtioDriver } from "../driver.ts";
export type { DriverOptions } from "../driver_options.ts";

/** How to open a management device. */
export interface VirtioManagementOptions extends ManagementQueueOptions, DriverOptions {
  /** The function that the transport reaches: managed devices are notified in its BARs, and their interrupts are vectors of it. It stays the caller's. */
  readonly function?: VfioDevice;
  /** Whose messages interrupts of managed devices are. Default: MSI-X vectors of `function`, where they can be had; else managed devices are polled. */
  readonly msi?: MsiAddresses;
  /** What makes doorbells of the addresses at which managed devices are notified. Default: BARs of `function`. */
  readonly notifyAreas?: NotifyAreas;
  /** Numbers of VIRTIO_F_TRANSPT_VQ and VIRTIO_F_TRANSPT_VQ_MDEV, which no stored text has. Default 44 and 45. */
  readonly featureBits?: { readonly vq: number; readonly mdev: number };
  /** Virtio device id of the management device: any type can be one. Default 63, which is provisional. */
  readonly deviceId?: number;
  /** Number of its transport virtqueue. Default 0. */
  readonly queue?: number;
}

/** Vectors of the management function that its own driver may use: config space, transport virtqueue. */
const OWN_VECTORS = 2;

interface ManagementParts extends DriverParts {
  readonly queue: ManagementQueue;
}

/**
 * An opened management device. Opening it resets it, which ends all managed devices that it had; so do `reset` and `close`.
 *
 * Errors of commands: `ManagementCommandError` (the device refuses), `ManagementTimeoutError`, `DeviceError` (an answer that cannot be; `reset()` brings the
 * device back), `UsageError`, `ClosedError`.
 */
export class VirtioManagement extends VirtioDriver implements AddressSpaces {
  static {
    typedErrors(this);
  }

  readonly #life: DriverLife<ManagementParts>;
  readonly #devices: Map<bigint, ManagedDevice>;
  readonly #transports = new Map<bigint, ManagedTransport>();
  readonly #function: VfioDevice | undefined;
  readonly #msi: MsiAddresses;
  readonly #notifyAreas: NotifyAreas;
  readonly #ownAreas: FunctionNotifyAreas | undefined;

  private constructor(
    life: DriverLife<ManagementParts>,
    devices: Map<bigint, ManagedDevice>,
    options: VirtioManagementOptions,
  ) {
    super(life);
    const { name } = life.transport;
    this.#life = life;
    this.#devices = devices;
    const { function: fn } = options;
    this.#function = fn;
    this.#msi = options.msi ?? (fn === undefined ? new NoFunction(name) : new FunctionMsi(fn, OWN_VECTORS));
    this.#ownAreas = fn && new FunctionNotifyAreas(fn);
    this.#notifyAreas = options.notifyAreas ?? this.#ownAreas ?? new NoFunction(name);
  }

  /**
   * Resets the device, negotiates its two features, sets its transport virtqueue up and starts it.
   * @throws UsageError (the transport was opened with another profile), UnsupportedError (no management device), DeviceError, TimeoutError, ExhaustedError,
   * SyscallError
   */
  static async open(
    transport: VirtioTransport,
    options: VirtioManagementOptions = {},
  ): Promise<VirtioManagement> {
    requireType(transport, "object", "VirtioManagement.open: transport", "name", "profile");
    requireType(options, "object", "VirtioManagement.open: options");
    if (transport.profile !== "transport-vq") {
      throw new UsageError(
        `${transport.name}: profile "${transport.profile}" gives no feature the meaning of a transport virtqueue`,
        { hint: 'open the transport with profile "transport-vq"' },
      );
    }
    const devices = new Map<bigint, ManagedDevice>();
    const kind = { what: "management device", deviceId: options.deviceId ?? MANAGEMENT_DEVICE.id };
    const life = new DriverLife(transport, kind, options, (session) => build(session, devices, options));
    return await life.open(new VirtioManagement(life, devices, options));
  }

  /** What is left to create devices of (AVAIL_RES_GET). */
  async resources(options?: ManagementCallOptions): Promise<ManagementResources> {
    return await this.#execute(resourcesCall(this.#queue.layout, this.#name), options);
  }

  /** As `resources`, in this thread. */
  resourcesNow(options?: ManagementCallOptions): ManagementResources {
    return this.#executeNow(resourcesCall(this.#queue.layout, this.#name), options);
  }

  /**
   * Creates a managed device (MDEV_CREATE). It lives until it is destroyed, or the management device is reset. One that was not answered in time may
   * exist all the same, without an id that anybody knows: only a reset ends it.
   */
  async create(request: ManagedDeviceRequest, options?: ManagementCallOptions): Promise<ManagedDevice> {
    return await this.#execute(this.#creation(request), options);
  }

  /** As `create`, in this thread. */
  createNow(request: ManagedDeviceRequest, options?: ManagementCallOptions): ManagedDevice {
    return this.#executeNow(this.#creation(request), options);
  }

  /**
   * Destroys a managed device (MDEV_DESTROY), also one that is in use: its transport counts as closed then, and calls of its driver and waits for it
   * end with `ClosedError`. One that the device does not have any more is as good: a DESTROY that was not answered in time may have been carried out.
   * @throws NotFoundError, and as all commands
   */
  async destroy(id: bigint, options?: ManagementCallOptions): Promise<void> {
    const device = this.device(id);
    try {
      await this.#execute(destroyCall(id), options);
    } catch (error) {
      if (!saysNoDevice(error)) throw error;
    }
    this.#ended(device);
  }

  /** As `destroy`, in this thread. */
  destroyNow(id: bigint, options?: ManagementCallOptions): void {
    const device = this.device(id);
    try {
      this.#executeNow(destroyCall(id), options);
    } catch (error) {
      if (!saysNoDevice(error)) throw error;
    }
    this.#ended(device);
  }

  /** The devices that were created, oldest first. */
  get devices(): ManagedDevice[] {
    return [...this.#devices.values()];
  }

  /** The device with this id. @throws NotFoundError */
  device(id: bigint): ManagedDevice {
    const device = this.#devices.get(id);
    if (device !== undefined) return device;
    throw new NotFoundError(`${this.#name} has no managed device ${shown(id)}`, {
      hint: "`devices` lists them; a reset of the management device ends all",
    });
  }

  /**
   * A transport for the driver of a managed device. Nothing is sent yet. Closing it resets the managed device. @throws NotFoundError, UsageError (it has
   * one that is open)
   */
  openTransport(id: bigint, options: ManagedTransportOptions = {}): VirtioTransport {
    const device = this.device(id);
    if (this.#transports.get(id)?.closed === false) {
      throw new UsageError(`${device.name} is driven by another transport`, { hint: "close that one first" });
    }
    const parts = {
      device,
      management: this.transport,
      addressSpaces: this,
      msi: this.#msi,
      notifyAreas: this.#notifyAreas,
    };
    const transport = new ManagedTransport(parts, options);
    this.#transports.set(id, transport);
    return transport;
  }

  /** Memory of an address space of `function` other than 0: managed devices reach it by queues that are put there. @throws UnsupportedError, UsageError */
  addressSpace(id: number): DmaSpace {
    if (this.#function?.addressSpace !== undefined) return this.#function.addressSpace(id);
    const what = this.#function === undefined
      ? "it is not known which function has them"
      : "the function has none";
    throw new UnsupportedError(`${this.#name}: no address space ${id} beside 0: ${what}`, {
      hint:
        "give `function` to VirtioManagement.open: one that is served with address spaces, or a cdev with PASIDs",
    });
  }

  /** A command made by hand. Nothing is checked but its frame, and nothing noted. @returns command-in-data, `inBytes` at most */
  async execute(
    command: ManagementCommand,
    options: ManagementCallOptions = {},
  ): Promise<Uint8Array<ArrayBuffer>> {
    return await this.#queue.execute(command, options);
  }

  /** As `execute`, in this thread. @param options `pump` is called while it spins */
  executeNow(
    command: ManagementCommand,
    options: ManagementCallOptions & { readonly pump?: () => void } = {},
  ): Uint8Array<ArrayBuffer> {
    return this.#queue.executeNow(command, options);
  }

  /** What became of commands since the device was opened or reset. */
  get statistics(): ManagementStatistics {
    return this.#queue.statistics();
  }

  /** As `VirtioDriver.close`. Managed devices are gone; transports and drivers of them are their owners' to close. */
  override close(): void {
    super.close();
    this.#ownAreas?.[Symbol.dispose]();
  }

  get #queue(): ManagementQueue {
    return this.#life.live.queue;
  }

  get #name(): string {
    return this.transport.name;
  }

  async #execute<T>({ command, read }: ManagementCall<T>, options?: ManagementCallOptions): Promise<T> {
    return read(await this.#queue.execute(command, options));
  }

  #executeNow<T>({ command, read }: ManagementCall<T>, options?: ManagementCallOptions): T {
    return read(this.#queue.executeNow(command, options));
  }

  /** A device is noted as its id is read: the next answer may be read before whoever awaits this one goes on. */
  #creation(request: ManagedDeviceRequest): ManagementCall<ManagedDevice> {
    requireType(request, "object", "create: request", "type", "features");
    const parts = this.#life.live;
    const { type } = request;
    const { command, read } = createCall(
      parts.queue.layout,
      request,
      this.#name,
      (id) => this.#devices.has(id),
    );
    return {
      command,
      read: (data) => {
        const id = read(data);
        const device = new ManagedDevice({
          function: this.#name,
          id,
          type,
          queue: () => this.#queue,
          addressSpaces: this,
        });
        // A reset that came between answer and here has ended it.
        if (this.#life.isLive(parts)) this.#devices.set(id, device);
        else device.end();
        return device;
      },
    };
  }

  #ended(device: ManagedDevice): void {
    device.end();
    // Another device may have the id by now, and be driven.
    if (this.#devices.get(device.id) !== device) return;
    this.#devices.delete(device.id);
    this.#transports.delete(device.id);
  }
}

function build(
  session: Session,
  devices: Map<bigint, ManagedDevice>,
  options: VirtioManagementOptions,
): ManagementParts {
  const { device } = session;
  const { queue: index = MANAGEMENT_QUEUE.transport } = options;
  const { vq = DRAFT_FEATURE_BIT.TRANSPT_VQ, mdev = DRAFT_FEATURE_BIT.TRANSPT_VQ_MDEV } =
    options.featureBits ?? {};
  const bits = featureMask(vq) | featureMask(mdev);
  if (vq === mdev) throw new UsageError(`featureBits: ${vq} is both of them`);
  // N-4.1: never one without the other.
  session.negotiate({ required: bits });
  session.listen([index]);
  const depth = managementDepth(options.depth ?? MANAGEMENT_DEPTH);
  const queue = session.own(
    new ManagementQueue(session.site, session.queue(index, COMMAND_PARTS * depth, COMMAND_PARTS), options),
  );
  const end = () => {
    for (const managed of devices.values()) managed.end();
    devices.clear();
  };
  // That resets the device, too.
  const forget = device.transport.onClose?.(end);
  if (forget !== undefined) session.own({ [Symbol.dispose]: forget });
  device.driverOk();
  return { queue, configChanged: () => device.checkAlive(), end };
}

function featureMask(bit: number): bigint {
  if (Number.isInteger(bit) && bit >= 0 && bit <= 63) return 1n << BigInt(bit);
  throw new UsageError(`featureBits: ${shown(bit)}`, { hint: "0 to 63" });
}

/** What there is of interrupts and notify addresses where nobody said which function the transport reaches. */
class NoFunction implements MsiAddresses, NotifyAreas {
  readonly available = 0;
  readonly lack: string;

  constructor(name: string) {
    this.lack =
      `${name}: interrupts and notify addresses of managed devices are in a function that was not given`;
  }

  allot(): never {
    throw this.#error();
  }

  doorbell(): never {
    throw this.#error();
  }

  #error(): UnsupportedError {
    return new UnsupportedError(this.lack, {
      hint: "give `function` to VirtioManagement.open, or `msi` and `notifyAreas`",
    });
  }
}
