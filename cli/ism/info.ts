/**
 * `ringside ism FUNCTION info`
 *
 * @module
 */
import { IsmError, type VirtioIsm } from "../../drivers/ism/virtio_ism.ts";
import { UnsupportedError, UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { ISM_SHM } from "../../lib/virtio/spec/ism.ts";
import { bytesText, countText, print, printJson } from "../output.ts";
import type { Of } from "../parser.ts";
import { openIsm } from "./opening.ts";

/** Shows what a virtio-ism function says of itself. */
export async function ismInfo(host: Host, options: Of<"ism info">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  const { info } = ism;
  const regionsMapped = await mapsRegions(ism);
  const notifyMapped = mapsNotify(ism);
  if (options.json) {
    return printJson({
      function: ism.transport.name,
      domain: info.cdidText,
      devid: info.devid,
      chunkBytes: info.chunkSizeBytes,
      chunks: info.maxChunks,
      notifyBytes: info.notifySizeBytes,
      areas: {
        regions: { bytes: info.regionsAreaBytes, mapped: regionsMapped },
        notify: { bytes: info.notifyAreaBytes, mapped: notifyMapped },
      },
      deviceMemory: info.devMem,
      features: ism.featureNames,
      interruptKind: ism.interruptKind,
    });
  }
  const chunks = `${countText(info.maxChunks, "chunk")} of ${bytesText(info.chunkSizeBytes)}`;
  // there may be fewer than chunks.
  const addresses = Math.min(info.maxChunks, Math.floor(info.notifyAreaBytes / info.notifySizeBytes));
  print(`${ism.transport.name}  device ${info.devid} of domain ${info.cdidText}`);
  print(`  regions: ${chunks} (${bytesText(info.regionsAreaBytes)}), ${reachedText(regionsMapped)}`);
  print(
    `  notify: ${addresses} of ${bytesText(info.notifySizeBytes)} (${bytesText(info.notifyAreaBytes)}), ${
      reachedText(notifyMapped)
    }`,
  );
  print(`  memory of regions: ${info.devMem ? "the device's" : "of whoever allocates them"}`);
  print(`  interrupts: ${ism.interruptKind}`);
  print(`  ${ism.featureNames.join(" ")}`);
}

function reachedText(mapped: boolean | null): string {
  if (mapped === null) return "none can be allocated now";
  return mapped ? "mapped" : "reached by messages";
}

/** Tried with a region of one chunk: chunks can be mapped only while they stand for a region. @returns null when none can be had */
async function mapsRegions(ism: VirtioIsm): Promise<boolean | null> {
  try {
    await using region = await ism.alloc(1);
    return region.mapped;
  } catch (error) {
    if (error instanceof IsmError) return null;
    throw error;
  }
}

/** Less than whole pages cannot be mapped. */
function mapsNotify(ism: VirtioIsm): boolean {
  try {
    ism.transport.sharedMemory?.(ISM_SHM.notify)?.map().close();
    return true;
  } catch (error) {
    if (error instanceof UnsupportedError || error instanceof UsageError) return false;
    throw error;
  }
}
