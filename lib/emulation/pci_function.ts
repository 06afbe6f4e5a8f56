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
import type { DeviceBehaviour, DevicePort } from "./device_behaviour.ts";
import type { PlatformBehaviour } from "./platform_behaviour.ts";
import type { VhostUserBehaviour } from "./vhost_user_behaviour.ts";
import type { FunctionTopology } from "./function_topology.ts";
import type { TopologyKind } from "./topology_kind.ts";

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

/** What the machine offers to the behaviour of a PCI function, from `connect` to `close`. */
export interface PciFunctionPort extends DevicePort {
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
}

/**
 * What stands behind the BARs of a PCI function.
 *
 * BAR accesses arrive only while memory decoding allows them, within the BAR's size, outside MSI-X table and PBA, and never cross a BAR's end;
 * width and alignment are the client's and are not checked. A `RingsideError` thrown by an access becomes an error reply to the client.
 */
export interface PciFunctionBehaviour extends DeviceBehaviour {
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

  /** Called once. From now on it may own descriptors and take its place in a switch. */
  connect(port: PciFunctionPort): void;
  /** Fills `into` from the BAR. */
  readBar(bar: number, offset: number, into: Uint8Array): void;
  /** Takes `from` into the BAR. */
  writeBar(bar: number, offset: number, from: Uint8Array): void;
  /** Bus Master Enable changed. */
  busMasterChanged?(enabled: boolean): void;

  /** NumVFs of this PF took effect (`count` VFs; 0: VF Enable was cleared). */
  vfsEnabled?(count: number): void;
}

/** What a behaviour is made from: one entry of the topology, or one VF of it, which has the fields of its PF. */
export interface BehaviourOptions extends Partial<FunctionTopology> {
  /** Full address of the function. */
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
  /** Kinds of function that it makes, for those that are plugged in later. Default: those of this library, and others without fields of their own. */
  readonly kinds?: readonly TopologyKind[];
  /** Makes one that touches nothing shared before `connect`. @throws UsageError for an unknown kind or an option that cannot be */
  createBehaviour(kind: string, options: BehaviourOptions): PciFunctionBehaviour;
  /** The same for a platform device. Absent: there are none. */
  createPlatformBehaviour?(kind: string, options: BehaviourOptions): PlatformBehaviour;
  /** The same for a device behind a vhost-user socket. Absent: there are none. */
  createVhostUserBehaviour?(kind: string, options: BehaviourOptions): VhostUserBehaviour;
}
