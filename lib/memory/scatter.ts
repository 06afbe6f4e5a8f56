/**
 * Scatter lists: parts of DMA memory as a device takes them, in pieces.
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { ClosedError, UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import { DmaMemory } from "./dma.ts";

/** A part of DMA memory. */
export interface DmaPart {
  /** What it is a part of. */
  readonly memory: DmaMemory;
  /** Bytes from its start. Default 0. */
  readonly offset?: number;
  /** Default: to its end. */
  readonly lengthBytes?: number;
}

/** A piece, as a descriptor has it. */
export interface DmaPiece {
  /** Where the device finds it. */
  readonly iova: bigint;
  /** How much of it there is. */
  readonly lengthBytes: number;
}

/**
 * The parts as pieces, in order. Parts that follow one another for the device are one piece.
 * @param boundaryBytes a power of two that no piece crosses a multiple of, as 4096 for NVMe's PRPs. Default: pieces are as long as can be
 * @throws UsageError for a part that is not in its memory, ClosedError for memory that is closed
 */
export function scatterList(parts: readonly DmaPart[], boundaryBytes?: number): DmaPiece[] {
  return typedCall("scatterList", [parts, boundaryBytes], () => piecesOf(parts, boundaryBytes));
}

function piecesOf(parts: readonly DmaPart[], boundaryBytes: number | undefined): DmaPiece[] {
  requireType(parts, "array", "scatterList: parts");
  if (
    boundaryBytes !== undefined &&
    !(Number.isSafeInteger(boundaryBytes) && Number.isInteger(Math.log2(boundaryBytes)))
  ) {
    throw new UsageError(`a boundary of ${shown(boundaryBytes)} bytes`, { hint: "a power of two" });
  }
  const boundary = boundaryBytes === undefined ? undefined : BigInt(boundaryBytes);
  const pieces: { iova: bigint; lengthBytes: number }[] = [];
  for (const part of parts) {
    requireType(part, "object", "scatterList: a part", "memory");
    const { memory, offset = 0 } = part;
    if (!(memory instanceof DmaMemory)) {
      throw new UsageError(`scatterList: ${shown(memory)} is no DMA memory`);
    }
    if (!Number.isSafeInteger(offset)) throw new UsageError(`${memory.label} has no offset ${shown(offset)}`);
    const { lengthBytes = memory.sizeBytes - offset } = part;
    if (memory.closed) throw new ClosedError(memory.label);
    const inside = Number.isSafeInteger(lengthBytes) && offset >= 0 &&
      lengthBytes >= 0 &&
      offset + lengthBytes <= memory.sizeBytes;
    if (!inside) {
      throw new UsageError(`${memory.label} has no ${shown(lengthBytes)} bytes at ${shown(offset)}`, {
        hint: `it has ${memory.sizeBytes} bytes`,
      });
    }
    for (let at = memory.iova + BigInt(offset), left = lengthBytes; left > 0;) {
      const room = boundary === undefined ? left : Number(boundary - at % boundary);
      const length = Math.min(left, room);
      const last = pieces.at(-1);
      const goesOn = last !== undefined && last.iova + BigInt(last.lengthBytes) === at &&
        (boundary === undefined || at % boundary !== 0n);
      if (goesOn) last.lengthBytes += length;
      else pieces.push({ iova: at, lengthBytes: length });
      at += BigInt(length);
      left -= length;
    }
  }
  return pieces;
}
