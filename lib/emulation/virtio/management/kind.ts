/**
 * Management devices in an emulated host.
 *
 * @module
 */
import * as v from "valibot";
import { MANAGEMENT_DEVICE } from "../../../virtio/spec/transport_vq.ts";
import { LIMIT } from "../../../sockets/vfio_user/protocol.ts";
import { DRAFT_FEATURE_BIT } from "../../../virtio/spec/features.ts";
import { TVQ_PADDED_HEADER, TVQ_TIGHT_HEADER } from "../../../virtio/spec/transport_vq_header.ts";
import type { FunctionQueues } from "../../../virtio/view/queue_view.ts";
import type { DeviceKind, KindDevices, MachineModels, ModelPlace } from "../../device_kind.ts";
import { oneOf, text, TopologyError, whole } from "../../topology_fields.ts";
import { MANAGEMENT_FAMILY } from "../lies/management.ts";
import type { ManagedDevice } from "./managed_device.ts";
import { ManagementModel } from "./model.ts";

const HEADERS = { padded: TVQ_PADDED_HEADER, tight: TVQ_TIGHT_HEADER };
const VIRTQUEUES = 64;
const ADDRESS_SPACES = 16;
/** Most virtqueues of a device, where a topology does not say and there are so many. */
const MAX_QUEUES = 16;
/** MSI-X has as many; two of them are the function's own. */
const VECTORS_MAX = 2048 - 2;
/** Bits of which the standard says nothing, or leaves them to device types of which there is none here; never 40 and 41. */
const [BIT_MIN, BIT_MAX] = [44, 63] as const;

/** Own fields of a management function. */
export interface ManagementFields {
  /** Virtqueues of all managed devices together. Default 64. */
  readonly virtqueues?: number | undefined;
  /** Least virtqueues that a device takes. Default 1. */
  readonly minQueues?: number | undefined;
  /** Most virtqueues of one device. Default 16, or all. */
  readonly maxQueues?: number | undefined;
  /** Most devices at a time. Default: as many as the virtqueues are enough for. */
  readonly devices?: number | undefined;
  /** MSI-X vectors for managed devices. Default: one a virtqueue and one a device, as far as MSI-X has them. */
  readonly vectors?: number | undefined;
  /** Address spaces for queues of managed devices, beside the function's own. Default 16. */
  readonly addressSpaces?: number | undefined;
  /** Embedded switch of its network devices. Default: theirs. */
  readonly switch?: string | undefined;
  /** How payloads lie in commands. Default `aligned`. */
  readonly layout?: "aligned" | "packed" | undefined;
  /** How a command begins (reference 4.2). Default `padded`. */
  readonly header?: "padded" | "tight" | undefined;
  /** Bit of VIRTIO_F_TRANSPT_VQ. Default 44. */
  readonly transportBit?: number | undefined;
  /** Bit of VIRTIO_F_TRANSPT_VQ_MDEV. Default 45. */
  readonly managedBit?: number | undefined;
}

/** A managed device, for `/ringside/managed`. */
export interface ManagedDeviceState {
  /** PCI address of its management function. */
  readonly function: string;
  /** Its id, in decimal: it has 64 bits. */
  readonly id: string;
  /** Virtio device id. */
  readonly deviceId: number;
  /** `device_status`. */
  readonly status: number;
  /** Features in force, in hexadecimal. */
  readonly features: string;
  /** Its virtqueues. */
  readonly queues: number;
  /** Those that are enabled. */
  readonly enabled: number;
}

/** The management devices of a machine. */
export class ManagementDevices implements KindDevices<ManagementFields> {
  /** `/ringside/managed` and `/ringside/managed-queues`: all managed devices, and their queues. */
  readonly reports = {
    "managed": (): ManagedDeviceState[] =>
      this.#made.flatMap((model) => [...model.devices.values()].map((one) => stateOf(model, one))),
    "managed-queues": (): FunctionQueues[] =>
      this.#made.flatMap((model) => [...model.devices.values()].map(({ core }) => core.queueReport())),
  };
  readonly #models: MachineModels;
  readonly #made: ManagementModel[] = [];

