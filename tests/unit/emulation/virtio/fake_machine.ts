/**
 * The machine around a behaviour, and a driver that knows registers by their offsets only.
 *
 * @module
 */
import type { DmaTable } from "../../../../lib/sockets/dma_table.ts";
import type { Violation } from "../../../../lib/emulation/device_model.ts";
import type { PciFunctionBehaviour, PciFunctionPort } from "../../../../lib/emulation/pci_function.ts";
import { FakeClient, FakeRing } from "./fake_client.ts";
import { FakePackedRing } from "./fake_packed_ring.ts";

/** Where the host has put the virtio structures. */
export const BAR_ADDRESS = 0x38_1234_0000n;

/** What the machine offers, with everything noted. */
export class FakePort implements PciFunctionPort {
  dma: DmaTable | null;
  busMaster = true;
  msixEnabled = false;
  intx = false;
  readonly name: string;
  readonly vectors: number[] = [];
  readonly reports: Violation[] = [];

  constructor(name: string, dma: DmaTable | null) {
    this.name = name;
    this.dma = dma;
  }

  raiseMsix(vector: number): boolean {
    this.vectors.push(vector);
    return true;
  }

  barAddress(bar: number): bigint | undefined {
    return bar === BAR ? BAR_ADDRESS : undefined;
  }

  setIntx(asserted: boolean): void {
    this.intx = asserted;
  }

  report(violation: Violation): void {
    this.reports.push(violation);
  }

  /** The violations so far as `rule: message`, which are then forgotten. */
  take(): string[] {
    return this.reports.splice(0).map((one) => `${one.rule}: ${one.message}`);
  }
}

const BAR = 4;
const NOTIFY = 0x3000;

/** A behaviour in a machine with a client, and the registers as the driver sees them. */
export class FakeFunction implements Disposable {
  readonly client: FakeClient;
  readonly port: FakePort;
  readonly behaviour: PciFunctionBehaviour;
  readonly rings = new Map<number, FakeRing>();
  readonly packedRings = new Map<number, FakePackedRing>();

  constructor(behaviour: PciFunctionBehaviour, name = "0000:01:00.0", memoryBytes = 1 << 20) {
    this.client = new FakeClient(memoryBytes);
    this.port = new FakePort(name, this.client.dma);
    this.behaviour = behaviour;
    behaviour.connect(this.port);
    behaviour.attached();
  }

  read(offset: number, width: number): number {
    const bytes = new Uint8Array(width);
    this.behaviour.readBar(BAR, offset, bytes);
    return bytes.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  }

  write(offset: number, width: number, value: number): void {
    const bytes = new Uint8Array(width);
    for (let i = 0; i < width; i++) bytes[i] = Math.floor(value / 2 ** (8 * i));
    this.behaviour.writeBar(BAR, offset, bytes);
  }

  get status(): number {
    return this.read(20, 1);
  }

  set status(value: number) {
    this.write(20, 1, value);
  }

  get offered(): bigint {
    this.write(0, 4, 0);
    const low = BigInt(this.read(4, 4));
    this.write(0, 4, 1);
    return low | BigInt(this.read(4, 4)) << 32n;
  }

  accept(features: bigint): void {
    this.write(8, 4, 0);
    this.write(12, 4, Number(features & 0xffff_ffffn));
    this.write(8, 4, 1);
    this.write(12, 4, Number(features >> 32n));
  }

  /** Reset to FEATURES_OK. @returns whether the device kept it */
  negotiate(features: bigint): boolean {
    this.status = 0;
    this.status = 1;
    this.status = 3;
    this.accept(features);
    this.status = 11;
    return (this.status & 8) !== 0;
  }

  /** Programs and enables a queue. */
  enable(index: number, size = 16): FakeRing {
    const ring = new FakeRing(this.client, size);
    this.rings.set(index, ring);
    this.program(index, ring);
    this.write(28, 2, 1);
    return ring;
  }

  /** Programs and enables a packed queue. */
  enablePacked(index: number, size = 16, ring = new FakePackedRing(this.client, size)): FakePackedRing {
    this.packedRings.set(index, ring);
    this.program(index, ring);
    this.write(28, 2, 1);
    return ring;
  }

  /** Programs a queue without enabling it. */
  program(index: number, ring: FakeRing | FakePackedRing): void {
    const setup = ring.setup();
    this.write(22, 2, index);
    this.write(24, 2, ring.size);
    for (
      const [offset, iova] of [[32, setup.descriptorArea], [40, setup.driverArea], [
        48,
        setup.deviceArea,
      ]] as const
    ) {
      this.write(offset, 4, Number(iova & 0xffff_ffffn));
      this.write(offset + 4, 4, Number(iova >> 32n));
    }
  }

  /** Everything up to DRIVER_OK, with these queues. */
  bringUp(features: bigint, queues: readonly number[], size = 16): void {
    if (!this.negotiate(features)) throw new Error(`FEATURES_OK refused: ${this.port.take().join("; ")}`);
    for (const index of queues) this.enable(index, size);
    this.status = 15;
  }

  notify(queue: number): void {
    this.write(NOTIFY + 4 * queue, 2, queue);
  }

  /** Polls until idle. @returns what was moved */
  run(): number {
    let moved = 0;
    for (let last = 1; last > 0; moved += last) last = this.behaviour.poll(64);
    return moved;
  }

  [Symbol.dispose](): void {
    this.behaviour.close();
    this.client[Symbol.dispose]();
  }
}
