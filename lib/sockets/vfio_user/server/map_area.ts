/**
 * MAP_AREA as a server carries it out: this library's extension for regions of which parts can be mapped for a while, or not by everybody.
 *
 * @module
 */
import { MAP_AREA_FLAG, mapArea } from "../protocol.ts";
import { type Answer, regionOf } from "./queries.ts";
import { decodeRequest, invalid, RequestRefused } from "./refusal.ts";
import type { ServedDevice } from "./served_device.ts";

/**
 * Asks the device for the file behind a part of a region.
 *
 * @param payload of the MAP_AREA message.
 * @param pageBytes of this processor
 * @throws RequestRefused, and what the device throws
 */
export function serveMapArea(
  device: ServedDevice,
  payload: Uint8Array,
  pageBytes: number,
): Answer {
  const refuse = (text: string): RequestRefused => invalid("MAP_AREA", text);
  const { flags, index, reserved, offset, size, fileOffset } = decodeRequest(mapArea, payload, "MAP_AREA");
  if (payload.byteLength !== mapArea.sizeBytes) throw refuse(`${payload.byteLength} bytes`);
  if ((flags & ~MAP_AREA_FLAG.write) !== 0) throw refuse(`flags 0x${flags.toString(16)}`);
  if (reserved !== 0 || fileOffset !== 0n) throw refuse(`reserved ${reserved}, file offset ${fileOffset}`);
  const { sizeBytes } = regionOf(device, index, "MAP_AREA");
  const page = BigInt(pageBytes);
  if (size === 0n || size % page !== 0n || offset % page !== 0n) {
    throw refuse(`[${offset}, +${size}) is not made of whole pages`);
  }
  if (offset + size > BigInt(sizeBytes)) {
    throw refuse(`[${offset}, +${size}) is outside region ${index} of ${sizeBytes} bytes`);
  }
  const wantsWrite = (flags & MAP_AREA_FLAG.write) !== 0;
  const mapping = device.mapArea?.(index, Number(offset), Number(size), wantsWrite);
  if (mapping === undefined || (wantsWrite && !mapping.writable)) {
    throw new RequestRefused(
      "ENOTSUP",
      `MAP_AREA: [${offset}, +${size}) of region ${index} cannot be mapped${wantsWrite ? " writable" : ""}`,
    );
  }
  const bytes = mapArea.encode({
    argsz: mapArea.sizeBytes,
    flags: mapping.writable ? MAP_AREA_FLAG.write : 0,
    index,
    offset,
    size,
    fileOffset: BigInt(mapping.fileOffset),
  });
  return { bytes, fds: [mapping.file] };
}
