/**
 * The commands for the management device itself, as their bytes and the reading of their answers; and DESTROY, which ends what another one began
 * (reference 4.1).
 *
 * @module
 */
import { DeviceError } from "../../errors/mod.ts";
import { requireType } from "../../errors/doors.ts";
import { TVQ_COMMAND } from "../spec/transport_vq.ts";
import { TVQ_MDEV_ATTRIBUTE, type TvqLayout } from "../spec/transport_vq_payloads.ts";
import type { ManagementCall } from "./managed_commands.ts";

/** What of the management device's resources is left. */
export interface ManagementResources {
  /** Virtqueues that no device has. */
  readonly queues: number;
  /** Virtqueues that a device has at least. */
  readonly minQueues: number;
  /** Virtqueues that a device has at most; as `minQueues`: all devices have so many. */
  readonly maxQueues: number;
  /** Devices of `minQueues` virtqueues that can still be created. */
  readonly devices: number;
}

/** A device that is to be. */
export interface ManagedDeviceRequest {
  /** Virtio device id: 1 net, 2 block, 4 entropy, … */
  readonly type: number;
  /** Features that it is to offer: of the device type's own those that its model has, of the others those of the management device. */
  readonly features: bigint;
  /** Its config space, whole. Default: none. */
  readonly config?: Uint8Array | undefined;
}

/** AVAIL_RES_GET. */
export function resourcesCall(layout: TvqLayout, name: string): ManagementCall<ManagementResources> {
  const { AVAIL_RES_GET } = TVQ_COMMAND;
  const into = AVAIL_RES_GET.in[layout];
  return {
    command: { ...AVAIL_RES_GET, deviceId: 0n, out: undefined, inBytes: into.sizeBytes },
    read: (data) => {
      requireLength(data, into.sizeBytes, name, "AVAIL_RES_GET");
      const { num_avail_vqs, min_mdev_vqs, max_mdev_vqs, num_avail_mdev } = into.decode(data);
      if (min_mdev_vqs > max_mdev_vqs) {
        throw new DeviceError(`${min_mdev_vqs}, and max_mdev_vqs is ${max_mdev_vqs}`, {
          function: name,
          field: "min_mdev_vqs",
        });
      }
      return {
        queues: num_avail_vqs,
        minQueues: min_mdev_vqs,
        maxQueues: max_mdev_vqs,
        devices: num_avail_mdev,
      };
    },
  };
}

/** MDEV_CREATE. @param isTaken whether an id is that of another device @throws UsageError */
export function createCall(
  layout: TvqLayout,
  request: ManagedDeviceRequest,
  name: string,
  isTaken: (id: bigint) => boolean,
): ManagementCall<bigint> {
  const { MDEV_CREATE } = TVQ_COMMAND;
  const { type, features, config = new Uint8Array() } = request;
  requireType(features, "bigint", "create: features");
  requireType(config, "bytes", "create: config");
  const head = TVQ_MDEV_ATTRIBUTE[layout];
  const out = head.encode({ virtio_device_id: type, device_features: features }, config.length);
  out.set(config, head.sizeBytes);
  const into = MDEV_CREATE.in[layout];
  return {
    command: {
      ...MDEV_CREATE,
      deviceId: 0n,
      out,
      inBytes: into.sizeBytes,
      detail: `device type ${type}, features 0x${features.toString(16)}`,
    },
    read: (data) => {
      requireLength(data, into.sizeBytes, name, "device_id");
      const { device_id: id } = into.decode(data);
      if (id !== 0n && !isTaken(id)) return id;
      throw new DeviceError(
        `MDEV_CREATE gave ${id}, which is ${
          id === 0n ? "the management device's own id" : "that of another device"
        } (A-4.10)`,
        { function: name, field: "device_id" },
      );
    },
  };
}

/** MDEV_DESTROY. Only a created device has an id: never 0 (N-4.4). */
export function destroyCall(id: bigint): ManagementCall<void> {
  return { command: { ...TVQ_COMMAND.MDEV_DESTROY, deviceId: id, out: undefined }, read: () => {} };
}

function requireLength(data: Uint8Array, bytes: number, name: string, field: string): void {
  if (data.length >= bytes) return;
  throw new DeviceError(`${data.length} bytes of in-data, ${bytes} belong there`, { function: name, field });
}
