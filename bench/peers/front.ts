/**
 * This library's drivers as processes of their own, so that they are pinned and started as other peers are.
 *
 * @module
 */
import { type Command, Peer } from "../../tests/peers/rig/peer.ts";

/** A script of this folder as a program. */
export function frontCommand(script: string): Command {
  const run = ["run", "--quiet", "--no-check", "--allow-ffi", "--allow-env"];
  return { name: script, argv: [Deno.execPath(), ...run, new URL(script, import.meta.url).href] };
}

/** Starts one, and waits until it says that it is ready. @param argument is given to it as JSON @throws PeerError */
export async function startFront(script: string, argument: unknown, cpu: number): Promise<Peer> {
  const peer = new Peer(frontCommand(script), [JSON.stringify(argument)], { cpu });
  try {
    await peer.waitFor(/^ready$/m);
  } catch (error) {
    await peer.stop();
    throw error;
  }
  return peer;
}
