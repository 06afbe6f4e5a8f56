/**
 * The memory that says which chains of split queues a back end has not given back, which its front end keeps for the back end that comes after it.
 *
 * Devices here give chains back in the order in which they took them, and hold none between two turns. So the used index says all that there is
 * to say of them, and what they leave in that memory is its header.
 *
 * @module
 */
import { createSharedFile, MappedMemory, type OwnedFd, pageSizeBytes } from "../../../../../ffi/mod.ts";
import { ProtocolError } from "../../../../errors/mod.ts";
import { checkPassedFile } from "../../../../sockets/passed_fd.ts";
import {
  INFLIGHT_VERSION,
  inflightSplitDescriptor,
  inflightSplitQueue,
} from "../../../../sockets/vhost_user/protocol.ts";

/** Regions begin at multiples of it, as QEMU's and DPDK's do. */
const ALIGNMENT = 64;

/** Bytes of the region of one queue. */
function regionBytes(queueSize: number): number {
  const bytes = inflightSplitQueue.sizeBytes + queueSize * inflightSplitDescriptor.sizeBytes;
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Memory for so many queues, of zeroes. @throws SyscallError */
export function makeInflight(
  queues: number,
  queueSize: number,
): { readonly file: OwnedFd; readonly sizeBytes: number } {
  const bytes = queues * regionBytes(queueSize);
  const sizeBytes = Math.ceil(bytes / pageSizeBytes) * pageSizeBytes;
  return { file: createSharedFile("vhost-user-inflight", sizeBytes), sizeBytes };
}

/**
 * Takes memory that a back end made: a new one is marked as ours. It is looked at once, and not kept.
 * @throws ProtocolError when it is none, or when another back end left chains in it that are neither available nor used; SyscallError
 */
export function takeInflight(
  file: OwnedFd,
  offset: bigint,
  sizeBytes: bigint,
  queues: number,
  queueSize: number,
): void {
  const bytes = queues * regionBytes(queueSize);
  if (
    sizeBytes < BigInt(bytes) || offset % BigInt(pageSizeBytes) !== 0n ||
    offset > BigInt(Number.MAX_SAFE_INTEGER)
  ) {
    throw new ProtocolError(
      `memory for chains in flight: ${sizeBytes} bytes at ${offset}, ${queues} queues of ${queueSize} need ${bytes} at a page's start`,
    );
  }
  // Its own file may be cut by the front end, and is looked at this once: it must be one that cannot.
  checkPassedFile(file, offset, bytes, true, "memory for chains in flight");
  using memory = MappedMemory.map(file, bytes, { offset });
  const view = new DataView(memory.buffer);
  for (let queue = 0; queue < queues; queue++) {
    const at = queue * regionBytes(queueSize);
    const { version, descriptorCount } = inflightSplitQueue.fields;
    const known = view.getUint16(at + version.offset, true);
    if (known === 0) {
      view.setUint16(at + version.offset, INFLIGHT_VERSION, true);
      view.setUint16(at + descriptorCount.offset, queueSize, true);
      continue;
    }
    if (known !== INFLIGHT_VERSION || view.getUint16(at + descriptorCount.offset, true) !== queueSize) {
      throw new ProtocolError(
        `memory for chains in flight: region ${queue} has version ${known}, or another size`,
      );
    }
    for (let i = 0; i < queueSize; i++) {
      if (view.getUint8(at + inflightSplitQueue.sizeBytes + i * inflightSplitDescriptor.sizeBytes) === 0) {
        continue;
      }
      throw new ProtocolError(
        `memory for chains in flight: queue ${queue}: another back end left chain ${i}, out of order`,
      );
    }
  }
}
