/**
 * Capability chains of VFIO info structures: pure. The kernel and vfio-user servers write them alike.
 *
 * @module
 */
import { ProtocolError } from "../errors/mod.ts";

/** One capability: its header, and where it starts in the info buffer. */
export interface InfoCapability {
  /** Id of its kind. */
  readonly id: number;
  /** Version of its kind. */
  readonly version: number;
  /** Byte offset from the start of the info buffer. */
  readonly offset: number;
}

const HEADER_BYTES = 8;

/**
 * Walks a chain of `vfio_info_cap_header`s.
 *
 * @param bytes the whole answer, fixed part first, cut to its `argsz`.
 * @param first `cap_offset` of the fixed part; 0 gives no capability.
 * @param fixedBytes size of the fixed part, which no capability may lie in.
 * @param what for messages, such as `0000:01:00.0 region 2`.
 * @throws ProtocolError when an offset leaves the buffer, or the chain runs in a circle.
 */
export function walkCapabilities(
  bytes: Uint8Array,
  first: number,
  fixedBytes: number,
  what: string,
): InfoCapability[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found: InfoCapability[] = [];
  const most = Math.floor((bytes.byteLength - fixedBytes) / HEADER_BYTES);
  for (let at = first; at !== 0;) {
    if (at < fixedBytes || at + HEADER_BYTES > bytes.byteLength) {
      throw new ProtocolError(
        `${what}: capability at offset ${at} lies outside [${fixedBytes}, ${bytes.byteLength})`,
      );
    }
    if (found.length >= most || found.some((one) => one.offset === at)) {
      throw new ProtocolError(`${what}: the capability chain comes back to offset ${at}`);
    }
    found.push({ id: view.getUint16(at, true), version: view.getUint16(at + 2, true), offset: at });
    at = view.getUint32(at + 4, true);
  }
  return found;
}

/**
 * Checks that a capability of `sizeBytes` at `offset` lies in the buffer.
 * @throws ProtocolError
 */
export function requireCapabilityBytes(
  bytes: Uint8Array,
  offset: number,
  sizeBytes: number,
  what: string,
): void {
  if (offset + sizeBytes > bytes.byteLength) {
    throw new ProtocolError(`${what}: capability at offset ${offset} needs ${sizeBytes} bytes`, {
      hint: `the answer has ${bytes.byteLength} bytes`,
    });
  }
}
