/**
 * A virtio-mmio device in a machine that notes everything, and a driver that knows registers by their offsets only (virtio 1.2 §4.2, reference 7).
 *
 * @module
 */
import type { DeviceModel, Violation } from "../../../../../../lib/emulation/device_model.ts";
import type { PlatformBehaviour, PlatformPort } from "../../../../../../lib/emulation/platform_behaviour.ts";
import type { DmaTable } from "../../../../../../lib/sockets/dma_table.ts";
import { RngModel } from "../../../../../../lib/emulation/virtio/rng/model.ts";
import type { MmioViewOptions } from "../../../../../../lib/emulation/virtio/views/mmio/options.ts";
import { MmioView } from "../../../../../../lib/emulation/virtio/views/mmio/view.ts";
import { FakeClient, FakeRing } from "../../fake_client.ts";

/** Where the window is on the platform. */
export const WINDOW_ADDRESS = 0xa00_3e00n;

/** Offsets, as the standard has them. */
export const REG = {
  magic: 0x000,
  version: 0x004,
  deviceId: 0x008,
  vendorId: 0x00c,
  deviceFeatures: 0x010,
  deviceFeaturesSel: 0x014,
  driverFeatures: 0x020,
  driverFeaturesSel: 0x024,
  guestPageSize: 0x028,
  queueSel: 0x030,
  queueSizeMax: 0x034,
  queueSize: 0x038,
  queueAlign: 0x03c,
  queuePfn: 0x040,
  queueReady: 0x044,
  queueNotify: 0x050,
  interruptStatus: 0x060,
  interruptAck: 0x064,
  status: 0x070,
  queueDesc: 0x080,
  queueDriver: 0x090,
  queueDevice: 0x0a0,
  shmSel: 0x0ac,
  shmLen: 0x0b0,
  shmBase: 0x0b8,
  queueReset: 0x0c0,
  generation: 0x0fc,
  config: 0x100,
} as const;

/** VERSION_1 and ACCESS_PLATFORM: what this device wants to see. */
export const RULES = 1n << 32n | 1n << 33n;

/** What the machine offers, with everything noted. */
export class FakePlatform implements PlatformPort {
  readonly name = "a003e00.virtio_mmio";
  readonly windowAddress = WINDOW_ADDRESS;
  dma: DmaTable | null;
  line = false;
  /** How often the line went up. */
  rises = 0;
  readonly messages: number[] = [];
  readonly reports: Violation[] = [];

  constructor(dma: DmaTable | null) {
    this.dma = dma;
  }

  setLine(asserted: boolean): void {
    if (asserted && !this.line) this.rises++;
    this.line = asserted;
  }

  raiseMessage(vector: number): void {
    this.messages.push(vector);
  }

  report(violation: Violation): void {
    this.reports.push(violation);
  }

  /** The violations so far as `rule: message`, which are then forgotten. */
  take(): string[] {
    return this.reports.splice(0).map((one) => `${one.rule}: ${one.message}`);
  }
}

/** A device with a client, and its registers as a driver sees them. */
export class FakeMmio implements Disposable {
  readonly client: FakeClient;
  readonly port: FakePlatform;
  readonly view: PlatformBehaviour;
  readonly rings = new Map<number, FakeRing>();

  constructor(view: PlatformBehaviour, memoryBytes = 1 << 20) {
    this.client = new FakeClient(memoryBytes, 0x1000_0000n);
    this.port = new FakePlatform(this.client.dma);
    this.view = view;
    view.connect(this.port);
    view.attached();
  }

  read(offset: number, width = 4): number {
    const bytes = new Uint8Array(width);
    this.view.readWindow(offset, bytes);
    return bytes.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  }

  write(offset: number, value: number, width = 4): void {
    const bytes = new Uint8Array(width);
    for (let i = 0; i < width; i++) bytes[i] = Math.floor(value / 2 ** (8 * i));
    this.view.writeWindow(offset, bytes);
  }

