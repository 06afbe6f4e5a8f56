/**
 * A driver of the legacy interface that knows registers by their offsets only, and reaches them as an owner's commands do.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import type { DeviceModel } from "../../../../lib/emulation/device_model.ts";
import type { MemberLegacy } from "../../../../lib/emulation/virtio/admin/handler.ts";
import type { PciViewOptions } from "../../../../lib/emulation/virtio/views/pci/view.ts";
import { PciView } from "../../../../lib/emulation/virtio/views/pci/view.ts";
import { FakeRing } from "./fake_client.ts";
import { FakeFunction } from "./fake_machine.ts";

/** A function with legacy registers, in a machine with a client. */
export class FakeLegacy implements Disposable {
  readonly front: PciView;
  readonly fn: FakeFunction;
  readonly legacy: MemberLegacy;
  readonly rings = new Map<number, FakeRing>();

  constructor(
    model: DeviceModel,
    options: PciViewOptions = {},
    name = "0000:05:00.1",
    memoryBytes = 4 << 20,
  ) {
    this.front = new PciView(model, { legacy: true, ...options });
    this.fn = new FakeFunction(this.front, name, memoryBytes);
    this.legacy = this.front.groupMember.legacy!;
  }

  /** One register access that an owner's command would let through. */
  read(offset: number, width: number): number {
    assert(this.legacy.isCommonField(offset, width), `${width} bytes at ${offset} are no field`);
    const bytes = new Uint8Array(width);
    this.legacy.readCommon(offset, bytes);
    return bytes.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  }

  write(offset: number, width: number, value: number): void {
    assert(this.legacy.isCommonField(offset, width), `${width} bytes at ${offset} are no field`);
    this.legacy.writeCommon(offset, little(width, value));
  }

  readDevice(offset: number, width: number): number {
    assert(this.legacy.isDeviceField(offset, width), `${width} bytes at ${offset} are no field`);
    const bytes = new Uint8Array(width);
    this.legacy.readDevice(offset, bytes);
    return bytes.reduce((sum, byte, i) => sum + byte * 2 ** (8 * i), 0);
  }

  writeDevice(offset: number, width: number, value: number): void {
    assert(this.legacy.isDeviceField(offset, width), `${width} bytes at ${offset} are no field`);
    this.legacy.writeDevice(offset, little(width, value));
  }

  get status(): number {
    return this.read(18, 1);
  }

  set status(value: number) {
    this.write(18, 1, value);
  }

  get offered(): number {
    return this.read(0, 4);
  }

  /** Selects a queue, makes its ring of the size that the device says, and writes its page frame number. */
  setUp(index: number): FakeRing {
    this.write(14, 2, index);
    const ring = new FakeRing(this.fn.client, this.read(12, 2), true);
    this.rings.set(index, ring);
    assertEquals(ring.desc % 4096, 0);
    this.write(8, 4, Number(this.fn.client.at(ring.desc) / 4096n));
    return ring;
  }

  /** As Linux does: reset, ACKNOWLEDGE, DRIVER, features, queues, DRIVER_OK. */
  bringUp(features: number, queues: readonly number[]): void {
    this.status = 0;
    this.status = 1;
    this.status = 3;
    this.write(4, 4, features);
    for (const index of queues) this.setUp(index);
    this.status = 7;
  }

  ring(index: number): FakeRing {
    return this.rings.get(index)!;
  }

  notify(index: number): void {
    this.write(16, 2, index);
  }

  run(): number {
    return this.fn.run();
  }

  take(): string[] {
    return this.fn.port.take();
  }

  [Symbol.dispose](): void {
    this.fn[Symbol.dispose]();
  }
}

function little(width: number, value: number): Uint8Array {
  return Uint8Array.from({ length: width }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 0xff);
}
