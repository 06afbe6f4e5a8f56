/**
 * The registers of a managed device by name: each read or write is a command, while what only chooses (`queue_select`) and what was set and cannot be read
 * (vectors) is kept here.
 *
 * @module
 */
import type { EventFd } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import type { AccessWidth, RegisterTable } from "../../registers/declaration.ts";
import type { RegisterSpace } from "../../registers/registers.ts";
import type { InterruptSet, VectorKind } from "../../vfio/interrupts.ts";
import { MessageVectors, type MsiAddresses } from "../../vfio/msi_addresses.ts";
import type { ManagedDevice } from "../management/managed_device.ts";
import type { MsiSource } from "../management/msi_record.ts";
import { NO_VECTOR } from "../spec/pci.ts";

/** Names as modern PCI has them. The places mean nothing but to `ManagedRegisters`. */
export const MANAGED_REGISTERS = {
  device_status: { offset: 0, width: 1 },
  config_generation: { offset: 1, width: 1, access: "R" },
  config_msix_vector: { offset: 2, width: 2 },
  queue_select: { offset: 4, width: 2 },
  queue_msix_vector: { offset: 6, width: 2 },
  queue_size: { offset: 8, width: 2 },
  queue_enable: { offset: 10, width: 1 },
  queue_reset: { offset: 11, width: 1, access: "W" },
  /** Low half first: that half is the command, the other comes with it. */
  device_feature: { offset: 16, width: 8, access: "R" },
  /** Low half first: the command goes with the high half. */
  driver_feature: { offset: 24, width: 8, access: "W" },
} as const satisfies RegisterTable;

const NAME_AT: ReadonlyMap<number, keyof typeof MANAGED_REGISTERS | "features_high" | "accepted_high"> =
  new Map([
    ...Object.entries(MANAGED_REGISTERS).map(([name, { offset }]) =>
      [offset, name as keyof typeof MANAGED_REGISTERS] as const
    ),
    [MANAGED_REGISTERS.device_feature.offset + 4, "features_high"] as const,
    [MANAGED_REGISTERS.driver_feature.offset + 4, "accepted_high"] as const,
  ]);

/** See the module's text. */
export class ManagedRegisters implements RegisterSpace {
  readonly #device: ManagedDevice;
  readonly #interrupts: ManagedInterrupts;
  #queue = 0;
  #offered = 0n;
  #acceptedLow = 0n;

  /** Sends nothing. */
  constructor(device: ManagedDevice, interrupts: ManagedInterrupts) {
    this.#device = device;
    this.#interrupts = interrupts;
  }

  read(offset: number, _width: AccessWidth): number {
    const { now } = this.#device;
    switch (NAME_AT.get(offset)) {
      case "device_status":
        return now.status();
      case "config_generation":
        return now.generation();
      case "config_msix_vector":
        return this.#interrupts.vectorOf("config");
      case "queue_select":
        return this.#queue;
      case "queue_msix_vector":
        return this.#interrupts.vectorOf(this.#queue);
      case "queue_size":
        return now.queueSize(this.#queue);
      case "queue_enable":
        return Number(now.queueEnabled(this.#queue));
      case "device_feature":
        this.#offered = now.features();
        return Number(this.#offered & 0xffff_ffffn);
      case "features_high":
        return Number(this.#offered >> 32n);
      default:
        throw new UsageError(`${this.#device.name}: there is no register at ${offset} to be read`);
    }
  }

  write(offset: number, _width: AccessWidth, value: number): void {
    const { now } = this.#device;
    switch (NAME_AT.get(offset)) {
      case "device_status":
        return now.setStatus(value);
      case "config_msix_vector":
        return this.#interrupts.bind("config", value);
      case "queue_select":
        this.#queue = value;
        return;
      case "queue_msix_vector":
        return this.#interrupts.bind(this.#queue, value);
      case "queue_size":
        return now.setQueueSize(this.#queue, value);
      case "queue_enable":
        return now.enableQueue(this.#queue, value !== 0);
      case "queue_reset":
        return now.resetQueue(this.#queue);
      case "driver_feature":
        this.#acceptedLow = BigInt(value);
        return;
      case "accepted_high":
        return now.setDriverFeatures(BigInt(value) << 32n | this.#acceptedLow);
      default:
        throw new UsageError(`${this.#device.name}: there is no register at ${offset} to be written`);
    }
  }
}

/** Vectors of a managed device: messages that were allotted for it. */
export class ManagedInterrupts
  implements Pick<InterruptSet, "available" | "enable" | "disable" | "rearm" | "kind"> {
  readonly #device: ManagedDevice;
  readonly #vectors: MessageVectors;

  /** Allots nothing. */
  constructor(device: ManagedDevice, addresses: MsiAddresses) {
    this.#device = device;
    this.#vectors = new MessageVectors(addresses, device.name);
  }

  /** MSI-X stands for messages of its own for each source, which is what managed devices have; null while there are none. */
  get kind(): VectorKind | null {
    return this.#vectors.messages.length > 0 ? "msix" : null;
  }

  /** How many can be had. */
  available(kind: VectorKind): number {
    return kind === "msix" ? this.#vectors.available : 0;
  }

  /** Allots. @throws UnsupportedError with the reason why there can be none, ExhaustedError, UsageError */
  enable(kind: VectorKind, count = 1, given: readonly EventFd[] = []): readonly EventFd[] {
    if (kind === "msix") return this.#vectors.allot(count, given);
    for (const one of given) one.close();
    throw new UnsupportedError(`${this.#device.name}: a managed device has MSIs, and no ${kind}`);
  }

  /** Gives all back and closes their eventfds. */
  disable(): void {
    this.#vectors.giveBack();
  }

  /** Messages need none. */
  rearm(): void {}

  /** Tells the device which message a source has; NO_VECTOR disables it. A vector that was not allotted changes nothing. */
  bind(source: MsiSource, vector: number): void {
    const { now } = this.#device;
    const message = this.#vectors.messages[vector];
    const enable = (enabled: boolean) =>
      source === "config" ? now.enableConfigMsi(enabled) : now.enableQueueMsi(source, enabled);
    if (vector === NO_VECTOR && this.#settings(source).enabled) enable(false);
    if (message === undefined) return;
    if (source === "config") now.setConfigMsi(message);
    else now.setQueueMsi(source, message);
    enable(true);
  }

  /** The vector of a source, as the driver set it; NO_VECTOR while it is disabled. */
  vectorOf(source: MsiSource): number {
    const { enabled, address, data } = this.#settings(source);
    const vector = this.#vectors.messages.findIndex((one) => one.address === address && one.data === data);
    return enabled && vector >= 0 ? vector : NO_VECTOR;
  }

  #settings(source: MsiSource) {
    return source === "config" ? this.#device.configMsi : this.#device.queueMsi(source);
  }
}
