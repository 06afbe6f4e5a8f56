/**
 * The seam between a PCI function (config space, interrupts, reset: the machine) and what stands behind its BARs (the behaviour).
 *
 * The machine owns config space, the MSI-X table and PBA, delivery of interrupts, reset, and the vfio-user connection. The behaviour owns
 * its registers and does the work of the device. Neither knows how the other is written.
 *
 * @module
 */
import type { BarShape } from "../pci/bar_builder.ts";
import type { MsixShape, VendorSpecificDeclaration, VirtioDeclaration } from "../pci/capability_builder.ts";
import type { OwnedFd } from "../../ffi/mod.ts";
import type { RegionArea } from "../vfio/device.ts";
import type { DmaTable } from "../sockets/vfio_user/server/dma_table.ts";
import type {
  ServedDoorbell,
  ServedMapping,
  ServedMigration,
} from "../sockets/vfio_user/server/served_device.ts";
import type { FunctionQueues } from "../virtio/view/queue_view.ts";
import type { NetInterface, Violation } from "./device_model.ts";
import type { FunctionTopology } from "./function_topology.ts";

/** What the function's header says. Numbers as the registers hold them. */
export interface PciIdentity {
  /** Vendor ID. */
  readonly vendorId: number;
  /** Device ID. */
  readonly deviceId: number;
  /** Subsystem Vendor ID. */
  readonly subsystemVendorId: number;
  /** Subsystem ID. */
  readonly subsystemId: number;
  /** Revision ID. */
  readonly revision: number;
  /** 24 bits: base class, subclass, programming interface. */
  readonly classCode: number;
}

/** One base address register. */
export interface BarDeclaration extends BarShape {
  /**
   * Memory behind parts of the BAR that clients may map: at `fileOffset` + area offset of `file`. The behaviour keeps the file; the machine
   * borrows it. Accesses that a client sends as messages still go to `readBar`/`writeBar`. Without it every access is a message.
   */
  readonly mapping?: {
    readonly file: OwnedFd;
    readonly fileOffset: number;
    readonly areas: readonly RegionArea[];
  };
}

/**
 * A vendor-specific capability (id 0x09) in config space: a virtio structure's, or one with contents of its own. An access to the data of
 * `pciCfg` becomes an access of `length` bytes (1, 2 or 4) to the BAR that the driver aimed it at. The machine carries it out through
 * `readBar`/`writeBar`.
 */
export type VendorCapability = VendorSpecificDeclaration | VirtioDeclaration;

/**
 * Why a function is reset.
 * `flr`: Function Level Reset (a config write, or the host's kernel); `device`: a client's device reset; `detached`: the client is gone,
 * orderly or not. Leaving D3hot is no reset: the machine's functions say No_Soft_Reset.
 */
export type ResetKind = "flr" | "device" | "detached";

/** What the machine offers to a behaviour, from `connect` to `close`. */
export interface PciFunctionPort {
  /** PCI address: `0000:01:00.0`. */
  readonly name: string;
  /** The client's memory; null while no client is attached. */
  readonly dma: DmaTable | null;
  /** Bus Master Enable. A function must not touch memory nor send MSI-X while it is false. */
  readonly busMaster: boolean;
  /** MSI-X is in use (its Enable bit, or vectors set by SET_IRQS): then INTx must not be used. */
  readonly msixEnabled: boolean;
  /**
   * Sends a vector. One that nobody listens to yet stays pending in the PBA and is sent when somebody does. An index past the table is ignored.
   * @returns true when it was delivered now.
   */
  raiseMsix(vector: number): boolean;
  /** Where the host has put a BAR; undefined when the function has no such BAR. Absent in a machine without addresses. */
  barAddress?(bar: number): bigint | undefined;
  /** Sets the level of the INTx line. The machine masks and resends as VFIO's automasking asks for; ignored without an interrupt pin. */
  setIntx(asserted: boolean): void;
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
 * What stands behind the BARs of a PCI function.
 *
 * Order: construction (touches nothing that is shared and owns no descriptor) → `connect` → any number of (`attached` … `detached`) → `close`.
 * BAR accesses arrive only while memory decoding allows them, within the BAR's size, outside MSI-X table and PBA, and never cross a BAR's end;
 * width and alignment are the client's and are not checked. A `RingsideError` thrown by an access becomes an error reply to the client.
 */
export interface PciFunctionBehaviour {
  /** What the header says. On a VF, vendor and device are what VFIO shows in place of 0xffff. */
  readonly identity: PciIdentity;
  /** Its BARs; those of a PF's VFs must all be alike. */
  readonly bars: readonly BarDeclaration[];
  /**
   * Where MSI-X table and PBA lie: the machine answers for both ranges, and the behaviour never sees accesses to them. Undefined: no MSI-X
   * capability.
   */
  readonly msix?: MsixShape;
  /** 1: INTA#; 0: no INTx. Ignored on a VF, which has none. */
  readonly interruptPin: 0 | 1;
  /** In the order in which they shall be listed. */
  readonly vendorCapabilities: readonly VendorCapability[];
  /** Shown by sysfs as a network interface while the kernel's driver is bound. */
  readonly netInterface?: NetInterface;

