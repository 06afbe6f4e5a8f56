/**
 * What an emulated host tells of its devices, whoever drives them.
 *
 * @module
 */
import { isErrno } from "../ffi/mod.ts";
import { EmulatedHost } from "../lib/host/emulated_host.ts";
import type { Host } from "../lib/host/mod.ts";
import { SocketSysfs } from "../lib/host/sysfs/socket_sysfs.ts";

/** A file below `/ringside`. @returns undefined on another host, and on one that has no such file, as older ones */
export function hostReport(host: Host, name: string): string | undefined {
  if (!(host instanceof EmulatedHost)) return undefined;
  using sysfs = new SocketSysfs(`${host.name}/host.sock`);
  try {
    return sysfs.readText(`/ringside/${name}`);
  } catch (error) {
    if (isErrno(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** As `hostReport`, of a file with an object of JSON a line. */
export function hostRecords<T>(host: Host, name: string): T[] | undefined {
  return hostReport(host, name)?.split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}
