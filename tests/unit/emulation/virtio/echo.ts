/** A front with the simplest device behind it. */
import type { DeviceCore, DeviceModel } from "../../../../lib/emulation/device_model.ts";
import { Chain } from "../../../../lib/emulation/virtio/queue/chain.ts";
import { PciView, type PciViewOptions } from "../../../../lib/emulation/virtio/views/pci/view.ts";
import { FEATURE } from "../../../../lib/virtio/spec/mod.ts";
import { FakeFunction } from "./fake_machine.ts";

export const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;

/** A device with two queues that returns every chain at once, and eight bytes of config. */
export class Echo implements DeviceModel {
  readonly deviceId = 42;
  readonly features = 1n << 5n | 1n << 60n;
  readonly queueSizes = [64, 16, 0];
  readonly configSizeBytes = 8;
  readonly classCode = 0x123456;
  front!: DeviceCore;
  calls: string[] = [];
  bytes = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
  #chain = new Chain(64);

  connect(front: DeviceCore): void {
    this.front = front;
  }
  close(): void {
    this.calls.push("close");
  }
  checkFeatures(accepted: bigint): string | undefined {
    return (accepted & (1n << 60n)) !== 0n && (accepted & (1n << 5n)) === 0n ? "60 needs 5" : undefined;
  }
  config(): Uint8Array {
    return this.bytes;
  }
  writeConfig(offset: number, from: Uint8Array): void {
    this.bytes.set(from, offset);
  }
  start(): void {
    this.calls.push("start");
  }
  reset(): void {
    this.calls.push("reset");
  }
  notified(queue: number): void {
    this.calls.push(`notified ${queue}`);
  }
  poll(budget: number): number {
    let moved = 0;
    for (let i = 0; i < 2; i++) {
      const queue = this.front.queue(i);
      if (queue === undefined) continue;
      while (moved < budget && queue.pop(this.#chain) >= 0) {
        queue.pushUsed(this.#chain.id, 0);
        moved++;
      }
      queue.publish();
    }
    return moved;
  }
  arm(): boolean {
    return this.front.queue(0)?.arm() ?? false;
  }
}

export function echo(options: PciViewOptions = {}): FakeFunction & { model: Echo; front: PciView } {
  const model = new Echo();
  const front = new PciView(model, options);
  return Object.assign(new FakeFunction(front), { model, front });
}
