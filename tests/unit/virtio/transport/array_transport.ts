/**
 * A virtio device whose registers are words of an array: no PCI, no socket, one process. The view answers the array's accesses by its device core;
 * the transport is the table and what is peculiar to it.
 */
import { MappedMemory, type OwnedFd } from "../../../../ffi/mod.ts";
import type { DeviceModel, Violation } from "../../../../lib/emulation/device_model.ts";
import { VirtioCore } from "../../../../lib/emulation/virtio/core/core.ts";
import type { VirtioView } from "../../../../lib/emulation/virtio/core/view.ts";
import { UnsupportedError } from "../../../../lib/errors/mod.ts";
import { type DmaAccess, type DmaMapper, DmaSpace } from "../../../../lib/memory/mod.ts";
import { type AccessWidth, Registers, type RegisterSpace } from "../../../../lib/registers/mod.ts";
import { partOf } from "../../../../lib/registers/registers.ts";
import { DmaRegion, DmaTable } from "../../../../lib/sockets/dma_table.ts";
import { RegisterTransport } from "../../../../lib/virtio/transport/register_transport.ts";
import type { Doorbell, QueueAddresses } from "../../../../lib/virtio/transport/transport.ts";

/** One word each, in this order. */
const WORDS = [
  ...["device_status", "queue_select", "device_feature"] as const,
  ...[
    "driver_feature",
    "feature_select",
    "queue_size",
    "queue_enable",
    "notify",
    "generation",
    "isr",
  ] as const,
];
type Word = (typeof WORDS)[number];
const AREAS = 0x80, CONFIG = 0x100;
const TABLE = {
  ...Object.fromEntries(WORDS.map((name, at) => [name, { offset: 4 * at, width: 4 }])) as Record<
    Word,
    { offset: number; width: 4 }
  >,
  areas: { offset: AREAS, width: 8, strideBytes: 8 },
} as const;

/** The device's side. */
export class ArrayDevice implements VirtioView, RegisterSpace, DmaMapper {
  readonly selectors = { device_feature_select: 0, driver_feature_select: 0, queue_select: 0 };
  readonly dma: DmaTable = new DmaTable();
  readonly violations: Violation[] = [];
  readonly iovaRanges = [{ start: 0x1000n, last: 0xffff_ffffn }];
  readonly pageSizes = 0x1000n;
  readonly needsFile = true;
  readonly space: DmaSpace = new DmaSpace(this);
  readonly mayTouchMemory = true;
  readonly usesVectors = false;
  readonly watch = undefined;
  readonly unwatch = undefined;
  readonly core: VirtioCore;
  /** Lets every device of the test look at its queues. */
  work: () => void = () => {};

  constructor(readonly name: string, model: DeviceModel) {
    this.core = new VirtioCore(this, model);
    this.core.connect();
  }

  mapDma(_: MappedMemory, file: OwnedFd | null, iova: bigint, sizeBytes: number, access: DmaAccess): void {
    this.dma.add(new DmaRegion(iova, MappedMemory.map(file!, sizeBytes), access));
  }
  unmapDma(iova: bigint, sizeBytes: number): void {
    this.dma.remove(iova, BigInt(sizeBytes));
  }
  interruptQueue(): void {}
  interruptConfig(): void {}
  raiseVector = () => false;
  cleared(): void {}
  wake(): void {}
  report(violation: Violation): void {
    this.violations.push(violation);
  }

  read(offset: number, width: AccessWidth): number {
    const { core, selectors: { queue_select: index, device_feature_select: half } } = this;
    if (offset >= CONFIG) {
      const bytes = new Uint8Array(4);
      core.readConfig(offset - CONFIG, bytes.subarray(0, width));
      return new DataView(bytes.buffer).getUint32(0, true);
    }
    const queue = core.queues[index];
    const { descriptorArea = 0n, driverArea = 0n, deviceArea = 0n } = queue ?? {};
    if (offset >= AREAS) {
      const area = [descriptorArea, driverArea, deviceArea][Math.floor((offset - AREAS) / 8)]!;
      return Number(area >> BigInt(offset % 8 * 8) & 0xffff_ffffn);
    }
    const values: Partial<Record<Word, number>> = {
      device_status: core.status,
      device_feature: Number(core.offered >> BigInt(32 * half) & 0xffff_ffffn),
      queue_size: queue?.size ?? 0,
      queue_enable: Number(queue?.enabled ?? false),
      generation: core.generation,
    };
    return values[WORDS[offset / 4]!] ?? 0;
  }

