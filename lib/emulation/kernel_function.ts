/**
 * The seam between the emulated kernel and a function of the emulated machine: what a kernel knows of and does to hardware.
 *
 * @module
 */
import type { NetInterface } from "./device_model.ts";
import type { PciIdentity } from "./pci_function.ts";

/** One line of the `resource` attribute. */
export interface KernelResource {
  /** First bus address. */
  readonly start: bigint;
  /** Size in bytes; 0: the line reads all zero. */
  readonly sizeBytes: bigint;
  /** IORESOURCE_* flags (linux/ioport.h), the low four as in the BAR. */
  readonly flags: number;
}

/** IORESOURCE_* flags that BARs have. */
export const RESOURCE_FLAG = {
  io: 0x100,
  memory: 0x200,
  prefetch: 0x2000,
  sizeAligned: 0x40000,
  memory64: 0x100000,
} as const;

/** Lines of `resource`: BAR 0–5, ROM, VF BAR 0–5. */
export const RESOURCE_COUNT = 13;

/** SR-IOV of a PF. */
export interface KernelSriov {
  /** TotalVFs. */
  readonly totalVfs: number;
  /** Enabled VFs; 0 while VF Enable is clear. */
  readonly numVfs: number;
  /** Their addresses, in VF order. */
  readonly vfs: readonly string[];
  /** First VF Offset. */
  readonly firstVfOffset: number;
  /** VF Stride. */
  readonly vfStride: number;
  /** Device ID of the VFs. */
  readonly vfDeviceId: number;
  /** Writes NumVFs and VF Enable; the VFs are there when it returns. @throws SyscallError, RingsideError */
  enable(count: number): void;
  /** Clears VF Enable. */
  disable(): void;
}

/** A function as the emulated kernel uses it. */
export interface KernelFunction {
  /** `0000:01:00.0` */
  readonly address: string;
  /** Header fields; those of a VF as the kernel fills them in. */
  readonly identity: PciIdentity;
  /** IOMMU group. */
  readonly iommuGroup: number;
  /** NUMA node, −1 when not said. */
  readonly numaNode: number;
  /** Address of its PF, on a VF. */
  readonly physicalFunction?: string;
  /** Which of its PF's VFs it is, 0 for the first; undefined on any other function. */
  readonly vfIndex?: number;
  /** Network interface that the default driver makes of it. */
  readonly netInterface?: NetInterface;
  /** SR-IOV, on a PF. */
  readonly sriov?: KernelSriov;
  /** A user holds it (a client is connected). */
  readonly inUse: boolean;

  /** `RESOURCE_COUNT` lines. */
  resources(): readonly KernelResource[];
  /** All of config space as the hardware has it: on a VF, vendor and device read 0xffff. */
  readConfig(): Uint8Array<ArrayBuffer>;
  /** FLR with state saved and restored, VFs included. */
  resetByKernel(): void;
  /** A kernel driver takes or leaves it: memory decoding and bus mastering go on or off. */
  setHostDriver(active: boolean): void;
  /** Users may open it from now on. @throws SyscallError when its socket cannot be made */
  offer(): void;
  /** Users may no longer open it; a client that is there loses it. */
  withdraw(): void;
  /** Asks the user to give it back. */
  requestRelease(): void;
}
