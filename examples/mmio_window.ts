/**
 * Drives a virtio-mmio device through a register window that this script makes: an entropy source, by polling. A window over `/dev/mem` or UIO is
 * the same object over a mapping; this one is over region 0 of a VFIO device, so that it runs on an emulated host, and counts what it does.
 *
 * Run it: `deno run --allow-ffi examples/mmio_window.ts HOST DEVICE`, with HOST `linux` or an emulated host's directory.
 *
 * @module
 */
import { ClosedError, type Host, openHost, type VfioDevice, VirtioRng } from "@ringside/ringside";
import type { AccessWidth } from "@ringside/ringside/registers";
import { inspectMmio, type MmioWindow, openMmio } from "@ringside/ringside/virtio";

/** What it found. */
export interface MmioWindowResult {
  /** Of the device, as its registers have it. */
  readonly deviceType: string;
  /** How many registers were read to know it. */
  readonly registers: number;
  /** What the device gave. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Accesses that the window made for it. */
  readonly reads: number;
  readonly writes: number;
  readonly notifications: number;
}

/** A register window: nothing but accesses of the width that is asked for, DMA memory, and a line that nobody delivers. */
export class CountingWindow implements MmioWindow {
  readonly name: string;
  readonly dma: MmioWindow["dma"];
  readonly sizeBytes: number;
  reads = 0;
  writes = 0;
  notifications = 0;
  closed = false;
  readonly #device: VfioDevice;

  constructor(device: VfioDevice) {
    this.name = device.name;
    this.dma = device.dma;
    this.sizeBytes = device.regionInfo(0).sizeBytes;
    this.#device = device;
  }

  readonly space: MmioWindow["space"] = {
    read: (offset, width) => {
      this.reads++;
      const bytes = new Uint8Array(width);
      this.#open().readRegion(0, offset, bytes);
      return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
    },
    write: (offset, width, value) => {
      this.writes++;
      this.#write(offset, width, value);
    },
  };

  readonly interrupts: MmioWindow["interrupts"] = {
    kind: null,
    available: () => 0,
    enable: () => {
      throw new Error("there is no line: poll");
    },
    disable: () => {},
    rearm: () => {},
  };

  doorbell(offset: number, width: 2 | 4): { write(value: number): void } {
    return {
      write: (value) => {
        this.notifications++;
        this.#write(offset, width, value);
      },
    };
  }

  /** Of a mapping this would unmap it. */
  close(): void {
    this.closed = true;
  }

  #write(offset: number, width: AccessWidth, value: number): void {
    const bytes = new Uint8Array(width);
    for (let i = 0; i < width; i++) bytes[i] = value >>> (8 * i);
    this.#open().writeRegion(0, offset, bytes);
  }

  #open(): VfioDevice {
    if (this.closed) throw new ClosedError(this.name);
    return this.#device;
  }
}

/** Does it. Whatever happens, the host is put back. @throws what its steps throw */
export async function mmioWindow(host: Host, name: string, count = 16): Promise<MmioWindowResult> {
  try {
    host.bind(name);
    using device = host.open(name);
    const window = new CountingWindow(device);
    const facts = inspectMmio(window);
    // Closing the transport closes the window.
    using transport = openMmio(window);
    await using rng = VirtioRng.open(transport, { interrupts: "none" });
    const bytes = await rng.read(count);
    const { reads, writes, notifications } = window;
    return {
      deviceType: facts.deviceType,
      registers: facts.registers.length,
      bytes,
      reads,
      writes,
      notifications,
    };
  } finally {
    host.restore(name);
  }
}

if (import.meta.main) {
  const [hostName, name] = Deno.args;
  if (hostName === undefined || name === undefined) {
    console.error("usage: mmio_window.ts HOST DEVICE");
    Deno.exit(2);
  }
  using host = openHost(hostName);
  const { deviceType, registers, bytes, reads, writes, notifications } = await mmioWindow(host, name);
  console.log(`${name}: ${deviceType}, ${registers} registers`);
  console.log(`random bytes: ${bytes.toHex()}`);
  console.log(`the window made ${reads} reads, ${writes} writes and ${notifications} notifications`);
}
