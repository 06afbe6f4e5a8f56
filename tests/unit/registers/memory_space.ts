/** Bytes as a space of registers. */
import type { RegisterSpace } from "../../../lib/registers/mod.ts";
import { requireFit } from "../../../lib/registers/registers.ts";

/** Little-endian bytes that tell which accesses came. */
export function memory(sizeBytes = 80): { space: RegisterSpace; view: DataView; seen: string[] } {
  const view = new DataView(new ArrayBuffer(sizeBytes));
  const seen: string[] = [];
  const space: RegisterSpace = {
    read: (offset, width) => {
      seen.push(`r${width}@${offset}`);
      return width === 1
        ? view.getUint8(offset)
        : width === 2
        ? view.getUint16(offset, true)
        : view.getUint32(offset, true);
    },
    write: (offset, width, value) => {
      requireFit(value, width);
      seen.push(`w${width}@${offset}`);
      if (width === 1) view.setUint8(offset, value);
      else if (width === 2) view.setUint16(offset, value, true);
      else view.setUint32(offset, value, true);
    },
  };
  return { space, view, seen };
}
