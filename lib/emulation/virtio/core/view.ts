/**
 * What a view is to the device that it carries.
 *
 * @module
 */
import type { OwnedFd } from "../../../../ffi/mod.ts";
import type { DmaTable } from "../../../sockets/dma_table.ts";
import type { Violation } from "../../device_model.ts";

/** What a driver selected, by the standard's names; a view without selectors leaves the zeros. */
export interface Selectors {
  /** Which 32 bits of the offered features. */
  device_feature_select: number;
  /** Which 32 bits of the accepted ones. */
  driver_feature_select: number;
  /** Which queue. */
  queue_select: number;
}

/** Carries the registers of a device to its driver; see `VirtioCore` for what it must do. */
export interface VirtioView {
  /** What the function is called: its full address. */
  readonly name: string;
  /** They move with the device's parts. */
  readonly selectors: Selectors;
  /** The driver's memory; null without a driver. */
  readonly dma: DmaTable | null;
  /** The memory of one queue, where queues have address spaces of their own. Absent: all have `dma`. */
  queueMemory?(queue: number): DmaTable | null;
  /** The device may touch that memory now (PCI: Bus Master Enable). False without memory. */
  readonly mayTouchMemory: boolean;
  /** Interrupt vectors are in use, and the driver names those of queues and configuration (PCI: MSI-X). */
  readonly usesVectors: boolean;
  /** How many vectors its driver can name, where that is less than the device would use. Absent: as many as the device would use. */
  readonly vectorCount?: number | undefined;
  /** Section of the reference that has its registers, for reports of wrong values. Absent: 2.2, those of PCI. */
  readonly registerRule?: string;
  /** See `DeviceCore`. */
  readonly behindFrontEnd?: boolean;
  /** A used buffer notification. @param vector what the driver bound to the queue */
  interruptQueue(queue: number, vector: number): void;
  /** A configuration change notification. @param vector what the driver bound to it */
  interruptConfig(vector: number): void;
  /** Sends a vector that a driver bound to something else. @returns false when it cannot be sent now */
  raiseVector(vector: number): boolean;
  /** The device was reset: selectors are 0, and no interrupt is pending any more. */
  cleared(): void;
  /** There may be work, though the driver's notifications do not say so. */
  wake(): void;
  /** Puts a violation into the machine's list. */
  report(violation: Violation): void;
  /** Where the model's `notifyArea` begins on the platform; undefined or absent where that is not known. */
  readonly notifyAddress?: bigint | undefined;
  readonly watch: ((fd: OwnedFd, handler: () => void) => void) | undefined;
  readonly unwatch: ((fd: OwnedFd) => void) | undefined;
}
