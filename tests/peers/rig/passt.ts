/**
 * passt: a network for one virtual machine without privileges, a virtio-net device behind a vhost-user socket.
 *
 * @module
 */
import { accessible } from "../../../ffi/mod.ts";
import { NotFoundError } from "../../../lib/errors/mod.ts";
import { Peer } from "./peer.ts";
import { findProgram } from "./programs.ts";

/** Addresses that passt gives and has, whatever network the host is on. */
export const PASST = {
  /** The machine's. */
  address: [192, 0, 2, 77],
  /** passt's own. */
  gateway: [192, 0, 2, 1],
  mac: [0x52, 0x54, 0, 9, 9, 9],
} as const;

/** Starts it. @throws NotFoundError; PeerError */
export async function startPasst(socket: string): Promise<Peer> {
  const program = findProgram("passt");
  if (program === undefined) {
    throw new NotFoundError("passt is not here", { hint: "run: deno task peers:setup" });
  }
  const dotted = (address: readonly number[]) => address.join(".");
  const mac = PASST.mac.map((byte) => byte.toString(16).padStart(2, "0")).join(":");
  const peer = new Peer(program, [
    ...["--vhost-user", "--socket", socket, "--foreground", "--ipv4-only", "--mac-addr", mac],
    ...["--address", dotted(PASST.address), "--netmask", "24", "--gateway", dotted(PASST.gateway)],
  ]);
  try {
    await peer.untilListening(socket);
  } catch (error) {
    await peer.stop();
    throw error;
  }
  return peer;
}

let allowed: boolean | undefined;

/** True where processes may make user namespaces, which passt is shut into. */
export function userNamespaces(): boolean {
  const program = "/usr/bin/unshare";
  allowed ??= accessible(program) && new Deno.Command(program, {
    args: ["--user", "--map-root-user", "--mount", "true"],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).outputSync().success;
  return allowed;
}
