/**
 * An emulated host: PCI functions served over vfio-user, and the kernel's sysfs above them, by a process of their own.
 *
 * Drivers never import this. `serveEmulatedHost` serves a directory; a driver on the other side opens it as it opens a real host.
 *
 * ```ts
 * import { readTopology, serveEmulatedHost } from "@ringside/ringside/emulation";
 *
 * const topology = readTopology({ functions: [{ address: "0000:01:00.0", kind: "virtio-rng" }] });
 * await serveEmulatedHost({ directory: "/tmp/host", topology }); // until it is told to stop
 * ```
 *
 * A device of one's own is a `PciFunctionBehaviour`, given out by `FunctionModels`.
 *
 * @module
 */
export { serveEmulatedHost, type ServeOptions } from "./serve.ts";
export {
  type AdminTopology,
  type BlockTopology,
  type ConsoleTopology,
  defaultTopology,
  type FunctionTopology,
  type IsmTopology,
  KERNEL_DRIVERS,
  type KernelDriverName,
  LEGACY_NOTIFY_PLACES,
  type LegacyNotifyPlace,
  parseTopology,
  readTopology,
  type Topology,
  TOPOLOGY_PROFILES,
  TopologyError,
  type TopologyProfile,
} from "./topology.ts";
export type { Violation } from "./device_model.ts";
export type {
  BarDeclaration,
  BehaviourOptions,
  FunctionModels,
  PciFunctionBehaviour,
  PciFunctionPort,
  PciIdentity,
  ResetKind,
  SwitchPortState,
  VendorCapability,
} from "./pci_function.ts";
export type { BarShape } from "../pci/bar_builder.ts";
export type { MsixShape, VendorSpecificDeclaration, VirtioDeclaration } from "../pci/capability_builder.ts";
export type {
  IsmAttachmentState,
  IsmDomainState,
  IsmFunctionState,
  IsmRegionState,
} from "./virtio/ism/report.ts";
