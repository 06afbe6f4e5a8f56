/**
 * What stands behind the registers of a function, whatever bus it is on: the part that the machine needs of each.
 *
 * @module
 */
import type { OwnedFd } from "../../ffi/mod.ts";
import type { DmaTable } from "../sockets/dma_table.ts";
import type {
  ServedDoorbell,
  ServedMapping,
  ServedMigration,
} from "../sockets/vfio_user/server/served_device.ts";
import type { FunctionQueues, QueueCounters } from "../virtio/view/queue_view.ts";
import type { DeviceControls } from "./device_control.ts";
import type { NetInterface, Violation } from "./device_model.ts";

/**
 * Why a function is reset.
 * `flr`: Function Level Reset (a config write, or the host's kernel), or leaving D3hot, since No_Soft_Reset is clear; `device`: a client's device
 * reset; `detached`: the client is gone, orderly or not.
 */
export type ResetKind = "flr" | "device" | "detached";

/** What the machine offers to a behaviour on any bus, from `connect` to `close`. */
export interface DevicePort {
  /** Full address: `0000:01:00.0`, `a003e00.virtio_mmio`. */
  readonly name: string;
  /** The client's memory; null while no client is attached. */
  readonly dma: DmaTable | null;
  /** Calls `handler` whenever `fd` is readable (level-triggered). Absent in a machine without a loop. The descriptor stays the caller's. */
  readonly watch?: (fd: OwnedFd, handler: () => void) => void;
  /** Ends `watch`, before the descriptor is closed. */
  readonly unwatch?: (fd: OwnedFd) => void;
  /**
   * Something other than the function's own user gave it work, or changed what it waits for: it is polled and armed again. To be called where
   * one function acts on another. Absent in a machine without a loop, which polls everything.
   */
  readonly wake?: () => void;
  /** Puts a violation into the machine's list. Does nothing else: stopping the device is the behaviour's. */
  report(violation: Violation): void;
}

/**
 * What stands behind a function. Regions are numbered as VFIO numbers them: a BAR by its number, the registers of a platform device are 0.
 *
 * Order: construction (touches nothing that is shared and owns no descriptor) → `connect` → any number of (`attached` … `detached`) → `close`.
 */
export interface DeviceBehaviour {
  /** Shown by sysfs as a network interface while the kernel's driver is bound. */
  readonly netInterface?: NetInterface;

  /** The function is gone (VF disabled, machine stopped): leave the switch, close descriptors. May be called twice, or without `connect`. */
  close(): void;

  /** `DmaRegion.file` is wanted: for devices that share their user's memory with others. Default false. */
  readonly keepsDmaFiles?: boolean;
  /** See `ServedDevice`. */
  readonly addressSpaces?: readonly DmaTable[] | undefined;
  /** Gives a user a mapping of part of a region (`ServedDevice.mapArea`): where parts can be mapped for a while, or not by everybody. */
  mapArea?(region: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined;

  /** State that moves to another function; absent where none does. */
  readonly migration?: ServedMigration | undefined;

  /**
   * Doorbells of a region: the same list from the first call after `attached` until `detached`, which closes them; those that exist only for a
   * user cost nothing while there is none. The behaviour owns the eventfds; the machine watches them, takes their count, and calls `rang`.
   * @throws SyscallError when there are no more descriptors
   */
  doorbells(region: number): readonly ServedDoorbell[];
  /**
   * The doorbell at `offset` was rung at least once. Work is done in `poll`.
   * @param value of a doorbell that stands for writes of one value only
   */
  rang(region: number, offset: number, value?: number): void;

  /** A client is there; `port.dma` is set. */
  attached(): void;
  /** Before a range of `port.dma` goes away: it must not be touched after this returns. Cached views are caught by `DmaTable.generation` too. */
  dmaWillUnmap(iova: bigint, sizeBytes: number): void;
  /** Forget everything of the driver; registers at their initial values. For `detached`, `port.dma` is still valid during the call. */
  reset(kind: ResetKind): void;
  /** The client closed: called after `reset("detached")`, when `port.dma` is null already. */
  detached(): void;

  /** Does pending work, at most `budget` buffers. @returns how many were moved; 0 means idle. */
  poll(budget: number): number;
  /** Before sleeping: ask for notifications everywhere. @returns true when work arrived meanwhile, so that the caller polls again. */
  arm(): boolean;
  /** After `arm`: sleep no longer than so many milliseconds before the next `poll`. Absent or undefined: until something rings. */
  readonly wakeAfterMs?: number | undefined;
  /** Its queues, for `/ringside/queues`. Nothing changes by it, whoever drives the function. */
  queueReport?(): FunctionQueues;
  /** What its queues have done, for `/ringside/counters`. */
  queueCounters?(): readonly QueueCounters[];
  /** What may be done to it from outside, for `/ringside/functions`; always the same. */
  readonly controls?: DeviceControls | undefined;
}
