/**
 * A function whose accesses, interrupts and DMA mappings are told as they happen. It stands before the device, so that nothing of it is in the way of
 * a device that is not traced.
 *
 * @module
 */
import type { EventFd } from "../../ffi/mod.ts";
import { requireType, typedCall } from "../errors/doors.ts";
import { UnsupportedError } from "../errors/mod.ts";
import type { DmaMemory, DmaSpace } from "../memory/mod.ts";
import { type IrqRequest, REGION, REGION_FLAG, type VfioDevice } from "../vfio/device.ts";
import type { VfioPciDevice } from "../vfio/pci_device.ts";
import { instead } from "./instead.ts";
import { type TraceRecord, type TraceSink, valueText } from "./records.ts";

/** Of each sink: when its trace began, and how many functions it has been given. */
const begun = new WeakMap<TraceSink, { readonly startMs: number; devices: number }>();

/** A record without what `Note` adds. */
type Told = TraceRecord extends infer R ? R extends TraceRecord ? Omit<R, "us" | "device"> : never : never;
type Note = (told: Told) => void;

/**
 * The same device, traced: drive this one in its place, and close it. Its regions cannot be mapped, so that each access to them is one that is seen;
 * 64-bit accesses may be split by what answers. Queues of a traced device cannot be lent to other threads.
 *
 * Interrupts are told when the driver takes them, doorbells as writes to the places that it asked for as doorbells.
 * @param sink is told of everything, in order, after it was done; what it throws, the driver gets. Functions of one sink are of one trace.
 */
export function traced<D extends VfioDevice>(device: D, sink: TraceSink): D {
  requireType(device, "object", "traced: device", "name", "regionInfo", "readRegion", "writeRegion");
  requireType(sink, "function", "traced: sink");
  return typedCall("traced", [device, sink], () => {
    const trace = begun.get(sink) ?? { startMs: performance.now(), devices: 0 };
    begun.set(sink, trace);
    const number = trace.devices++;
    const note: Note = (told) => {
      const us = Math.round((performance.now() - trace.startMs) * 1000);
      sink({ us, device: number, ...told } as TraceRecord);
    };
    note(opening(device));
    return instead(device, members(device, note) as Partial<D>);
  });
}

function opening(device: VfioDevice): Told {
  const { name, path, info } = device;
  const regions = Array.from({ length: info.numRegions }, (_, at) => {
    const { flags, sizeBytes } = device.regionInfo(at);
    return { flags: flags & ~(REGION_FLAG.mmap | REGION_FLAG.caps), sizeBytes };
  });
  const irqs = Array.from({ length: info.numIrqs }, (_, at) => {
    const { flags, count } = device.irqInfo(at);
    return { flags, count };
  });
  const isPci = (info.flags & 2) !== 0;
  const config = new Uint8Array(isPci ? regions[REGION.config]?.sizeBytes ?? 0 : 0);
  if (config.length > 0) device.readRegion(REGION.config, 0, config);
  const bytes = [...config].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { kind: "open", name, path, flags: info.flags, regions, irqs, config: bytes };
}

