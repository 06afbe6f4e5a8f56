/**
 * The vhost-user protocol: a virtio device served by one process and driven by another, over a UNIX socket.
 *
 * `VhostUserDevice` is the front end's connection and memory; `openTransport` of the door `virtio` makes a transport of it, for all drivers.
 *
 * ```ts
 * import { VhostUserDevice } from "@ringside/ringside/vhost-user";
 * import { openTransport } from "@ringside/ringside/virtio";
 * import { VirtioNet } from "@ringside/ringside/drivers/virtio-net";
 *
 * using device = VhostUserDevice.connect("/tmp/vhost.sock", { deviceId: 1, reconnectMs: 10_000 });
 * using transport = openTransport(device);
 * using net = await VirtioNet.open(transport);
 * ```
 *
 * @module
 */
export { VhostUserDevice } from "./client/device.ts";
export type { VhostUserOptions } from "./client/options.ts";
