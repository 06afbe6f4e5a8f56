/**
 * Ringside: a userspace driver stack for PCI and virtio functions.
 *
 * A host is opened by name, a function of it is opened for userspace, a virtio transport is found in the function, and a driver feeds it:
 *
 * ```ts
 * import { openHost, openTransport, VirtioRng } from "@ringside/ringside";
 *
 * using host = openHost("linux"); // or the directory of an emulated host
 * using device = host.open("02:00.0");
 * using transport = openTransport(device);
 * await using rng = VirtioRng.open(transport);
 * console.log(await rng.read(16));
 * ```
 *
 * The parts have doors of their own: `/host`, `/vfio`, `/vfio-user`, `/virtio`, `/emulation`, `/drivers/virtio-net`, `/drivers/virtio-rng`,
 * `/drivers/virtio-blk`, `/drivers/virtio-console`, `/cli`.
 *
 * @module
 */
export * from "./lib/errors/mod.ts";
export * from "./lib/host/mod.ts";
export * from "./lib/vfio/mod.ts";
export * from "./lib/sockets/vfio_user/mod.ts";
export * from "./lib/virtio/mod.ts";
export * from "./drivers/net/virtio_net.ts";
export * from "./drivers/rng/virtio_rng.ts";
export * from "./drivers/blk/virtio_blk.ts";
export * from "./drivers/console/virtio_console.ts";
export { type AdminMember, VirtioAdmin } from "./drivers/admin/virtio_admin.ts";
