/**
 * Where the structures of a modern virtio function lie in its BARs, and the capabilities that say so (virtio 1.2 §4.1.4; reference 2.1).
 *
 * @module
 */
import type { MsixShape } from "../../../../pci/capability_builder.ts";
import { COMMON_CFG, COMMON_CFG_BYTES } from "../../../../virtio/spec/pci.ts";
import type { BarDeclaration, VendorCapability } from "../../../pci_function.ts";

/** BAR of the virtio structures: 64 bits wide, prefetchable, so that VFs' BARs may lie above 4 GiB. */
export const STRUCTURES_BAR = 4;
/** BAR of MSI-X table and PBA. */
export const MSIX_BAR = 1;
/** Each structure starts on a page of its own, so that a hypervisor can treat them apart: pages of x86, whatever this processor's are, since nothing of them is mapped. */
export const PAGE = 0x1000;
/** `notify_off_multiplier`: one doorbell of 4 bytes a queue, wide enough for NOTIFICATION_DATA. */
export const NOTIFY_MULTIPLIER = 4;

/** Bytes from the start of `STRUCTURES_BAR`. */
export const COMMON_AT = 0;
/** The ISR byte. */
export const ISR_AT = PAGE;
/** Device-specific configuration. */
export const DEVICE_AT = 2 * PAGE;
/** Doorbells. */
export const NOTIFY_AT = 3 * PAGE;

/** First page of `STRUCTURES_BAR` behind the doorbells: notify addresses of the legacy interface, on functions that have some. */
export function behindDoorbells(queueCount: number): number {
  return NOTIFY_AT + PAGE * Math.max(1, Math.ceil(queueCount * NOTIFY_MULTIPLIER / PAGE));
}

/** BARs of a function. @param bytesBehind what lies behind the doorbells */
export function structureBars(queueCount: number, vectors: number, bytesBehind = 0): BarDeclaration[] {
  return [
    { index: MSIX_BAR, sizeBytes: msixBytes(vectors), kind: "mem32", prefetchable: false },
    {
      index: STRUCTURES_BAR,
      sizeBytes: powerOfTwo(behindDoorbells(queueCount) + bytesBehind),
      kind: "mem64",
      prefetchable: true,
    },
  ];
}

/** MSI-X of a function: the table in the first half of its BAR, the PBA in the second. */
export function msixOf(vectors: number): MsixShape {
  return {
    vectors,
    table: { bar: MSIX_BAR, offset: 0 },
    pendingBits: { bar: MSIX_BAR, offset: msixBytes(vectors) / 2 },
  };
}

function msixBytes(vectors: number): number {
  return Math.max(PAGE, 2 * powerOfTwo(16 * vectors));
}

function powerOfTwo(atLeast: number): number {
  return 2 ** Math.ceil(Math.log2(atLeast));
}

/** The virtio capabilities of a function. `notifyOffset` may be changed by a device that lies. @param commonBytes of the common structure */
export function structureCapabilities(
  queueCount: number,
  configSizeBytes: number,
  notifyOffset: number = NOTIFY_AT,
  commonBytes: number = COMMON_CFG_BYTES.all,
): VendorCapability[] {
  const inBar = { kind: "virtio", bar: STRUCTURES_BAR } as const;
  const device = {
    ...inBar,
    structure: "device",
    regionOffset: DEVICE_AT,
    regionLength: configSizeBytes,
  } as const;
  return [
    { ...inBar, structure: "common", regionOffset: COMMON_AT, regionLength: commonBytes },
    { ...inBar, structure: "isr", regionOffset: ISR_AT, regionLength: 4 },
    ...(configSizeBytes > 0 ? [device] : []),
    {
      ...inBar,
      structure: "notify",
      regionOffset: notifyOffset,
      regionLength: queueCount * NOTIFY_MULTIPLIER,
      notifyOffMultiplier: NOTIFY_MULTIPLIER,
    },
    { kind: "virtio", structure: "pciCfg" },
  ];
}

/** True when an access lies in a structure; one of no bytes begins there. */
export function inside(offset: number, length: number, start: number, sizeBytes: number): boolean {
  return offset >= start && offset < start + sizeBytes && offset + length <= start + sizeBytes;
}

/** A write of 0 to `device_status`. */
export function isDeviceReset(offset: number, from: Uint8Array): boolean {
  return offset === COMMON_AT + COMMON_CFG.device_status.offset && from.length === 1 && from[0] === 0;
}
