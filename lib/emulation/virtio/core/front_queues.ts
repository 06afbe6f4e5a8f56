/**
 * The queues of a virtio PCI function: made of their registers when the driver enables them, gone when it resets them.
 *
 * @module
 */
import type { DmaTable } from "../../../vfio/vfio_user/dma_table.ts";
import type { CommonRegisters, QueueRegisters } from "../views/pci/common.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import type { PciFrontOptions } from "./options.ts";
import { honestQueue, queueSetup } from "./queue_setup.ts";

/** What the queues need of their function. */
export interface FrontQueuesHost {
  /** Registers of all queues. */
  readonly registers: CommonRegisters;
  /** The client's memory; null without one. */
  dma(): DmaTable | null;
  /** Sends the used buffer notification of a queue. */
  interruptQueue(index: number): void;
  /** There may be work. */
  wake(): void;
  /** A wrong access that does no more harm than to be ignored. */
  report(rule: string, message: string, queue?: number): void;
  /** Something after which the device cannot go on. */
  violation(rule: string, message: string, queue?: number): void;
}

/** See the module. */
export class FrontQueues {
  readonly #list: (DeviceQueue | undefined)[];
  readonly #host: FrontQueuesHost;
  readonly #makeQueue: NonNullable<PciFrontOptions["makeQueue"]>;
  readonly #usedBatches: boolean;

  /** None is enabled. */
  constructor(host: FrontQueuesHost, options: Pick<PciFrontOptions, "makeQueue" | "usedBatches">) {
    this.#host = host;
    this.#list = new Array<DeviceQueue | undefined>(host.registers.queues.length).fill(undefined);
    this.#makeQueue = options.makeQueue ?? honestQueue;
    this.#usedBatches = options.usedBatches ?? false;
  }

  /** By number; undefined where none is enabled. */
  get list(): readonly (DeviceQueue | undefined)[] {
    return this.#list;
  }

  /**
   * Makes the ring that the registers of a queue describe, in place of one that was there.
   * @param features in force @param left it goes on where a device left it
   * @returns false when it cannot be, which stops the device
   */
  enable(index: number, registers: QueueRegisters, features: bigint, left = false): boolean {
    const host = this.#host;
    host.wake();
    const dma = host.dma();
    if (dma === null) {
      host.violation("DMA", "a queue was enabled without a client's memory", index);
      return false;
    }
    const state = host.registers.writtenState(index);
    const setup = queueSetup(index, registers, features, state, this.#usedBatches);
    if ("rule" in setup) {
      host.violation(setup.rule, setup.problem, index);
      return false;
    }
    this.#list[index] = this.#makeQueue(left ? { ...setup, left } : setup, {
      dma,
      violation: (rule, message, queue) => host.violation(rule, message, queue),
      report: (rule, message, queue) => host.report(rule, message, queue),
      interrupt: (queue) => host.interruptQueue(queue),
    });
    return true;
  }

  /** The queue was reset: its ring is not touched any more. */
  drop(index: number): void {
    this.#list[index] = undefined;
  }

  /** The device was reset. */
  dropAll(): void {
    this.#list.fill(undefined);
  }

  /** Every queue returns what it has, and leaves its place where another function finds it. */
  leave(): void {
    for (const queue of this.#list) queue?.leave();
  }
}
