/**
 * `ringside ism FUNCTION detach TOKEN`
 *
 * @module
 */
import { IsmError } from "../../drivers/ism/virtio_ism.ts";
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
  const detached = await unlessNoEntry(ism.detach(options.token));
  const left = await unlessNoEntry(ism.query(options.token));
  const token = tokenText(options.token);
  const { name } = ism.transport;
  if (options.json) return printJson({ function: name, token, detached, regionLeft: left });
  print(
    `${name} ${detached ? "has detached" : "does not refer to"} ${token}${
      detached ? "" : ": it was reset when it was opened"
    }; the region ${left ? "lives on" : "is gone"}`,
  );
}

/** @returns false when the device says that there is no such region, or that it was not attached */
async function unlessNoEntry(answer: Promise<unknown>): Promise<boolean> {
  try {
    await answer;
    return true;
  } catch (error) {
    if (error instanceof IsmError && error.ackName === "ENOENT") return false;
    throw error;
  }
}
