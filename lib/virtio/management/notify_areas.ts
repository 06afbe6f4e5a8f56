/**
 * Addresses of the platform at which managed devices are notified, as doorbells (class VQ_NOTIFY; ).
 *
 * @module
 */
import { requireType, typedErrors } from "../../errors/doors.ts";
import { DeviceError, UnsupportedError } from "../../errors/mod.ts";
import { type BaseAddress, decodeBaseAddresses } from "../../pci/base_address.ts";
import { ConfigAccess } from "../../vfio/config_access.ts";
import { Bar } from "../../vfio/bar.ts";
import { REGION, type VfioDevice } from "../../vfio/device.ts";
import type { BarDoorbell } from "../../vfio/doorbell.ts";
import type { NotifyArea } from "./managed_commands.ts";

/** Makes a doorbell of an address. */
export interface NotifyAreas {
  /**
   * Looked up once. @param queue the value that will be written, 16 bits @param name of the managed device, for messages
   * @throws UnsupportedError (an address that this cannot reach), DeviceError (one that cannot be)
   */
  doorbell(area: NotifyArea, queue: number, name: string): BarDoorbell;
}

/** Bytes of the one write that notifies: the queue's index, little-endian. */
const NOTIFY_BYTES = 2;
const BARS = 6;
const BAR0_OFFSET = 0x10;

/** Addresses in the BARs of the management function, by what its config space says of them. */
export class FunctionNotifyAreas implements NotifyAreas, Disposable {
  static {
    typedErrors(this);
  }

  readonly #device: VfioDevice;
  readonly #bars = new Map<number, Bar>();
  #addresses: readonly BaseAddress[] | undefined;

  /** Reads nothing yet. @param device the management function; stays the caller's */
  constructor(device: VfioDevice) {
    requireType(device, "object", "new FunctionNotifyAreas: device", "name", "regionInfo");
    this.#device = device;
  }

  doorbell({ address, sizeBytes }: NotifyArea, queue: number, name: string): BarDoorbell {
    const where = `0x${address.toString(16)}`;
    if (sizeBytes < NOTIFY_BYTES || address % BigInt(NOTIFY_BYTES) !== 0n) {
      throw new DeviceError(`${sizeBytes} bytes at ${where}; a notification is 2 aligned ones`, {
        function: name,
        queue,
        field: "VQ_NOTIFY_GET",
      });
    }
    const found = this.#placed.find((bar) =>
      address >= bar.address && address + BigInt(NOTIFY_BYTES) <= bar.address + BigInt(bar.sizeBytes)
    );
    if (found === undefined) {
      throw new UnsupportedError(
        `${name}, queue ${queue}: notified at ${where}, which is in no BAR of ${this.#device.name}`,
        { hint: "give `notifyAreas`, which makes a doorbell of an address elsewhere" },
      );
    }
    return this.#bar(found.index).doorbell(Number(address - found.address), NOTIFY_BYTES, { value: queue });
  }

  /** Unmaps what it mapped. */
  [Symbol.dispose](): void {
    for (const bar of this.#bars.values()) bar.close();
    this.#bars.clear();
    this.#addresses = undefined;
  }

  get #placed(): readonly BaseAddress[] {
    if (this.#addresses === undefined) {
      const config = new ConfigAccess(this.#device);
      const sizes = Array.from(
        { length: BARS },
        (_, bar) => this.#device.regionInfo(REGION.bar0 + bar).sizeBytes,
      );
      this.#addresses = decodeBaseAddresses((offset) => config.read32(offset), BAR0_OFFSET, BARS, sizes)
        .filter(({ space, address }) => space === "memory" && address !== 0n);
    }
    return this.#addresses;
  }

  #bar(index: number): Bar {
    let bar = this.#bars.get(index);
    if (bar === undefined) this.#bars.set(index, bar = new Bar(this.#device, index));
    return bar;
  }
}
