/**
 * A managed device: a virtio device of which a driver sees nothing but commands of its management device.
 *
 * @module
 */
import type { OwnedFd } from "../../../../ffi/mod.ts";
import type { DmaTable } from "../../../sockets/dma_table.ts";
import type { DeviceModel, Violation } from "../../device_model.ts";
import { VirtioCore } from "../core/core.ts";
import type { CoreOptions } from "../core/options.ts";
import type { Selectors, VirtioView } from "../core/view.ts";
import { MsiEntry, type MsiMessage } from "../msi/entry.ts";
import type { Share } from "./resources.ts";

/** What a managed device has of its management device. */
export interface Management {
  /** PCI address of the function. */
  readonly name: string;
  /** It is live, and so may its managed devices be. */
  readonly live: boolean;
  /** Its memory: an address space of its driver, by its id; 0 is the function's own. Null without a driver. */
  space(asid: number): DmaTable | null;
  /** Sends a message for a device. */
  send(message: MsiMessage, device: ManagedDevice): void;
  /** Where a place of its share is notified, on the platform; undefined when that is not known. */
  notifyAddress(place: number): bigint | undefined;
  /** A device may have work. */
  touched(device: ManagedDevice): void;
  /** Puts a violation into the machine's list. */
  report(rule: string, message: string, of: Pick<Violation, "function" | "queue">): void;
  readonly watch?: ((fd: OwnedFd, handler: () => void) => void) | undefined;
  readonly unwatch?: ((fd: OwnedFd) => void) | undefined;
}

/** A view whose registers are commands; `device_commands.ts` has those. */
export class ManagedDevice implements VirtioView {
  /** What its driver names it by. */
  readonly id: bigint;
  /** `0000:01:00.0/5`: its management function, and the id. */
  readonly name: string;
  /** The device. */
  readonly core: VirtioCore;
  /** What it has of the management device. */
  readonly share: Share;
  /** MSI entries of its queues. */
  readonly queueMsi: readonly MsiEntry[];
  /** MSI entry of its configuration. */
  readonly configMsi: MsiEntry;
  readonly selectors: Selectors = { device_feature_select: 0, driver_feature_select: 0, queue_select: 0 };
  /** Its interrupts are messages, not vectors. */
  readonly usesVectors = false;
  /** As `FunctionTurns` wants it. */
  readonly device: { readonly behaviour: VirtioCore };
  readonly #management: Management;
  /** Address space of each queue. */
  readonly #asids: Uint32Array;

  /** In its place, not connected. @throws UsageError when VERSION_1 shall not be offered */
  constructor(id: bigint, model: DeviceModel, share: Share, management: Management, options: CoreOptions) {
    this.id = id;
    this.name = managedName(management.name, id);
    this.share = share;
    this.#management = management;
    const entry = () => new MsiEntry((message) => management.send(message, this));
    this.queueMsi = model.queueSizes.map(entry);
    this.configMsi = entry();
    this.#asids = new Uint32Array(model.queueSizes.length);
    this.core = new VirtioCore(this, model, options);
    this.device = { behaviour: this.core };
  }

  /** As `name`. */
  get address(): string {
    return this.name;
  }

  /** Its management device goes with its driver when it fails, and so does it. */
  disconnect(): void {}

  get dma(): DmaTable | null {
    return this.#management.space(0);
  }

  /** N-4.18: what its ASID says. */
  queueMemory(queue: number): DmaTable | null {
    return this.#management.space(this.#asids[queue]!);
  }

  get mayTouchMemory(): boolean {
    return this.#management.live;
  }

  interruptQueue(queue: number): void {
    this.queueMsi[queue]!.raise();
  }

  interruptConfig(): void {
    this.configMsi.raise();
  }

  raiseVector(): boolean {
    return false;
  }

  /** N-4.11: a reset disables all MSI. */
  cleared(): void {
    this.queueMsi.forEach((_, queue) => this.clearQueue(queue));
    this.configMsi.reset();
  }

  /** To the values after a reset of the queue, as far as they are not the core's. */
  clearQueue(queue: number): void {
    this.queueMsi[queue]!.reset();
    this.#asids[queue] = 0;
  }

  /** Address space of a queue. */
  asid(queue: number): number {
    return this.#asids[queue]!;
  }

  /** Sets the address space of a queue, which is not enabled. */
  setAsid(queue: number, asid: number): void {
    this.#asids[queue] = asid;
  }

  /** Where a queue is notified, on the platform; undefined when that is not known. */
  notifyAddressOf(queue: number): bigint | undefined {
    return this.#management.notifyAddress(this.share.places[queue]!);
  }

  wake(): void {
    this.#management.touched(this);
  }

  /** Of memory that a queue could not reach it names the address space. */
  report({ rule, message, queue }: Violation): void {
    const of = { function: this.name, ...(queue !== undefined && { queue }) };
    const asid = rule === "DMA" && queue !== undefined ? this.#asids[queue]! : 0;
    if (asid === 0) this.#management.report(rule, message, of);
    else this.#management.report("N-4.18", `address space ${asid}: ${message}`, of);
  }

  get watch(): ((fd: OwnedFd, handler: () => void) => void) | undefined {
    return this.#management.watch;
  }

  get unwatch(): ((fd: OwnedFd) => void) | undefined {
    return this.#management.unwatch;
  }
}

/** What a managed device is called. */
export function managedName(management: string, id: bigint): string {
  return `${management}/${id}`;
}
