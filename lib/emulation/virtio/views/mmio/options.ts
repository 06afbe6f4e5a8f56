/**
 * How a virtio-mmio device may differ from the default, and what follows from it for device and vectors.
 *
 * @module
 */
import { UsageError } from "../../../../errors/mod.ts";
import { FEATURE, type Profile } from "../../../../virtio/spec/features.ts";
import { type MmioForm, MSI_V3_QUEUES_MAX } from "../../../../virtio/spec/mmio.ts";
import type { MmioTopology } from "../../../function_topology.ts";
import type { VirtioCore } from "../../core/core.ts";
import type { CoreOptions } from "../../core/options.ts";
import type { MsiShape } from "./msi.ts";
import type { MmioRegisterFile } from "./registers.ts";

/** How a device differs from the default. */
export interface MmioViewOptions extends CoreOptions {
  /** Which form, and what is peculiar to it. */
  readonly mmio: MmioTopology;
  /** Puts something before the registers; default: nothing. */
  readonly overRegisters?: (honest: MmioRegisterFile) => MmioRegisterFile;
}

/** Profile of each form. */
export const MMIO_PROFILES: Readonly<Record<MmioForm, Profile>> = {
  "modern": "spec",
  "legacy": "spec",
  "v3": "mmio-v3",
  "msi-v2": "mmio-msi-v2",
};

/** The core's, by form. MMIO has no register for NOTIF_CONFIG_DATA. */
export function coreOptions({ mmio: { form }, featuresOff = 0n, ...options }: MmioViewOptions): CoreOptions {
  const profile = MMIO_PROFILES[form];
  const off = profile === "spec" ? FEATURE.NOTIF_CONFIG_DATA : 0n;
  return { ...options, profile, featuresOff: featuresOff | off };
}

/** Vectors of a form that has some (N-7.5). @throws UsageError for a number that cannot be */
export function msiShape(
  { form, vectors, sharing = false }: MmioTopology,
  core: VirtioCore,
): MsiShape | null {
  const queues = core.queues.length;
  if (form !== "v3" && form !== "msi-v2") return null;
  if (form === "v3") {
    if (queues > MSI_V3_QUEUES_MAX) {
      throw new UsageError(`${queues} queues: form v3 can have ${MSI_V3_QUEUES_MAX} (A-7.7)`);
    }
    if (vectors !== undefined && vectors !== queues + 1) {
      throw new UsageError(`mmio.vectors ${vectors}: form v3 has one a queue and one more, ${queues + 1}`);
    }
    return { count: queues + 1, sharing: false, rule: "7.2" };
  }
  const count = vectors ?? core.vectorCount;
  const least = sharing ? 2 : queues + 1;
  if (count >= least) return { count, sharing, rule: "7.3" };
  throw new UsageError(
    `mmio.vectors ${count}: ${sharing ? "with" : "without"} sharing it has at least ${least} (N-7.5)`,
  );
}
