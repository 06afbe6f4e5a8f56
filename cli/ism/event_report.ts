/**
 * Events of regions as text and as plain data.
 *
 * @module
 */
import type { IsmEvent } from "../../drivers/ism/virtio_ism.ts";
import { countText, jsonText, print } from "../output.ts";
import { tokenText } from "./token.ts";

/** Prints an event: a line of text, or of JSON. */
export function printEvent(event: IsmEvent, json: boolean): void {
  const [text, facts] = told(event);
  print(json ? jsonText({ event: event.type, ...facts }, 0) : `${event.type}  ${text}`);
}

/** An event in words, and as plain data. */
function told(event: IsmEvent): [text: string, facts: Record<string, unknown>] {
  if (event.type === "fault") return [event.error.message, { message: event.error.message }];
  if (event.type === "buffer-free") {
    const buffer = `0x${event.buffer.toString(16)}`;
    return [buffer, { buffer }];
  }
  const { region, devid } = event;
  const token = region === undefined ? null : tokenText(region.token);
  const who = devid === undefined ? "somebody" : `device ${devid}`;
  const what = `${token ?? "a region that is detached"}  by ${who}`;
  if (event.type === "update") return [what, { token, devid: devid ?? null }];
  return [`${what}; ${peersText(event.peers)}`, { token, devid, peers: event.peers }];
}

function peersText(peers: bigint): string {
  return peers === 0n
    ? "no other refers to it now"
    : `${countText(Number(peers), "other")} ${peers === 1n ? "refers" : "refer"} to it now`;
}
