/**
 * What the emulated kernel needs of a function of its machine, and what it keeps about it.
 *
 * @module
 */
import type { NetInterface } from "./device_model.ts";
import type { KernelDriverName } from "./function_topology.ts";

/** A function on whatever bus. */
export interface KernelFunction {
  /** Full address. */
  readonly address: string;
  /** Where it is. */
  readonly options: {
    /** IOMMU group. */
    readonly iommuGroup: number;
    /** NUMA node, −1 when not said. */
    readonly numaNode: number;
  };
  /** The function itself. */
  readonly device: {
    /** A user is there. */
    readonly inUse: boolean;
    /** What stands behind its registers. */
    readonly behaviour: { readonly netInterface?: NetInterface };
    /** A driver of the host's kernel takes or leaves it. */
    setHostDriver(active: boolean): void;
  };
  /** Users may open it from now on. @throws ExhaustedError, SyscallError */
  offer(): void;
  /** They may not any more; one that is there loses its connection. */
  withdraw(): void;
}

/** A platform device, with what firmware says of it. */
export interface KernelPlatformDevice extends KernelFunction {
  readonly device: KernelFunction["device"] & {
    /** Physical address of its registers. */
    readonly windowAddress: bigint;
    readonly behaviour: {
      /** What it is compatible with, for the device tree: `virtio,mmio`. */
      readonly compatible: string;
      /** Type of its virtio device; 0: none is there. */
      readonly deviceId: number;
      /** Size of its registers in bytes. */
      readonly windowBytes: number;
    };
  };
}

/** What is the kernel's of a function, not the function's. */
export interface FunctionState {
  /** Driver that the function is bound to. */
  driver: KernelDriverName | null;
  /** `driver_override`. */
  override: string | null;
  /** `sriov_drivers_autoprobe` of a PF. */
  autoprobe: boolean;
  /** How often it was enabled through the `enable` attribute. */
  enables: number;
}
