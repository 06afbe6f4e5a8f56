/**
 * In a microvm: looks at QEMU's own virtio-mmio devices, which no driver of the kernel has, by a mapping of `/dev/mem`, and brings them up. Started by
 * `microvm_test.ts` with a `MicrovmTask` as its only argument.
 */
import { accessible, readText } from "../../../ffi/mod.ts";
import { DeviceMemory } from "../physical_memory.ts";
import { report } from "./job_guest.ts";

/** What the kernel calls a virtio-mmio device that ACPI describes. */
const ACPI_DEVICE = /^([0-9a-f]+)-([0-9a-f]+) : (LNRO0005:\d+)$/gm;

/** Where the device's configuration begins; before it all registers have 32 bits. */
const CONFIG = 0x100;

/** A register window as the machine describes it. */
export interface WindowReport {
  readonly what: "window";
  /** The kernel's name for the device. */
  readonly name: string;
  readonly physical: number;
  readonly sizeBytes: number;
  /** It has a driver of the kernel. */
  readonly driven: boolean;
}

/** What registers of one device read, by raw accesses. */
export interface MapReport {
  readonly what: "map";
  readonly physical: number;
  /** Every 32 bits before the configuration after a reset, by offset in hexadecimal, without those that read 0. */
  readonly registers: Readonly<Record<string, number>>;
  /** The first bytes of the configuration, each read alone. */
  readonly config: readonly number[];
  /** The same bytes by 16 bits at a time. */
  readonly configBy16: readonly number[];
  /** DeviceFeatures for DeviceFeaturesSel 0 and 1. */
  readonly features: readonly number[];
  /** QueueSizeMax of the first queues. */
  readonly queueSizes: readonly number[];
  /** Status as read back after ACKNOWLEDGE, DRIVER, all features and FEATURES_OK, VERSION_1 alone and FEATURES_OK, and after a reset. */
  readonly statuses: readonly number[];
  /** QueueReady of queue 0 as read back after 1, and after 0; or QueuePFN after page number 5, and after 0. */
  readonly queue: readonly number[];
  /** SHMLen and SHMBase of region 0, low and high halves. */
  readonly sharedMemory: readonly number[];
}

/** Maps all windows that the kernel knows. */
function windows(): WindowReport[] {
  return [...readText("/proc/iomem").matchAll(ACPI_DEVICE)].map(([, first = "", last = "", name = ""]) => ({
    what: "window",
    name,
    physical: parseInt(first, 16),
    sizeBytes: parseInt(last, 16) - parseInt(first, 16) + 1,
    driven: accessible(`/sys/bus/platform/devices/${name}/driver`),
  }));
}

/** Reads and writes registers by their numbers, and leaves the device reset. */
function mapOf(registers: DeviceMemory, physical: number): MapReport {
  const read = (offset: number): number => registers.read(offset, 4);
  const write = (offset: number, value: number): void => registers.write(offset, 4, value);
  const status = (...bits: number[]): number[] =>
    bits.map((value) => {
      write(0x070, value);
      return read(0x070);
    });
  // The firmware may have driven it.
  write(0x070, 0);
  write(0x014, 0);
  write(0x030, 0);
  const all = Array.from({ length: CONFIG / 4 }, (_, index) => [(4 * index).toString(16), read(4 * index)]);
  const features = [0, 1].map((select) => {
    write(0x014, select);
    return read(0x010);
  });
  const queueSizes = [0, 1, 2, 3].map((queue) => {
    write(0x030, queue);
    return read(0x034);
  });
  write(0x030, 0);
  const accept = (low: number, high: number): void => {
    write(0x024, 0);
    write(0x020, low);
    write(0x024, 1);
    write(0x020, high);
  };
  const statuses = status(1, 3);
  accept(0xffff_ffff, 0xffff_ffff);
  statuses.push(...status(11));
  write(0x070, 0);
  status(1, 3);
  accept(0, 1);
  statuses.push(...status(11));
  const legacy = read(0x004) === 1;
  let queue: number[];
  if (legacy) {
    write(0x028, 4096);
    write(0x038, 4);
    write(0x03c, 4096);
    // Nothing is there: the ring is not looked at before a notification.
    queue = [5, 0].map((page) => {
      write(0x040, page);
      return read(0x040);
    });
  } else {
    write(0x038, 4);
    queue = [1, 0].map((ready) => {
      write(0x044, ready);
      return read(0x044);
    });
  }
  statuses.push(...status(0));
  write(0x0ac, 0);
  return {
    what: "map",
    physical,
    registers: Object.fromEntries(all.filter(([, value]) => value !== 0)),
    config: Array.from({ length: 12 }, (_, index) => registers.read(CONFIG + index, 1)),
    configBy16: Array.from({ length: 6 }, (_, index) => registers.read(CONFIG + 2 * index, 2)),
    features,
    queueSizes,
    statuses,
    queue,
    sharedMemory: [0x0b0, 0x0b4, 0x0b8, 0x0bc].map(read),
  };
}

if (import.meta.main) {
  for (const window of windows()) {
    report(window);
    using registers = new DeviceMemory(window.physical, window.sizeBytes);
    report(mapOf(registers, window.physical));
  }
}
