/**
 * `ringside ism FUNCTION detach TOKEN`
 *
 * @module
 */
import { IsmError, type VirtioIsm } from "../../drivers/ism/virtio_ism.ts";
import type { Host } from "../../lib/host/mod.ts";
import { print, printJson } from "../output.ts";
import type { Of } from "../parser.ts";
import { openIsm } from "./opening.ts";
import { tokenText } from "./token.ts";

/**
 * Sees to it that a function does not refer to a region. A function that could be opened is held by nobody else, and was reset by being opened: its
 * references are gone already, unless the device keeps them against the rules. So DETACH_REGION is sent, and its answer told.
 */
export async function ismDetach(host: Host, options: Of<"ism detach">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  // Says what is wrong with a token that names nothing.
  await ism.query(options.token);
  const detached = await tryDetach(ism, options.token);
  const left = await isLeft(ism, options.token);
  const token = tokenText(options.token);
  const { name } = ism.transport;
  if (options.json) return printJson({ function: name, token, detached, regionLeft: left });
  print(
    `${name} ${detached ? "has detached" : "does not refer to"} ${token}${
      detached ? "" : ": it was reset when it was opened"
    }; the region ${left ? "lives on" : "is gone"}`,
  );
}

/** @returns false when the device says that there was nothing to detach */
async function tryDetach(ism: VirtioIsm, token: bigint): Promise<boolean> {
  return await unlessNoEntry(async () => await ism.detach(token));
}

async function isLeft(ism: VirtioIsm, token: bigint): Promise<boolean> {
  return await unlessNoEntry(async () => void await ism.query(token));
}

async function unlessNoEntry(act: () => Promise<void>): Promise<boolean> {
  try {
    await act();
    return true;
  } catch (error) {
    if (error instanceof IsmError && error.ackName === "ENOENT") return false;
    throw error;
  }
}
