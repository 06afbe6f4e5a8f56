/**
 * The vfio-user protocol: a PCI function served by one process and driven by another, over a UNIX socket.
 *
 * `VfioUserDevice` is the client, a `VfioDevice` like those of the kernel. `VfioUserServer` serves a `ServedDevice` to such clients,
 * and to QEMU's `vfio-user-pci`.
 *
 * @module
 */
export { AnswerBudget } from "./answer_budget.ts";
export { VFIO_USER_IOVA_RANGES, VfioUserDevice, type VfioUserOptions } from "./client.ts";
export type { FeatureAction } from "./client_features.ts";
export type { RegionWrite } from "./client_regions.ts";
export type { PeerCapabilities } from "./capabilities.ts";
export { type DmaBytes, DmaFault, type DmaFile, type DmaRegion, type DmaTable } from "./dma_table.ts";
export type { FarMemory } from "./far_memory.ts";
export { RequestRefused } from "./refusal.ts";
export type {
  ServedDevice,
  ServedDoorbell,
  ServedIrqRequest,
  ServedMapping,
  ServedMigration,
  ServedRegion,
} from "./served_device.ts";
export type { UnsealedFiles } from "./server_dma.ts";
export { type ServerWatcher, VfioUserServer, type VfioUserServerOptions } from "./server.ts";
