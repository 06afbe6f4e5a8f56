/**
 * Where a function that is driven through its legacy interface is notified: an address in a BAR, or a command (reference 3.3, N-3.16, N-3.17).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { ClosedError } from "../../errors/mod.ts";
import { REGION, REGION_FLAG, type VfioDevice } from "../../vfio/device.ts";
import type { LegacyNotifyArea, LegacyRegisterAccess } from "../admin/legacy_access.ts";
import { LEGACY_CFG } from "../spec/legacy.ts";
import { BarSet } from "./pci_registers.ts";

/** The functions whose BARs can be written: without one, its notify addresses are passed over. */
export interface LegacyNotifyFunctions {
  /** The function that is driven (VF), opened, with memory decoding on. */
  readonly member?: VfioDevice;
  /** The one that owns its group (PF), opened, with memory decoding on. */
  readonly owner?: VfioDevice;
}

/** What one write of a queue's index does. */
export interface LegacyDoorbell {
  /** How the write travels: a store, a signal, an access through the function's server, or a command to the owner. */
  readonly kind: "mapped" | "eventfd" | "access" | "command";
  /** Notifies of the queue that the doorbell was made for. */
  ring(): void;
}

/** Bytes of the one write that notifies: the queue's index, little-endian. */
const NOTIFY_BYTES = 2;

/** Finds the address once, when it is asked for first, and makes doorbells. The functions stay their owners'. */
export class LegacyNotify implements Disposable {
  static {
    typedErrors(this);
  }

  readonly #registers: LegacyRegisterAccess;
  readonly #functions: LegacyNotifyFunctions;
  readonly #bars = new Map<LegacyNotifyArea["whose"], BarSet>();
  #place: LegacyNotifyArea | null | undefined;
  #closed = false;

  /** Asks for nothing yet. */
  constructor(registers: LegacyRegisterAccess, functions: LegacyNotifyFunctions = {}) {
    this.#registers = registers;
    this.#functions = functions;
  }

  /**
   * The first address of the device's list that lies inside a BAR that can be written here (N-3.17); null when there is none: then every
   * notification is a command. @throws ClosedError, and what `LegacyRegisterAccess.notifyAreas` throws
   */
  get place(): LegacyNotifyArea | null {
    this.#requireOpen();
    if (this.#place === undefined) {
      this.#place = this.#registers.notifyAreas().find((area) => this.#usable(area)) ?? null;
    }
    return this.#place;
  }

  /**
   * A doorbell for one queue, looked up once; it ends with `close`.
   * @param queue 0 to 65535 @throws ClosedError, and what the function or the command throws
   */
  doorbell(queue: number): LegacyDoorbell {
    const { place } = this;
    if (place === null) {
      const { offset, width } = LEGACY_CFG.queue_notify;
      return this.#doorbell("command", () => this.#registers.writeCommon(offset, width, queue));
    }
    const register = this.#barsOf(place.whose).bar(place.bar).doorbell(place.offset, NOTIFY_BYTES, {
      value: queue,
    });
    return this.#doorbell(register.kind, () => register.write(queue));
  }

  /** Unmaps what it mapped. May be called again. */
  close(): void {
    this.#closed = true;
    for (const bars of this.#bars.values()) bars.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #doorbell(kind: LegacyDoorbell["kind"], write: () => void): LegacyDoorbell {
    return {
      kind,
      ring: () => {
        this.#requireOpen();
        write();
      },
    };
  }

  #requireOpen(): void {
    if (this.#closed) throw new ClosedError(`notify addresses of ${this.#registers.name}`);
  }

  #usable({ whose, bar, offset }: LegacyNotifyArea): boolean {
    const device = this.#functions[whose];
    // The seam promises BAR and alignment; a wrong promise must not become a write somewhere else.
    if (device === undefined || !Number.isInteger(bar) || bar < 1 || bar > 5) return false;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset % NOTIFY_BYTES !== 0) return false;
    const { flags, sizeBytes } = device.regionInfo(REGION.bar0 + bar);
    return (flags & REGION_FLAG.write) !== 0 && offset + NOTIFY_BYTES <= sizeBytes;
  }

  #barsOf(whose: LegacyNotifyArea["whose"]): BarSet {
    let bars = this.#bars.get(whose);
    if (bars === undefined) this.#bars.set(whose, bars = new BarSet(this.#functions[whose]!));
    return bars;
  }
}
