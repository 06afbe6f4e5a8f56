/**
 * A transport whose registers are plain fields and whose log shows the order of accesses. Its device is whatever the test makes of it.
 *
 * @module
 */
import { EventFd } from "../../../../ffi/mod.ts";
import { ClosedError, DeviceError, TimeoutError, UsageError } from "../../../../lib/errors/mod.ts";
import type { DmaSpace } from "../../../../lib/memory/mod.ts";
import type { BarDoorbell } from "../../../../lib/vfio/doorbell.ts";
import { QueueDoorbell } from "../../../../lib/virtio/transport/queue_doorbell.ts";
import type {
  Doorbell,
  InterruptKind,
  Profile,
  QueueAddresses,
  SharedMemory,
  VirtioTransport,
} from "../../../../lib/virtio/transport/transport.ts";
import { FEATURE } from "../../../../lib/virtio/spec/features.ts";
import type { QueueView } from "../../../../lib/virtio/view/queue_view.ts";
import type { InterruptVector } from "../../../../lib/wait/interrupt_vector.ts";
import { FakeIommu } from "../fake_iommu.ts";
import {
  checkQueueState,
  initialQueueState,
  type QueueState,
} from "../../../../lib/virtio/spec/queue_state.ts";
import { ModelPackedRing } from "../queue/model_packed_ring.ts";
import { ModelRing } from "../queue/model_ring.ts";

/** What the fake device is. */
export interface FakeDevice {
  readonly deviceId?: number;
  readonly features?: bigint;
  readonly queueSizes?: readonly number[];
  readonly config?: Uint8Array;
  readonly vectors?: number;
  readonly pin?: boolean;
  readonly profile?: Profile;
  readonly adminQueues?: { readonly first: number; readonly count: number };
  /** IOVA of the first memory that is allocated for it. */
  readonly firstIova?: bigint;
}

/** See the module's text. */
export class FakeTransport implements VirtioTransport {
  readonly name = "fake 0";
  readonly kind = "pci-modern";
  readonly legacy: boolean = false;
  readonly ownFeatures: bigint = FEATURE.SR_IOV | FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA;
  readonly adminQueues: { readonly first: number; readonly count: number };
  readonly profile: Profile;
  readonly deviceId: number;
  readonly iommu: FakeIommu;
  readonly log: string[] = [];
  readonly config: Uint8Array;
  readonly queueSizes: readonly number[];
  readonly vectors: number;
  readonly pin: boolean;
  readonly rings = new Map<number, ModelRing>();
  /** The same with RING_PACKED. */
  readonly packedRings = new Map<number, ModelPackedRing>();
  /** What was written, and what the device will report; kept over a reset (N-6.3). */
  readonly states = new Map<number, QueueState>();
  /** What arrived at doorbells, 16 or 32 bits (1.6). */
  readonly doorbellWrites: number[] = [];
  readonly queueVectors = new Map<number, number | null>();
  configVector: number | null = null;
  vfMigrationCapable = false;
  /** Features that the device shows. */
  offered: bigint;
  driverFeatures = 0n;
  status = 0;
  generation = 0;
  isr = 0;
  closed = false;
  /** Called at each doorbell. */
  onNotify: (queue: number, nextOffset: number, nextWrap: number) => void = () => {};
  /** May change the status that the driver wrote. */
  onStatus: (status: number) => number = (status) => status;
  /** Called at each config read. */
  onConfigRead: () => void = () => {};
  /** Called at each reset: false means that it never ends. */
  onReset: () => boolean = () => true;
  readonly interrupts: EventFd[] = [];
  acknowledged = 0;

  constructor(device: FakeDevice = {}) {
    this.deviceId = device.deviceId ?? 4;
    const { firstIova: start } = device;
    this.iommu = new FakeIommu(start === undefined ? undefined : [{ start, last: (1n << 64n) - 1n }]);
    this.profile = device.profile ?? "spec";
    this.adminQueues = device.adminQueues ?? { first: 0, count: 0 };
    this.offered = device.features ?? 1n << 32n;
    this.queueSizes = device.queueSizes ?? [256];
    this.config = device.config ?? new Uint8Array(0);
    this.vectors = device.vectors ?? 0;
    this.pin = device.pin ?? false;
  }

