/**
 * What a virtio-mmio device is reached by: a window of registers, and what belongs to it.
 *
 * @module
 */
import { requireType, typedErrors } from "../../../errors/doors.ts";
import { UsageError } from "../../../errors/mod.ts";
import type { DmaSpace } from "../../../memory/mod.ts";
import type { RegisterSpace } from "../../../registers/registers.ts";
import { unitAddress } from "../../../vfio/bus.ts";
import { PLATFORM_IRQ, type VfioDevice } from "../../../vfio/device.ts";
import type { BarDoorbell } from "../../../vfio/doorbell.ts";
import { InterruptSet } from "../../../vfio/interrupts.ts";
import { MappedRegion } from "../../../vfio/mapped_region.ts";
import { FunctionMsi, type MsiAddresses } from "../../../vfio/msi_addresses.ts";
import { isPciDevice } from "../../../vfio/pci_device.ts";
import type { Lifeline } from "../../../wait/lifeline.ts";
import { RegionSharedMemory } from "../region_shared_memory.ts";
import type { SharedMemory } from "../transport.ts";

/**
 * A register window, whoever maps it: `platformWindow` has that of an opened platform device, and a caller may make one of a mapping of its own
 * (UIO, `/dev/mem`, a test). Offsets are bytes from its start.
 */
export interface MmioWindow {
  /** Of the device, for messages. */
  readonly name: string;
  /** DMA memory that the device can reach. */
  readonly dma: DmaSpace;
  /** True after `close`, and when the device is gone. */
  readonly closed: boolean;
  /** Of a device that another process serves. */
  readonly lifeline?: Lifeline | undefined;
  /** The registers, each access of exactly its width. */
  readonly space: RegisterSpace;
  /** In bytes. */
  readonly sizeBytes: number;
  /**
   * A register that is written to notify, looked up once.
   * @param options.value what will be written most: a server may have an eventfd for each value at the same place
   * @throws UsageError outside the window, or unaligned
   */
  doorbell(
    offset: number,
    width: 2 | 4,
    options?: { readonly value?: number },
  ): Pick<BarDoorbell, "write">;
  /** Its line: kind `intx`, of which `available` gives 0 where there is none. */
  readonly interrupts: Pick<InterruptSet, "available" | "enable" | "disable" | "rearm" | "kind">;
  /** Messages that the device can be given, in the two drafts that have them. Absent: none. */
  readonly messages?: MsiAddresses | undefined;
  /**
   * Shared memory at an address of the device's bus (SHMBase); undefined where the window does not reach it. Absent: it reaches none.
   * @param id of the region, for messages
   */
  sharedMemory?(address: bigint, sizeBytes: number, id: number): SharedMemory | undefined;
  /** Unmaps, and nothing more: the device stays its owner's. May be called again. */
  close(): void;
}

/**
 * The window of an opened platform device: its region 0, mapped where it is whole pages, else by accesses through the server. Its line is the device's
 * first. Messages are a vfio-user server's; kernel VFIO has none for platform devices.
 * @param device stays the caller's @throws UsageError when it has no region 0 or is a PCI function, ClosedError, and what the device throws
 */
export function platformWindow(device: VfioDevice): MmioWindow {
  requireType(device, "object", "platformWindow: device", "name", "info", "regionInfo", "irqInfo");
  if (isPciDevice(device)) {
    throw new UsageError(`${device.name} is a PCI function, which has no register window of virtio-mmio`, {
      hint: "openTransport opens it",
    });
  }
  return new PlatformWindow(device);
}

class PlatformWindow implements MmioWindow {
  static {
    typedErrors(this);
  }

  readonly name: string;
  readonly space: MappedRegion;
  readonly interrupts: InterruptSet;
  readonly messages: MsiAddresses;
  readonly #device: VfioDevice;

  constructor(device: VfioDevice) {
    this.name = device.name;
    this.space = new MappedRegion(device, 0, "register window");
    this.interrupts = new InterruptSet(device);
    this.messages = new FunctionMsi(device, 0, PLATFORM_IRQ.messages);
    this.#device = device;
  }

  get dma(): DmaSpace {
    return this.#device.dma;
  }

  get closed(): boolean {
    return this.space.closed;
  }

  get lifeline(): Lifeline | undefined {
    return this.#device.lifeline;
  }

  get sizeBytes(): number {
    return this.space.sizeBytes;
  }

  doorbell(offset: number, width: 2 | 4, options: { readonly value?: number } = {}): BarDoorbell {
    return this.space.doorbell(offset, width, options);
  }

  /** Where the window lies on the bus is in the device's name, if anywhere. */
  sharedMemory(address: bigint, sizeBytes: number, id: number): SharedMemory | undefined {
    const start = unitAddress(this.name);
    if (start === undefined) return undefined;
    const offset = address - start;
    if (offset < 0n || offset + BigInt(sizeBytes) > BigInt(this.sizeBytes)) return undefined;
    return new RegionSharedMemory(
      this.#device,
      this.space,
      { offset: Number(offset), lengthBytes: sizeBytes },
      id,
    );
  }

  close(): void {
    this.space.close();
  }
}
