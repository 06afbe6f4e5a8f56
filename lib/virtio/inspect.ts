/**
 * What an opened function says of itself, without driving it: regions, vectors, and for virtio functions features and queues.
 *
 * @module
 */
import { isErrno } from "../../ffi/mod.ts";
import { NotFoundError, UnsupportedError } from "../errors/mod.ts";
import { type IrqInfo, isPciDevice, type RegionInfo, type VfioDevice, type VfioPath } from "../vfio/mod.ts";
import { deviceTypeName } from "./spec/device_types.ts";
import { featureNames } from "./spec/features.ts";
import { openTransport, type TransportOptions } from "./transport/open.ts";
import type { Profile, VirtioTransport } from "./transport/transport.ts";

/** A virtio function, read through its registers. */
export interface VirtioFacts {
  /** Virtio device id. */
  readonly deviceId: number;
  /** Its name in the standard, such as `network device`. */
  readonly deviceType: string;
  /** Meaning of bits 39–42. */
  readonly profile: Profile;
  /** Features offered. */
  readonly features: bigint;
  /** Their names, lowest bit first. */
  readonly featureNames: readonly string[];
  /** `device_status`. */
  readonly status: number;
  /** Largest size of each queue. */
  readonly queueSizes: readonly number[];
  /** Bytes of the device-specific configuration. */
  readonly configSizeBytes: number;
}

/** An opened function. */
export interface FunctionFacts {
  /** How it was opened. */
  readonly path: VfioPath;
  /** Can be reset on its own. */
  readonly resettable: boolean;
  /** Regions that exist. */
  readonly regions: readonly RegionInfo[];
  /** Interrupt indices with vectors. */
  readonly interrupts: readonly IrqInfo[];
  /** Undefined when the function has no virtio interface that can be driven. */
  readonly virtio?: VirtioFacts;
  /** Why a platform device has none. */
  readonly virtioLack?: string;
}

/** Reads an opened function. Only the feature and queue selectors of a virtio function are written. @throws what the device throws */
export function inspect(device: VfioDevice, options: TransportOptions = {}): FunctionFacts {
  const VFIO_DEVICE_FLAGS_RESET = 1;
  const virtio = inspectVirtio(device, options);
  const lack = typeof virtio === "string" && !isPciDevice(device) ? { virtioLack: virtio } : {};
  return {
    path: device.path,
    resettable: (device.info.flags & VFIO_DEVICE_FLAGS_RESET) !== 0,
    regions: indices(device.info.numRegions)
      .map((index) => unlessAbsent(() => device.regionInfo(index)))
      .filter((one) => one !== undefined && one.sizeBytes > 0) as RegionInfo[],
    interrupts: indices(device.info.numIrqs)
      .map((index) => unlessAbsent(() => device.irqInfo(index)))
      .filter((one) => one !== undefined && one.count > 0) as IrqInfo[],
    virtio: typeof virtio === "string" ? undefined : virtio,
    ...lack,
  };
}

function indices(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** The kernel answers EINVAL for the VGA region and for interrupts that a function lacks. */
function unlessAbsent<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENODEV")) return undefined;
    throw error;
  }
}

/** Facts, or why there are none. */
function inspectVirtio(device: VfioDevice, options: TransportOptions): VirtioFacts | string {
  let transport: VirtioTransport;
  try {
    transport = openTransport(device, options);
  } catch (error) {
    // No virtio function, or a register window that no device is behind.
    if (!(error instanceof UnsupportedError || error instanceof NotFoundError)) throw error;
    return error.hint === "" ? error.message : `${error.message} (${error.hint})`;
  }
  try {
    return virtioFacts(transport);
  } finally {
    transport.close();
  }
}

/** What a device says of itself that nobody drives. @throws what the device throws */
export function virtioFacts(transport: VirtioTransport): VirtioFacts {
  const features = transport.readDeviceFeatures();
  return {
    deviceId: transport.deviceId,
    deviceType: deviceTypeName(transport.deviceId),
    profile: transport.profile,
    features,
    featureNames: featureNames(features, transport.deviceId, transport.profile),
    status: transport.readStatus(),
    queueSizes: indices(transport.queueCount).map((queue) => transport.queueMaxSize(queue)),
    configSizeBytes: transport.configSizeBytes,
  };
}
