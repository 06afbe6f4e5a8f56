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
  type FunctionTopology,
  KERNEL_DRIVERS,
  type KernelDriverName,
  LEGACY_NOTIFY_PLACES,
  type LegacyNotifyPlace,
  MMIO_FORMS,
  type MmioTopology,
  PLATFORM_KERNEL_DRIVERS,
  type QuirkName,
  QUIRKS,
  type Topology,
  TOPOLOGY_PROFILES,
  type TopologyProfile,
  type VhostUserTopology,
} from "./function_topology.ts";
export { parseTopology, readTopology } from "./topology.ts";
export { addVhostUser } from "./topology_vhost_user.ts";
export { TopologyError } from "./topology_fields.ts";
export type { FunctionPlace, Schema, TopologyKind } from "./topology_kind.ts";
export { defaultTopology } from "./virtio/default_topology.ts";
export type { BlkFields } from "./virtio/blk/model.ts";
export type { StorageFields } from "./virtio/blk/storage.ts";
export type { ConsoleFields } from "./virtio/console/model.ts";
export type { IsmFields } from "./virtio/ism/model.ts";
export type { ManagedDeviceState, ManagementFields } from "./virtio/management/kind.ts";
export type { NetFields } from "./virtio/net/model.ts";
export type { SwitchPortState } from "./virtio/net/kind.ts";
export type { DeviceControl, DeviceControls } from "./device_control.ts";
export type { NetInterface, Violation } from "./device_model.ts";
export type { DeviceBehaviour, DevicePort, ResetKind } from "./device_behaviour.ts";
export type {
  BarDeclaration,
  BehaviourOptions,
  FunctionModels,
  PciFunctionBehaviour,
  PciFunctionPort,
  PciIdentity,
  VendorCapability,
} from "./pci_function.ts";
export type { PlatformBehaviour, PlatformPort } from "./platform_behaviour.ts";
export type { VhostUserBehaviour, VhostUserPort } from "./vhost_user_behaviour.ts";
export type {
  FrontEnd,
  ServedVhostDevice,
  ServedVring,
  VringAddresses,
} from "../sockets/vhost_user/server/served_device.ts";
export type { FrontEndMemory, MemoryRegion } from "../sockets/vhost_user/server/memory.ts";
export type { BarShape } from "../pci/bar_builder.ts";
export type { MsixShape, VendorSpecificDeclaration, VirtioDeclaration } from "../pci/capability_builder.ts";
export type {
  IsmAttachmentState,
  IsmDomainState,
  IsmFunctionState,
  IsmRegionState,
} from "./virtio/ism/report.ts";
