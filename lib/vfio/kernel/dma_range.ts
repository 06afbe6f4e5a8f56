/**
 * Checks on a DMA mapping before it reaches the kernel: pure.
 *
 * @module
 */
import { RingsideError, UsageError } from "../../errors/mod.ts";

const SPACE = 1n << 64n;

/**
 * Checks that a range can be mapped: whole pages, not past 2^64, not larger than the memory behind it.
 * @param pageSizes bit mask of the IOMMU's page sizes.
 * @throws UsageError
 */
export function checkDmaRange(
  where: string,
  iova: bigint,
  sizeBytes: number,
  memoryBytes: number,
  pageSizes: bigint,
): void {
  const page = pageSizes & -pageSizes;
  const range = `[0x${iova.toString(16)}, +${sizeBytes})`;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes <= 0 || sizeBytes > memoryBytes) {
    throw new UsageError(`${where}: DMA range ${range} does not lie in the ${memoryBytes} bytes behind it`);
  }
  if (iova < 0n || iova + BigInt(sizeBytes) > SPACE) {
    throw new UsageError(`${where}: DMA range ${range} passes 2^64`);
  }
  if (iova % page !== 0n || BigInt(sizeBytes) % page !== 0n) {
    throw new UsageError(`${where}: DMA range ${range} is not made of whole IOMMU pages of ${page} bytes`);
  }
}

/** Checks that the kernel unmapped just what was asked for. @throws RingsideError */
export function checkUnmapped(where: string, iova: bigint, sizeBytes: number, unmapped: bigint): void {
  if (unmapped === BigInt(sizeBytes)) return;
  throw new RingsideError(
    `${where}: the kernel unmapped ${unmapped} of ${sizeBytes} bytes at IOVA 0x${iova.toString(16)}`,
    { hint: "unmap exactly what was mapped, once" },
  );
}
