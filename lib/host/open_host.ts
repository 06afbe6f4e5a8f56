/**
 * A host by its name.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { EmulatedHost } from "./emulated_host.ts";
import type { Host } from "./host.ts";
import { LinuxHost } from "./linux_host.ts";
import { VfioUserHost } from "./vfio_user_host.ts";
import { VhostUserHost } from "./vhost_user_host.ts";

const VFIO_SOCKET = "vfio-user:";
const VHOST_SOCKET = "vhost-user:";

/** How to open a host. */
export interface OpenHostOptions {
  /** How this process is called where it holds a function, for other processes to read. Default: its command line. */
  readonly holder?: string;
}

/**
 * Opens a host.
 * @param name `linux` for this machine; `vfio-user:` and the path of a socket for the one function behind it; `vhost-user:`, such a path and `,type=net`
 * (or another) for the one virtio device behind it; else the directory of an emulated host (`./linux` for a directory of that name).
 * @throws UsageError (no name), NotFoundError, PeerGoneError when nothing is served there; what `VfioUserHost.connect` and `VhostUserHost.connect` throw
 */
export function openHost(name: string, options: OpenHostOptions = {}): Host {
  requireType(name, "string", "openHost: name");
  if (name === "") {
    throw new UsageError("the name of a host is empty", {
      hint: "linux, the directory of an emulated host, vfio-user:SOCKET, or vhost-user:SOCKET,type=net",
    });
  }
  if (name === "linux") return new LinuxHost(options);
  if (name.startsWith(VFIO_SOCKET)) return VfioUserHost.connect(name.slice(VFIO_SOCKET.length));
  if (name.startsWith(VHOST_SOCKET)) return VhostUserHost.connect(name.slice(VHOST_SOCKET.length));
  return EmulatedHost.connect(name, options);
}