  get queueCount(): number {
    return this.queueSizes.length;
  }
  get dma(): DmaSpace {
    return this.iommu.space;
  }
  readDeviceFeatures(): bigint {
    this.#open("read features");
    return this.offered;
  }
  writeDriverFeatures(bits: bigint): void {
    this.#open("write features");
    this.driverFeatures = bits;
  }
  readStatus(): number {
    this.#open("read status");
    return this.status;
  }
  writeStatus(status: number): void {
    this.#open(`status ${status}`);
    this.status = this.onStatus(status);
    if ((status & 1) !== 0 && (status & 2) === 0) this.states.clear();
  }
  reset(): void {
    this.#open("reset");
    if (!this.onReset()) throw new TimeoutError(`${this.name}: reset`);
    this.status = 0;
    this.driverFeatures = 0n;
    // N-6.3: the state outlives the reset.
    for (const [queue, ring] of this.rings) this.states.set(queue, ring.state);
    for (const [queue, ring] of this.packedRings) this.states.set(queue, ring.state);
    this.rings.clear();
    this.packedRings.clear();
    this.queueVectors.clear();
  }
  get configSizeBytes(): number {
    return this.config.length;
  }
  configGeneration(): number {
    this.#open("generation");
    return this.generation;
  }
  readConfig(offset: number, width: 1 | 2 | 4): number {
    this.#open(`config ${offset}+${width}`);
    if (offset % width !== 0 || offset + width > this.config.length) {
      throw new UsageError(`config ${offset}+${width}`);
    }
    this.onConfigRead();
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = value * 256 + this.config[offset + i]!;
    return value;
  }
  writeConfig(offset: number, width: 1 | 2 | 4, value: number): void {
    this.#open(`config ${offset}+${width} = ${value}`);
    for (let i = 0; i < width; i++) this.config[offset + i] = (value >>> (8 * i)) & 0xff;
  }
  queueMaxSize(queue: number): number {
    this.#open(`max ${queue}`);
    return this.queueSizes[queue] ?? 0;
  }
  enableQueue(queue: number, addresses: QueueAddresses): void {
    this.#open(`enable ${queue}`);
    if (this.queueEnabled(queue)) throw new DeviceError("enabled twice", { queue });
    const state = this.states.get(queue);
    if ((this.driverFeatures & 1n << 34n) === 0n) {
      const ring = new ModelRing(this.iommu, addresses);
      if (state?.layout === "split") ring.start(state.availableIndex);
      this.rings.set(queue, ring);
    } else {
      const ring = new ModelPackedRing(this.iommu, addresses);
      if (state?.layout === "packed") ring.start(state);
      this.packedRings.set(queue, ring);
    }
  }
  queueEnabled(queue: number): boolean {
    return this.rings.has(queue) || this.packedRings.has(queue);
  }
  /** Called at each queue reset. */
  onQueueReset: (queue: number) => void = () => {};
  resetQueue(queue: number): void {
    this.#open(`reset queue ${queue}`);
    this.onQueueReset(queue);
    this.rings.delete(queue);
    this.packedRings.delete(queue);
    this.queueVectors.delete(queue);
  }
  readonly queueState = {
    feature: 1n << 40n,
    read: (queue: number, layout: "split" | "packed"): QueueState => {
      this.#open(`read state ${queue}`);
      return this.states.get(queue) ?? initialQueueState(layout);
    },
    write: (queue: number, state: QueueState, size: number): void => {
      this.#open(`write state ${queue}`);
      this.states.set(queue, checkQueueState(state, size));
    },
  };
  queueView(queue: number): QueueView {
    const area = "0x0";
    const enabled = this.queueEnabled(queue);
    const size = this.queueMaxSize(queue);
    return { queue, size, enabled, vector: null, descriptorArea: area, driverArea: area, deviceArea: area };
  }
  doorbell(queue: number): Doorbell {
    this.#open(`doorbell ${queue}`);
    const data = (this.driverFeatures & 1n << 38n) !== 0n;
    const register = { write: (value: number) => void this.doorbellWrites.push(value) };
    const real = new QueueDoorbell(register as BarDoorbell, queue, data, this);
    return {
      ring: (nextOffset, nextWrap) => {
        this.#open(`notify ${queue}`);
        real.ring(nextOffset, nextWrap);
        this.onNotify(queue, nextOffset, nextWrap);
      },
    };
  }
  interruptCount(kind: InterruptKind): number {
    return kind === "msix" ? this.vectors : kind === "intx" ? Number(this.pin) : 0;
  }
  enableInterrupts(kind: InterruptKind, count: number): InterruptVector[] {
    this.#open(`interrupts ${kind} ${count}`);
    for (let i = 0; i < count; i++) this.interrupts.push(new EventFd());
    return this.interrupts.map((eventFd) => ({
      eventFd,
      acknowledge: () => {
        this.acknowledged++;
        return kind === "intx" ? this.readInterruptStatus() : 3;
      },
    }));
  }
  disableInterrupts(): void {
    this.log.push("interrupts off");
    for (const one of this.interrupts.splice(0)) one.close();
  }
  setConfigVector(vector: number | null): void {
    this.#open(`config vector ${vector}`);
    this.configVector = vector;
  }
  setQueueVector(queue: number, vector: number | null): void {
    this.#open(`queue ${queue} vector ${vector}`);
    this.queueVectors.set(queue, vector);
  }
  readInterruptStatus(): number {
    const value = this.isr;
    this.isr = 0;
    return value;
  }
  sharedMemory(): SharedMemory | undefined {
    return undefined;
  }

  /** Raises the interrupt of a queue, or of the config space when `queue` is null. */
  interrupt(queue: number | null): void {
    const vector = queue === null ? this.configVector : this.queueVectors.get(queue) ?? null;
    this.isr |= queue === null ? 2 : 1;
    if (vector !== null) this.interrupts[vector]?.signal();
    else if (this.pin) this.interrupts[0]?.signal();
  }

  ring(queue: number): ModelRing {
    const ring = this.rings.get(queue);
    if (ring === undefined) throw new Error(`queue ${queue} is not enabled`);
    return ring;
  }

  packed(queue: number): ModelPackedRing {
    const ring = this.packedRings.get(queue);
    if (ring === undefined) throw new Error(`queue ${queue} is not enabled, or split`);
    return ring;
  }

  close(): void {
    if (this.closed) return;
    this.disableInterrupts();
    this.closed = true;
    this.iommu.space.close();
  }
  [Symbol.dispose](): void {
    this.close();
  }
  #open(what: string): void {
    if (this.closed) throw new ClosedError(this.name);
    this.log.push(what);
  }
}
