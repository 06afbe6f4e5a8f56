/**
 * Devices on register windows, one of each form, whose driver's process or host is killed.
 *
 * @module
 */
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import type { DriverOptions } from "../../../drivers/driver_options.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import type { Host } from "../../../lib/host/mod.ts";
import { openTransport, type Profile } from "../../../lib/virtio/mod.ts";

const DEVICES = {
  one: ["a0000000.virtio_mmio", "virtio-net", { form: "v3" }, "mmio-v3"],
  two: ["a1000000.virtio_mmio", "virtio-net", { form: "msi-v2", sharing: true }, "mmio-msi-v2"],
  blk: ["a2000000.virtio_mmio", "virtio-blk", { form: "legacy" }, "spec"],
  rng: ["a3000000.virtio_mmio", "virtio-rng", { form: "modern" }, "spec"],
} as const satisfies Record<string, readonly [string, string, object, Profile]>;

/** Their topology. */
export const FUNCTIONS: Record<string, unknown>[] = Object.values(DEVICES).map(([address, kind, mmio]) => ({
  address,
  kind,
  mmio,
  ...(kind === "virtio-blk" ? { sizeBytes: 1 << 16 } : {}),
}));

/** Their addresses. */
export const ADDRESSES: readonly string[] = Object.values(DEVICES).map(([address]) => address);

/** Drivers of all of them. */
export interface Drivers {
  readonly one: VirtioNet;
  readonly two: VirtioNet;
  readonly blk: VirtioBlk;
  readonly rng: VirtioRng;
}

/** Opens them all; `owned` closes them. */
export async function openAll(
  host: Host,
  owned: AsyncDisposableStack,
  options: DriverOptions,
): Promise<Drivers> {
  const reach = ([address, , , profile]: typeof DEVICES[keyof typeof DEVICES]) => {
    if (host.describe(address).driver !== "vfio-platform") host.bind(address);
    return owned.use(openTransport(owned.use(host.open(address)), { profile }));
  };
  return {
    one: owned.use(await VirtioNet.open(reach(DEVICES.one), options)),
    two: owned.use(await VirtioNet.open(reach(DEVICES.two), options)),
    blk: owned.use(await VirtioBlk.open(reach(DEVICES.blk), options)),
    rng: owned.use(VirtioRng.open(reach(DEVICES.rng), options)),
  };
}

/** A frame from one network device to the other. */
export function frameOf({ one, two }: Drivers): Uint8Array {
  return Uint8Array.of(...two.mac, ...one.mac, ...new Uint8Array(100).fill(7));
}