  write64(offset: number, value: bigint): void {
    this.write(offset, Number(value & 0xffff_ffffn));
    this.write(offset + 4, Number(value >> 32n));
  }

  get status(): number {
    return this.read(REG.status);
  }

  set status(value: number) {
    this.write(REG.status, value);
  }

  get offered(): bigint {
    this.write(REG.deviceFeaturesSel, 0);
    const low = BigInt(this.read(REG.deviceFeatures));
    this.write(REG.deviceFeaturesSel, 1);
    return low | BigInt(this.read(REG.deviceFeatures)) << 32n;
  }

  accept(features: bigint): void {
    this.write(REG.driverFeaturesSel, 0);
    this.write(REG.driverFeatures, Number(features & 0xffff_ffffn));
    this.write(REG.driverFeaturesSel, 1);
    this.write(REG.driverFeatures, Number(features >> 32n));
  }

  /** Reset to FEATURES_OK. */
  negotiate(features = RULES): void {
    for (const status of [0, 1, 3]) this.status = status;
    this.accept(features);
    this.status = 11;
    if ((this.status & 8) === 0) throw new Error(`FEATURES_OK refused: ${this.port.take().join("; ")}`);
  }

  /** Sets up a queue without QueueReady. */
  program(index: number, size = 16, ring = new FakeRing(this.client, size)): FakeRing {
    this.rings.set(index, ring);
    const { descriptorArea, driverArea, deviceArea } = ring.setup();
    this.write(REG.queueSel, index);
    this.write(REG.queueSize, size);
    this.write64(REG.queueDesc, descriptorArea);
    this.write64(REG.queueDriver, driverArea);
    this.write64(REG.queueDevice, deviceArea);
    return ring;
  }

  enable(index: number, size = 16): FakeRing {
    const ring = this.program(index, size);
    this.write(REG.queueReady, 1);
    return ring;
  }

  /** Everything up to DRIVER_OK, with these queues. */
  bringUp(features = RULES, queues: readonly number[] = [0]): void {
    this.negotiate(features);
    for (const index of queues) this.enable(index);
    this.status = 15;
  }

  /** Makes a buffer of 16 bytes for the device to write available. */
  offer(queue = 0): FakeRing {
    const ring = this.rings.get(queue)!;
    ring.add([{ iova: this.client.at(0x8000), length: 16, write: true }]);
    ring.publish();
    return ring;
  }

  /** Polls until idle. @returns what was moved */
  run(): number {
    let moved = 0;
    for (let last = 1; last > 0; moved += last) last = this.view.poll(64);
    return moved;
  }

  [Symbol.dispose](): void {
    this.view.close();
    this.client[Symbol.dispose]();
  }
}

/** An entropy source of this form; its queue has 16 entries. */
export function mmioRng(
  mmio: MmioViewOptions["mmio"],
  options: Omit<MmioViewOptions, "mmio"> = {},
): FakeMmio {
  return new FakeMmio(new MmioView(new RngModel({ queueSize: 16 }), { ...options, mmio }));
}

/** A device of so many queues of 16 entries that does nothing, with so much configuration. */
export class StillModel implements DeviceModel {
  readonly deviceId = 99;
  readonly features = 0n;
  readonly queueSizes: readonly number[];
  readonly configSizeBytes: number;
  readonly classCode = 0xff0000;
  readonly notified: (queue: number) => void;
  readonly rung: number[] = [];

  constructor(queues: number, configSizeBytes = 0) {
    this.queueSizes = new Array(queues).fill(16);
    this.configSizeBytes = configSizeBytes;
    this.notified = (queue) => this.rung.push(queue);
  }

  connect(): void {}
  config(): Uint8Array {
    return new Uint8Array(this.configSizeBytes);
  }
  poll(): number {
    return 0;
  }
  arm(): boolean {
    return false;
  }
}
