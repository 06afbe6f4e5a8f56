/**
 * What a client may ask of the device: by command, the answer as a pure function of the request.
 *
 * @module
 */
import type { OwnedFd } from "../../../../ffi/mod.ts";
import { irqInfo, regionInfo } from "../../../vfio/kernel/abi.ts";
import { COMMAND, regionIoFds, userDeviceInfo } from "../protocol.ts";
import { encodeRegionIoFds, type IoEventFdArea } from "../region_io_fds.ts";
import { decodeRequest, invalid } from "./refusal.ts";
import { encodeRegionInfo } from "./region_reply.ts";
import type { ServedDevice, ServedRegion } from "./served_device.ts";

/** What a reply has. */
export interface Answer {
  /** The payload. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** What comes beside it; the device's own. */
  readonly fds?: readonly OwnedFd[] | undefined;
}

/** @param clientFds descriptors that the client takes in one message @throws RequestRefused, and what the device throws */
type Query = (device: ServedDevice, payload: Uint8Array, clientFds: number) => Answer;

/** By `COMMAND` number. */
export const QUERIES: ReadonlyMap<number, Query> = new Map<number, Query>([
  [COMMAND.deviceGetInfo, (device, payload) => {
    decodeRequest(userDeviceInfo, payload, "DEVICE_GET_INFO");
    return { bytes: userDeviceInfo.encode({ argsz: userDeviceInfo.sizeBytes, ...device.info }) };
  }],
  [COMMAND.deviceGetRegionInfo, (device, payload, clientFds) => {
    const { argsz, index } = decodeRequest(regionInfo, payload, "DEVICE_GET_REGION_INFO");
    const region = regionOf(device, index, "DEVICE_GET_REGION_INFO");
    const { bytes, complete, mappable } = encodeRegionInfo(region, argsz);
    return { bytes, fds: complete && mappable && clientFds > 0 ? [region.file!] : undefined };
  }],
  [COMMAND.deviceGetRegionIoFds, regionIoFdsOf],
  [COMMAND.deviceGetIrqInfo, (device, payload) => {
    const { index } = decodeRequest(irqInfo, payload, "DEVICE_GET_IRQ_INFO");
    const { numIrqs } = device.info;
    if (index >= numIrqs) throw invalid("DEVICE_GET_IRQ_INFO", `interrupt index ${index} of ${numIrqs}`);
    const { flags, count } = device.irq(index);
    return { bytes: irqInfo.encode({ argsz: irqInfo.sizeBytes, flags, index, count }) };
  }],
]);

/** The region that a request names. @throws RequestRefused when there is none */
export function regionOf(device: ServedDevice, index: number, command: string): ServedRegion {
  const { numRegions } = device.info;
  if (index >= numRegions) throw invalid(command, `region ${index} of ${numRegions}`);
  return device.region(index);
}

function regionIoFdsOf(device: ServedDevice, payload: Uint8Array, clientFds: number): Answer {
  const command = "DEVICE_GET_REGION_IO_FDS";
  const { argsz, flags, index, count } = decodeRequest(regionIoFds, payload, command);
  if (flags !== 0 || count !== 0) throw invalid(command, `flags 0x${flags.toString(16)}, count ${count}`);
  regionOf(device, index, command);
  const fds: OwnedFd[] = [];
  const areas: IoEventFdArea[] = [];
  for (const { fd: { fd }, offset, sizeBytes, value } of device.doorbells(index)) {
    let fdIndex = fds.indexOf(fd);
    if (fdIndex < 0) {
      // Doorbells are optional: those that the client's limit on descriptors leaves out are written to as registers.
      if (fds.length === clientFds) continue;
      fdIndex = fds.push(fd) - 1;
    }
    const area = { offset, sizeBytes, fdIndex };
    areas.push(value === undefined ? area : { ...area, value });
  }
  const { bytes, complete } = encodeRegionIoFds(index, areas, argsz);
  return { bytes, fds: complete ? fds : undefined };
}