  /** None yet. */
  constructor(models: MachineModels) {
    this.#models = models;
  }

  /** See `KindDevices`. */
  model(own: ManagementFields, place: ModelPlace): ManagementModel {
    const { header, switch: name } = own;
    const limits = limitsOf(own);
    const vectors = Math.min(own.vectors ?? limits.virtqueues + limits.devices, VECTORS_MAX);
    const options = {
      ...limits,
      ...bitsOf(own),
      vectors,
      addressSpaces: own.addressSpaces ?? ADDRESS_SPACES,
      layout: own.layout,
      header: header && HEADERS[header],
    };
    const model = new ManagementModel(
      { ...options, ...(name !== undefined && { switch: name }) },
      this.#models,
      place,
    );
    this.#made.push(model);
    return model;
  }

  /** The management device of a function; undefined when it has none. */
  at(address: string): ManagementModel | undefined {
    return this.#made.find(({ name }) => name === address);
  }
}

function stateOf({ name }: ManagementModel, { id, core }: ManagedDevice): ManagedDeviceState {
  return {
    function: name,
    id: `${id}`,
    deviceId: core.model.deviceId,
    status: core.status,
    features: `0x${core.negotiatedFeatures.toString(16)}`,
    queues: core.queues.length,
    enabled: core.queues.filter(({ enabled }) => enabled).length,
  };
}

function bitsOf({ transportBit, managedBit }: ManagementFields) {
  const { TRANSPT_VQ, TRANSPT_VQ_MDEV } = DRAFT_FEATURE_BIT;
  return { transportBit: transportBit ?? TRANSPT_VQ, managedBit: managedBit ?? TRANSPT_VQ_MDEV };
}

function limitsOf({ virtqueues = VIRTQUEUES, minQueues = 1, ...own }: ManagementFields) {
  const { maxQueues = Math.max(minQueues, Math.min(virtqueues, MAX_QUEUES)) } = own;
  const { devices = Math.floor(virtqueues / minQueues) } = own;
  return { virtqueues, minQueues, maxQueues, devices };
}

/** Its record. */
export const MANAGEMENT_KIND: DeviceKind<ManagementFields, ManagementDevices> = {
  name: "virtio-management",
  type: MANAGEMENT_DEVICE,
  profile: "transport-vq",
  pciOnly: "its managed devices are notified in a BAR, and interrupt by its vectors",
  fields: {
    virtqueues: v.optional(whole(1, 0xffff)),
    minQueues: v.optional(whole(1, 0xffff)),
    maxQueues: v.optional(whole(1, 0xffff)),
    devices: v.optional(whole(1, 0xffff)),
    vectors: v.optional(whole(0, VECTORS_MAX)),
    addressSpaces: v.optional(whole(0, LIMIT.addressSpaces)),
    switch: v.optional(text(/^[A-Za-z0-9_.-]{1,32}$/, "a switch name", "1 to 32 letters, digits, _ . or -")),
    layout: v.optional(oneOf(["aligned", "packed"], "a layout")),
    header: v.optional(oneOf(["padded", "tight"], "a header")),
    transportBit: v.optional(whole(BIT_MIN, BIT_MAX)),
    managedBit: v.optional(whole(BIT_MIN, BIT_MAX)),
  },
  lies: MANAGEMENT_FAMILY,
  check(own, { at, totalVfs }) {
    const { virtqueues, minQueues, maxQueues } = limitsOf(own);
    const { transportBit, managedBit } = bitsOf(own);
    if (minQueues > maxQueues) {
      throw new TopologyError(
        `${at}.minQueues`,
        `${minQueues} is more than maxQueues, which is ${maxQueues}`,
      );
    }
    if (maxQueues > virtqueues) {
      throw new TopologyError(
        `${at}.maxQueues`,
        `${maxQueues} is more than the ${virtqueues} virtqueues that there are`,
      );
    }
    if (transportBit === managedBit) {
      throw new TopologyError(`${at}.managedBit`, `${managedBit} is the other feature's bit already`);
    }
    if (totalVfs > 0) throw new TopologyError(`${at}.totalVfs`, "a management function has no VFs");
  },
  devices: (models) => new ManagementDevices(models),
};