function members(device: VfioDevice & Partial<VfioPciDevice>, note: Note): Partial<VfioPciDevice> {
  const doorbells = new Set<string>();
  const spaces = new Map<number, DmaSpace>([[0, tracedSpace(device.dma, 0, note)]]);
  const access = (
    kind: "read" | "write" | "doorbell",
    region: number,
    offset: number,
    bytes: Uint8Array<ArrayBuffer>,
    make: () => void,
  ) => {
    const place = { kind, region, offset, width: bytes.length };
    attempt(make, (error) => {
      note({ ...place, value: kind === "read" && error !== undefined ? "" : valueText(bytes), ...error });
    });
  };
  return {
    dma: spaces.get(0)!,
    regionInfo: (index) => {
      const info = device.regionInfo(index);
      return { ...info, flags: info.flags & ~REGION_FLAG.mmap, mmapAreas: [], msixMappable: false };
    },
    readRegion: (index, offset, into) =>
      access("read", index, offset, into, () => device.readRegion(index, offset, into)),
    writeRegion: (index, offset, from) => {
      const kind = doorbells.has(`${index} ${offset} ${from.length}`) ? "doorbell" : "write";
      access(kind, index, offset, from, () => device.writeRegion(index, offset, from));
    },
    doorbellFd: (index, offset, sizeBytes) => {
      doorbells.add(`${index} ${offset} ${sizeBytes}`);
      return undefined;
    },
    setIrqs: (request) => {
      attempt(() => device.setIrqs(request), (error) => note({ ...irqs(request), ...error }));
      if (request.action !== "trigger") return;
      request.eventFds.forEach((one, at) => {
        if (one !== null) watch(one, request.index, request.start + at, note);
      });
    },
    reset: () => {
      device.reset();
      note({ kind: "reset" });
    },
    hotReset: () => {
      if (device.hotReset === undefined) throw new UnsupportedError(`${device.name} has no hot reset`);
      device.hotReset();
      note({ kind: "reset" });
    },
    close: () => {
      const wasClosed = device.closed;
      device.close();
      if (!wasClosed) note({ kind: "close" });
    },
    [Symbol.dispose]() {
      this.close!();
    },
    ...(device.addressSpace === undefined ? {} : {
      addressSpace: (id) => {
        const space = device.addressSpace!(id);
        const known = spaces.get(id) ?? tracedSpace(space, id, note);
        spaces.set(id, known);
        return known;
      },
    }),
  };
}

/** Does it, and tells how it ended. */
function attempt(make: () => void, tell: (error: { readonly error: string } | undefined) => void): void {
  try {
    make();
  } catch (error) {
    tell({ error: error instanceof Error ? error.message : String(error) });
    throw error;
  }
  tell(undefined);
}

function irqs(request: IrqRequest): Told {
  const { index, action } = request;
  const start = "start" in request ? request.start : 0;
  const count = "eventFds" in request
    ? request.eventFds.length
    : "which" in request
    ? request.which.length
    : "count" in request
    ? request.count
    : Number("eventFd" in request);
  return { kind: "irqs", index, action, start, count };
}

const watched = new WeakMap<EventFd, { index: number; vector: number; note: Note }>();

/** Whoever takes from the eventfd tells of it: its owner is the driver, so it cannot be another one. */
function watch(eventFd: EventFd, index: number, vector: number, note: Note): void {
  const isNew = !watched.has(eventFd);
  watched.set(eventFd, { index, vector, note });
  if (!isNew) return;
  const take = eventFd.take.bind(eventFd);
  eventFd.take = () => {
    const count = take();
    const { note: tell, ...from } = watched.get(eventFd)!;
    if (count > 0) tell({ kind: "interrupt", ...from, count });
    return count;
  };
}

function tracedSpace(dma: DmaSpace, space: number, note: Note): DmaSpace {
  const mapped = (kind: "map" | "unmap", iova: bigint, sizeBytes: number, label: string) =>
    note({ kind, iova: `0x${iova.toString(16)}`, sizeBytes, label, space });
  const lent = new Map<bigint, number>();
  return instead(dma, {
    allocate: (sizeBytes, options) => {
      const memory: DmaMemory = dma.allocate(sizeBytes, options);
      mapped("map", memory.iova, memory.sizeBytes, memory.label);
      const close = memory.close.bind(memory);
      memory.close = () => {
        const wasClosed = memory.closed;
        close();
        if (!wasClosed) mapped("unmap", memory.iova, memory.sizeBytes, memory.label);
      };
      return memory;
    },
    lend: (memory, backing, iova) => {
      dma.lend(memory, backing, iova);
      lent.set(iova, memory.sizeBytes);
      mapped("map", iova, memory.sizeBytes, "lent");
    },
    takeBack: (iova) => {
      dma.takeBack(iova);
      if (lent.has(iova)) mapped("unmap", iova, lent.get(iova)!, "lent");
      lent.delete(iova);
    },
  });
}
