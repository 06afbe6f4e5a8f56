/**
 * The record of a kind of device that an emulated host can have: all that nobody else knows of it.
 *
 * @module
 */
import type { DeviceType } from "../virtio/spec/device_type.ts";
import type { DeviceModel } from "./device_model.ts";
import type { TopologyKind } from "./topology_kind.ts";
import type { LieFamily, LieSwitch } from "./virtio/lies/lie.ts";

/** What any model can be made with. */
export interface ModelOptions {
  /** Entries of each queue. */
  readonly queueSize?: number | undefined;
  /** Bits not to offer. */
  readonly featuresOff?: bigint;
  /** One of the kind's own lies, with its numbers. */
  readonly lie?: string | undefined;
  /** Whether that lie is told; absent: always. */
  readonly told?: LieSwitch | undefined;
  /** Directory of the machine's sockets. */
  readonly directory?: string | undefined;
}

/** Whose model it is. */
export interface ModelPlace extends ModelOptions {
  /** PCI address of the function. */
  readonly address: string;
  /** Set for a VF: 0 for the first. Its own fields are those of its PF. */
  readonly vfIndex?: number | undefined;
}

/** What a management device shall make. */
export interface ManagedWish {
  /** Virtio device id. */
  readonly type: number;
  /** Features of the device type that it shall offer. */
  readonly features: bigint;
  /** What its configuration shall be, longer than any type's: zeros where nothing was given. */
  readonly config: Uint8Array;
  /** Virtqueues that it shall have where its configuration does not say how many. */
  readonly queues: number;
  /** Its id. */
  readonly id: bigint;
  /** PCI address of its management function. */
  readonly management: string;
  /** Embedded switch of network devices. Default: theirs. */
  readonly switch?: string | undefined;
}

/** The models of one machine, for a device that carries others. */
export interface MachineModels {
  /** A model that touches nothing shared before `connect`; undefined for a type that cannot be managed. @throws UsageError for a configuration that cannot be */
  managed(wish: ManagedWish, place: ModelPlace): DeviceModel | undefined;
}

/** The devices of one kind in one machine: what they share. */
export interface KindDevices<Own extends object> {
  /** A model that touches nothing shared before `connect`. @throws UsageError for fields that cannot be */
  model(own: Own, place: ModelPlace): DeviceModel;
  /** What `/ringside/<name>` says: objects, of which each becomes a line of JSON. */
  readonly reports?: Readonly<Record<string, () => readonly object[]>>;
}

/** A kind of device. `Own` are its own fields in a topology. */
export interface DeviceKind<Own extends object = object, Devices extends KindDevices<Own> = KindDevices<Own>>
  extends TopologyKind<Own> {
  /** What the standard says of it. */
  readonly type: DeviceType;
  /** Lies that its model tells. */
  readonly lies?: LieFamily<string>;
  /** Its own fields as a managed device. Absent: there is none of this kind. @throws UsageError for a configuration that cannot be */
  managed?(wish: ManagedWish): Own;
  /** Begins a machine. @param models of all of its kinds, once it has begun */
  devices(models: MachineModels): Devices;
}
