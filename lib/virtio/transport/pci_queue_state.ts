/**
 * The states of queues in `virtio_pci_common_cfg`, as profile `queue-state` has them (reference 6.2).
 *
 * @module
 */
import { DeviceError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import type { Registers } from "../../registers/registers.ts";
import { DRAFT_FEATURE } from "../spec/features.ts";
import {
  checkQueueState,
  type QueueState,
  queueStateFromWords,
  queueStateToWords,
} from "../spec/queue_state.ts";
import { describeStatus, STATUS } from "../spec/status.ts";
import type { COMMON_REGISTERS } from "./pci_registers.ts";
import type { QueueStateAccess, VirtioTransport } from "./transport.ts";

/** The states of a device's queues. @throws UnsupportedError where there is no such facility, with the reason */
export function requireQueueState(
  transport: Pick<VirtioTransport, "name" | "profile" | "legacy" | "queueState">,
): QueueStateAccess {
  const { name, profile, legacy, queueState } = transport;
  if (queueState !== undefined) return queueState;
  if (legacy) {
    throw new UnsupportedError(`${name}: the legacy interface has no queue state`, {
      hint: "drive the function by the modern interface",
    });
  }
  throw new UnsupportedError(
    `${name}: profile "${profile}" has no queue state; bit 40 is another feature there (A-6.1)`,
    { hint: 'open it with profile "queue-state"' },
  );
}

/** See the module. */
export class PciQueueState implements QueueStateAccess {
  /** */
  readonly feature = DRAFT_FEATURE.QUEUE_STATE;
  readonly #transport: Pick<VirtioTransport, "name" | "readDeviceFeatures" | "driverFeatures" | "readStatus">;
  readonly #registers: Registers<typeof COMMON_REGISTERS>;
  readonly #select: (queue: number) => void;

  /** @param select chooses the queue that the registers are about */
  constructor(
    transport: Pick<VirtioTransport, "name" | "readDeviceFeatures" | "driverFeatures" | "readStatus">,
    registers: Registers<typeof COMMON_REGISTERS>,
    select: (queue: number) => void,
  ) {
    this.#transport = transport;
    this.#registers = registers;
    this.#select = select;
  }

  /** `queue_avail_state`, and for a packed queue `queue_used_state`. */
  read(queue: number, layout: "split" | "packed", size: number): QueueState {
    const { name } = this.#transport;
    const status = this.#transport.readStatus();
    this.#require(this.#transport.readDeviceFeatures(), "is not offered");
    if (status !== 0) {
      throw new UsageError(
        `${name}, queue ${queue}: state read while device_status is ${describeStatus(status)} (N-6.2)`,
        { hint: "reset the device first" },
      );
    }
    this.#select(queue);
    const available = this.#registers.read("queue_avail_state");
    const used = layout === "packed" ? this.#registers.read("queue_used_state") : 0;
    try {
      return queueStateFromWords(layout, size, { available, used });
    } catch (error) {
      const field = layout === "packed" && (available & 0x7fff) < size
        ? "queue_used_state"
        : "queue_avail_state";
      throw new DeviceError(`${(error as Error).message} (A-6.6)`, { function: name, queue, field });
    }
  }

  /** `queue_avail_state`, and for a packed queue `queue_used_state`. */
  write(queue: number, state: QueueState, size: number): void {
    const { name } = this.#transport;
    const status = this.#transport.readStatus();
    this.#require(this.#transport.driverFeatures, "was not negotiated");
    const checked = checkQueueState(state, size);
    if ((status & STATUS.featuresOk) === 0 || (status & STATUS.driverOk) !== 0) {
      throw new UsageError(
        `${name}, queue ${queue}: state written while device_status is ${describeStatus(status)} (N-6.1)`,
        { hint: "write it after FEATURES_OK and before DRIVER_OK" },
      );
    }
    this.#select(queue);
    if (this.#registers.read("queue_enable") !== 0) {
      throw new UsageError(`${name}, queue ${queue}: state written after queue_enable (A-6.5)`);
    }
    const words = queueStateToWords(checked);
    this.#registers.write("queue_avail_state", words.available);
    if (checked.layout === "packed") this.#registers.write("queue_used_state", words.used);
  }

  #require(features: bigint, otherwise: string): void {
    if ((features & DRAFT_FEATURE.QUEUE_STATE) !== 0n) return;
    throw new UnsupportedError(`${this.#transport.name}: VIRTIO_F_QUEUE_STATE ${otherwise}`, {
      hint: 'open it with profile "queue-state"',
    });
  }
}
