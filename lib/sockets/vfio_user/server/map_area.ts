/**
 * MAP_AREA as a server carries it out: this library's extension for regions of which parts can be mapped for a while, or not by everybody.
 *
 * @module
 */
import { type OwnedFd, pageSizeBytes } from "../../../../ffi/mod.ts";
import { MAP_AREA_FLAG, mapArea } from "../protocol.ts";
import { RequestRefused } from "./refusal.ts";
import type { ServedDevice } from "./served_device.ts";

/**
 * Asks the device for the file behind a part of a region.
 *
 * @param payload of the MAP_AREA message.
 * @returns the reply's payload, and the file that goes with it: the device's
 * @throws RequestRefused, and what the device throws
 */
export function serveMapArea(
  device: ServedDevice,
  payload: Uint8Array,
): { bytes: Uint8Array<ArrayBuffer>; file: OwnedFd } {
  if (payload.byteLength !== mapArea.sizeBytes) throw invalid(`${payload.byteLength} bytes`);
  const { argsz, flags, index, reserved, offset, size, fileOffset } = mapArea.decode(payload);
  if (argsz < mapArea.sizeBytes) throw invalid(`argsz ${argsz}`);
  if ((flags & ~MAP_AREA_FLAG.write) !== 0) throw invalid(`flags 0x${flags.toString(16)}`);
  if (reserved !== 0 || fileOffset !== 0n) throw invalid(`reserved ${reserved}, file offset ${fileOffset}`);
  const { numRegions } = device.info;
  if (index >= numRegions) throw invalid(`region ${index} of ${numRegions}`);
  const page = BigInt(pageSizeBytes);
  if (size === 0n || size % page !== 0n || offset % page !== 0n) {
    throw invalid(`[${offset}, +${size}) is not made of whole pages`);
  }
  const { sizeBytes } = device.region(index);
  if (offset + size > BigInt(sizeBytes)) {
    throw invalid(`[${offset}, +${size}) is outside region ${index} of ${sizeBytes} bytes`);
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
  return { bytes, file: mapping.file };
}

function invalid(text: string): RequestRefused {
  return new RequestRefused("EINVAL", `MAP_AREA: ${text}`);
}
