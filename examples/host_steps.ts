/**
 * Steps that examples share: who watches, the VF token, and putting the host back.
 *
 * @module
 */
import type { Host, OpenOptions } from "../lib/host/mod.ts";
import { DEVICE_FEATURE, type VfioPciDevice } from "../lib/vfio/mod.ts";
import type { ExchangeResult } from "../drivers/net/virtio/exchange.ts";

/** Who watches. */
export interface Observer {
  /** A step is done; `found` says what it showed. */
  step(what: string, found: string): void;
  progress(label: string, done: number, total: number): void;
}

/** How to open the VFs of an opened PF: with a token, made up if need be, where the kernel wants one. */
export function withToken(pf: VfioPciDevice, open: OpenOptions, observer: Observer): OpenOptions {
  if (pf.path === "vfio-user" || !pf.probeFeature(DEVICE_FEATURE.pciVfToken, "set")) return open;
  const vfToken = open.vfToken ?? crypto.randomUUID();
  pf.setVfToken(vfToken);
  observer.step("VF token", vfToken);
  return { ...open, vfToken };
}

/** Does something with a PF that is not opened yet, and puts the host back whatever happens (unless `keep`). @throws what `act` throws */
export async function puttingBack<T>(
  host: Host,
  pf: string,
  { keep, observer }: { readonly keep?: boolean; readonly observer: Observer },
  act: () => Promise<T>,
): Promise<T> {
  let result: T;
  try {
    result = await act();
  } catch (error) {
    // The first error is the one to tell; `restore` says again what could not be put back.
    if (keep !== true) tryPutBack(host, pf, observer);
    throw error;
  }
  if (keep !== true) putBack(host, pf, observer);
  return result;
}

/** `100000 frames, 8000000 bytes, all as sent; 90000 frames/s` */
export function resultText(result: ExchangeResult): string {
  const rate = Math.round(result.frames / (result.milliseconds / 1000));
  return `${result.frames} frames, ${result.bytes} bytes, all as sent; ${rate} frames/s`;
}

function putBack(host: Host, pf: string, observer: Observer): void {
  const { done, failed } = host.restore(pf);
  if (failed.length > 0) throw failed[0]!.error;
  observer.step(
    "restore",
    `${done.length} changes undone; ${pf} is on ${host.describe(pf).driver ?? "no driver"}`,
  );
}

function tryPutBack(host: Host, pf: string, observer: Observer): void {
  try {
    putBack(host, pf, observer);
  } catch (error) {
    observer.step("restore", `failed: ${error instanceof Error ? error.message : error}`);
  }
}
