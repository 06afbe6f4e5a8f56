/**
 * Events of regions as text and as plain data.
 *
 * @module
 */
import type { IsmEvent, IsmRegion } from "../../drivers/ism/virtio_ism.ts";
import { countText, jsonText, print } from "../output.ts";
import { tokenText } from "./token.ts";

/** Prints an event: a line of text, or of JSON. */
export function printEvent(event: IsmEvent, json: boolean): void {
  print(json ? jsonText(eventReport(event), 0) : eventText(event));
}

function eventReport(event: IsmEvent): Record<string, unknown> {
  switch (event.type) {
    case "update":
      return { event: "update", token: tokenOf(event.region), devid: event.devid ?? null };
    case "attach":
    case "detach": {
      const { type, region, devid, peers } = event;
      return { event: type, token: tokenOf(region), devid, peers };
    }
    case "buffer-free":
      return { event: "buffer-free", buffer: `0x${event.buffer.toString(16)}` };
    case "fault":
      return { event: "fault", message: event.error.message };
  }
}

function eventText(event: IsmEvent): string {
  switch (event.type) {
    case "update": {
      const who = event.devid === undefined ? "somebody" : `device ${event.devid}`;
      return `update  ${regionName(event.region)}  by ${who}`;
    }
    case "attach":
    case "detach": {
      const { type, region, devid, peers } = event;
      return `${type}  ${regionName(region)}  by device ${devid}; ${peersText(peers)}`;
    }
    case "buffer-free":
      return `buffer-free  0x${event.buffer.toString(16)}`;
    case "fault":
      return `fault  ${event.error.message}`;
  }
}

function peersText(peers: bigint): string {
  return peers === 0n
    ? "no other refers to it now"
    : `${countText(Number(peers), "other")} ${peers === 1n ? "refers" : "refer"} to it now`;
}

function regionName(region: IsmRegion | undefined): string {
  return region === undefined ? "a region that is detached" : tokenText(region.token);
}

function tokenOf(region: IsmRegion | undefined): string | null {
  return region === undefined ? null : tokenText(region.token);
}
