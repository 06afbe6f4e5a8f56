/**
 * What the emulated kernel shows of a function's resources, and how it makes VFs.
 *
 * @module
 */

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
