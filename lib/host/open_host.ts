/**
 * A host by its name.
 *
 * @module
 */
import { EmulatedHost } from "./emulated_host.ts";
import type { Host } from "./host.ts";
import { LinuxHost } from "./linux_host.ts";

/**
 * Opens a host.
 * @param name `linux` for this machine, else the directory of an emulated host (`./linux` for a directory of that name).
 * @throws NotFoundError, PeerGoneError when no emulated host is served there.
 */
export function openHost(name: string): Host {
  return name === "linux" ? new LinuxHost() : EmulatedHost.connect(name);
}
