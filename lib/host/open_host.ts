/**
 * A host by its name.
 *
 * @module
 */
import { requireType } from "../errors/doors.ts";
import { EmulatedHost } from "./emulated_host.ts";
import type { Host } from "./host.ts";
import { LinuxHost } from "./linux_host.ts";
import { VfioUserHost } from "./vfio_user_host.ts";

const SOCKET = "vfio-user:";

/**
 * Opens a host.
 * @param name `linux` for this machine; `vfio-user:` and the path of a socket for the one function behind it; else the directory of an emulated
 * host (`./linux` for a directory of that name).
 * @throws NotFoundError, PeerGoneError when nothing is served there; what `VfioUserHost.connect` throws
 */
export function openHost(name: string): Host {
  requireType(name, "string", "openHost: name");
  if (name === "linux") return new LinuxHost();
  return name.startsWith(SOCKET)
    ? VfioUserHost.connect(name.slice(SOCKET.length))
    : EmulatedHost.connect(name);
}
