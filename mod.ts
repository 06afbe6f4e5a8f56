/**
 * Ringside: a userspace driver stack for PCI and virtio functions.
 *
 * A host is opened by name, a function of it for userspace; a virtio transport is found in the function, and a driver feeds it:
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
 * The parts have doors of their own, with all that belongs to them:
 *
 * - `/host`: which functions there are, binding, VFs, the journal
 * - `/vfio`, `/vfio-user`: an opened function: regions, interrupts, DMA
 * - `/pci`, `/registers`: configuration space, capabilities, registers by name
 * - `/virtio`: transports, devices and queues, for drivers of one's own
 * - `/wait`: by polling, sleeping, or both
 * - `/drivers/virtio-net`, `-rng`, `-blk`, `-console`, `-ism`, `-ism-channel`, `-admin`, and `/drivers/virtio-net-exchange` for checked frames
 * - `/emulation`: the embedded host
 * - `/errors`, `/cli`
 *
 * @module
 */
export * from "./lib/errors/mod.ts";
export { SyscallError } from "./ffi/syscall_error.ts";
export { type Host, openHost } from "./lib/host/mod.ts";
export { DEVICE_FEATURE, isPciDevice, type VfioDevice, type VfioPciDevice } from "./lib/vfio/mod.ts";
export { FEATURE, openTransport, type VirtioTransport } from "./lib/virtio/mod.ts";
export { type AdminMember, VirtioAdmin } from "./drivers/admin/virtio_admin.ts";
export { VirtioBlk } from "./drivers/blk/virtio_blk.ts";
export { VirtioConsole } from "./drivers/console/virtio_console.ts";
export { IsmChannel } from "./drivers/ism/ism_channel.ts";
export { VirtioIsm } from "./drivers/ism/virtio_ism.ts";
export { VirtioManagement } from "./drivers/management/virtio_management.ts";
export { VirtioNet } from "./drivers/net/virtio_net.ts";
export { VirtioRng } from "./drivers/rng/virtio_rng.ts";