  write(offset: number, width: AccessWidth, value: number): void {
    const { core, selectors } = this;
    if (offset >= CONFIG) {
      core.writeConfig(offset - CONFIG, new Uint8Array(Uint32Array.of(value).buffer, 0, width));
      return;
    }
    if (offset >= AREAS) {
      const area = Math.floor((offset - AREAS) / 8) as 0 | 1 | 2;
      return core.existing(selectors.queue_select, "areas")?.setAddress(area, offset % 8 !== 0, value);
    }
    const name = WORDS[offset / 4]!;
    if (name === "device_status") core.writeStatus(value);
    else if (name === "feature_select") selectors.device_feature_select = value;
    else if (name === "driver_feature") core.acceptFeatures(selectors.device_feature_select, value);
    else if (name === "queue_select") selectors.queue_select = value;
    else if (name === "queue_size") core.existing(selectors.queue_select, name)?.setSize(value);
    else if (name === "queue_enable") core.existing(selectors.queue_select, name)?.enable(value);
    else if (name === "notify") core.notify(value);
    this.work();
  }
}

/** The driver's side. */
export class ArrayTransport extends RegisterTransport<typeof TABLE> {
  readonly kind = "mmio";
  readonly legacy = false;
  readonly queueCount: number;
  readonly configSizeBytes: number;
  protected readonly configSpace: RegisterSpace;
  protected readonly carried = (1n << 64n) - 1n;

  constructor(device: ArrayDevice) {
    const none = () => {
      throw new UnsupportedError("an array has no interrupts");
    };
    super({
      device: { name: device.name, dma: device.space, closed: false },
      registers: new Registers(TABLE, device),
      interrupts: { kind: null, available: () => 0, enable: none, disable: () => {}, rearm: () => {} },
      deviceId: device.core.model.deviceId,
    });
    this.queueCount = device.core.queues.length;
    this.configSizeBytes = device.core.model.configSizeBytes;
    this.configSpace = partOf(device, CONFIG);
  }

  readDeviceFeatures(): bigint {
    return [1, 0].reduce((bits, half) => {
      this.put("feature_select", half);
      return bits << 32n | BigInt(this.get("device_feature"));
    }, 0n);
  }
  protected putDriverFeatures(bits: bigint): void {
    for (const half of [0, 1]) {
      this.put("feature_select", half);
      this.put("driver_feature", Number(bits >> BigInt(32 * half) & 0xffff_ffffn));
    }
  }
  configGeneration(): number {
    return this.get("generation");
  }
  queueMaxSize(queue: number): number {
    this.select(queue);
    return this.get("queue_size");
  }
  enableQueue(queue: number, { size, descriptorArea, driverArea, deviceArea }: QueueAddresses): void {
    this.select(queue);
    this.put("queue_size", size);
    [descriptorArea, driverArea, deviceArea].forEach((iova, at) => this.registers.write64("areas", iova, at));
    this.put("queue_enable", 1);
    if (!this.queueEnabled(queue)) throw this.error(queue, "queue_enable", "1 was written, 0 reads back");
  }
  queueEnabled(queue: number): boolean {
    this.select(queue);
    return this.get("queue_enable") === 1;
  }
  protected queueAreas(): QueueAddresses {
    const [descriptorArea, driverArea, deviceArea] = [0, 1, 2].map((at) =>
      this.registers.read64("areas", at)
    );
    return {
      size: this.get("queue_size"),
      descriptorArea: descriptorArea!,
      driverArea: driverArea!,
      deviceArea: deviceArea!,
    };
  }
  setConfigVector(): void {
    throw new UnsupportedError("an array has no interrupts");
  }
  setQueueVector(): void {
    throw new UnsupportedError("an array has no interrupts");
  }
  doorbell(queue: number): Doorbell {
    return { ring: () => this.put("notify", queue) };
  }
  readInterruptStatus(): number {
    return this.get("isr");
  }
  protected release(): void {}
}
