/**
 * The record of a kind of device that an emulated host can have: all that nobody else knows of it.
 *
 * @module
 */
import type { DeviceType } from "../virtio/spec/device_type.ts";
import type { DeviceModel } from "./device_model.ts";
import type { TopologyKind } from "./topology_kind.ts";
import type { LieFamily } from "./virtio/lies/lie.ts";

/** What any model can be made with. */
export interface ModelOptions {
  /** Entries of each queue. */
  readonly queueSize?: number | undefined;
  /** Bits not to offer. */
  readonly featuresOff?: bigint;
  /** One of the kind's own lies, with its numbers. */
  readonly lie?: string | undefined;
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
  /** Begins a machine. */
  devices(): Devices;
}
