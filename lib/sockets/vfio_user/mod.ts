/**
 * The vfio-user protocol: a PCI function served by one process and driven by another, over a UNIX socket.
 *
 * `VfioUserDevice` is the client, a `VfioDevice` like those of the kernel. `VfioUserServer` serves a `ServedDevice` to such clients,
 * and to QEMU's `vfio-user-pci`.
 *
 * ```ts
 * import { VfioUserDevice } from "@ringside/ringside/vfio-user";
 *
 * using device = VfioUserDevice.connect("/tmp/host/0000:01:00.0.sock");
 * console.log(device.info, device.regionInfo(0));
 * ```
 *
 * @module
 */
export { AnswerBudget } from "../answer_budget.ts";
export { VfioUserDevice, type VfioUserOptions } from "./client/device.ts";
export type { FeatureAction } from "./client/features.ts";
export type { RegionWrite } from "./client/regions.ts";
export type { FarMemory, FarRange } from "../far_memory.ts";
export type { PeerCapabilities } from "./capabilities.ts";
export { type DmaBytes, DmaFault, type DmaFile, type DmaRegion, type DmaTable } from "../dma_table.ts";
export type { KeptParts } from "../../memory/kept_parts.ts";
export { RequestRefused } from "./server/refusal.ts";
export type {
  ServedDevice,
  ServedDoorbell,
  ServedIrqRequest,
  ServedMapping,
  ServedMigration,
  ServedRegion,
  ServedTokens,
} from "./server/served_device.ts";
export type { UnsealedFiles } from "../passed_memory.ts";
export { OneClientServer, type ServerWatcher } from "../one_client_server.ts";
export { VfioUserServer, type VfioUserServerOptions } from "./server/server.ts";