  /** Called once. From now on it may own descriptors and take its place in a switch. */
  connect(port: PciFunctionPort): void;
  /** The function is gone (VF disabled, machine stopped): leave the switch, close descriptors. May be called twice, or without `connect`. */
  close(): void;

  /** `DmaRegion.file` is wanted: for devices that share their user's memory with others. Default false. */
  readonly keepsDmaFiles?: boolean;
  /** See `ServedDevice`. */
  readonly addressSpaces?: readonly DmaTable[] | undefined;
  /** Gives a user a mapping of part of a BAR (`ServedDevice.mapArea`): for BARs of which parts can be mapped for a while, or not by everybody. */
  mapArea?(bar: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined;

  /** State that moves to another function; absent where none does. */
  readonly migration?: ServedMigration | undefined;

  /** Fills `into` from the BAR. */
  readBar(bar: number, offset: number, into: Uint8Array): void;
  /** Takes `from` into the BAR. */
  writeBar(bar: number, offset: number, from: Uint8Array): void;
  /**
   * Doorbells of a BAR: the same list from the first call after `attached` until `detached`, which closes them; those that exist only for a
   * user cost nothing while there is none. The behaviour owns the eventfds; the machine watches them, takes their count, and calls `rang`.
   * @throws SyscallError when there are no more descriptors
   */
  doorbells(bar: number): readonly ServedDoorbell[];
  /** The doorbell at `offset` was rung at least once. Work is done in `poll`. */
  rang(bar: number, offset: number): void;

  /** A client is there; `port.dma` is set. */
  attached(): void;
  /** Before a range of `port.dma` goes away: it must not be touched after this returns. Cached views are caught by `DmaTable.generation` too. */
  dmaWillUnmap(iova: bigint, sizeBytes: number): void;
  /** Forget everything of the driver; registers at their initial values. For `detached`, `port.dma` is still valid during the call. */
  reset(kind: ResetKind): void;
  /** The client closed: called after `reset("detached")`, when `port.dma` is null already. */
  detached(): void;
  /** Bus Master Enable changed. */
  busMasterChanged?(enabled: boolean): void;

  /** Does pending work, at most `budget` buffers. @returns how many were moved; 0 means idle. */
  poll(budget: number): number;
  /** Before sleeping: ask for notifications everywhere. @returns true when work arrived meanwhile, so that the caller polls again. */
  arm(): boolean;
  /** After `arm`: sleep no longer than so many milliseconds before the next `poll`. Absent or undefined: until something rings. */
  readonly wakeAfterMs?: number | undefined;
  /** Its queues, for `/ringside/queues`. Nothing changes by it, whoever drives the function. */
  queueReport?(): FunctionQueues;
  /** NumVFs of this PF took effect (`count` VFs; 0: VF Enable was cleared). */
  vfsEnabled?(count: number): void;
}

/** What a behaviour is made from: one entry of the topology, or one VF of it, which has the fields of its PF. */
export interface BehaviourOptions extends Partial<FunctionTopology> {
  /** PCI address of the function. */
  readonly address: string;
  /** Set for a VF: 0 for the first. */
  readonly vfIndex?: number;
  /** The PF's behaviour, for a VF. */
  readonly physicalFunction?: PciFunctionBehaviour;
  /** Directory of the machine's sockets; absent when it has none. */
  readonly directory?: string;
}

/**
 * Makes behaviours, one instance for one machine: it holds what behaviours share, such as embedded switches.
 * The virtio half provides it: `createVirtioModels(): FunctionModels` in `lib/emulation/virtio/models.ts`.
 */
export interface FunctionModels {
  /** What `/ringside/<name>` says beside what the machine itself does: objects, of which each becomes a line of JSON. */
  readonly reports: Readonly<Record<string, () => readonly object[]>>;
  /** Makes one that touches nothing shared before `connect`. @throws UsageError for an unknown kind or an option that cannot be */
  createBehaviour(kind: string, options: BehaviourOptions): PciFunctionBehaviour;
}
