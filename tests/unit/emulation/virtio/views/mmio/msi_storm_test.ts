/** MSI of a virtio-mmio device under a storm: vectors are reprogrammed, masked, mapped and turned off while queues interrupt. A model says what must come. */
import { assertEquals } from "@std/assert";
import { MmioView } from "../../../../../../lib/emulation/virtio/views/mmio/view.ts";
import type { DeviceQueue } from "../../../../../../lib/emulation/virtio/queue/device_queue.ts";
import type { DeviceCore } from "../../../../../../lib/emulation/device_model.ts";
import { Chain } from "../../../../../../lib/emulation/virtio/queue/chain.ts";
import { campaign, Random, rounds } from "../../../../../random.ts";
import { FakeMmio, REG, RULES, StillModel } from "./rig.ts";

const OPERATIONS = 100_000;
const QUEUES = 4;
const VECTORS = 8;
const MSI = 1n << 40n;
const NONE = 0xffff_ffff;
const CONTROLLER = 0xfee0_0000;

/** A device that returns what it is given at once, queue by queue, and interrupts for it; and changes its configuration when it is told. */
class PromptModel extends StillModel {
  core: DeviceCore | null = null;
  readonly #chain = new Chain(16);

  override connect(core?: DeviceCore): void {
    this.core = core!;
  }

  /** @returns whether it had a queue to return something by */
  answer(index: number): boolean {
    const queue: DeviceQueue | undefined = this.core!.queue(index);
    if (queue === undefined) return false;
    const id = queue.pop(this.#chain);
    if (id < 0) return false;
    queue.pushUsed(id, 0);
    queue.publish();
    return true;
  }
}

/** What the draft says of one vector. */
interface Vector {
  data: number | null;
  masked: boolean;
  pending: boolean;
}

/** What must have been sent, by an account of the draft that knows nothing of the device. */
class Expected {
  readonly sent: number[] = [];
  readonly vectors: Vector[] = Array.from(
    { length: VECTORS },
    () => ({ data: null, masked: false, pending: false }),
  );
  readonly map = new Map<number | "config", number>();
  enabled = false;
  /** InterruptStatus. */
  status = 0;

  raise(event: number | "config", sharing: boolean): void {
    if (!this.enabled) {
      this.status |= event === "config" ? 2 : 1;
      return;
    }
    const own = event === "config" ? 0 : event + 1;
    const number = sharing ? this.map.get(event) ?? NONE : own;
    const vector = this.vectors[number];
    if (vector === undefined || vector.data === null) return;
    if (vector.masked) vector.pending = true;
    else this.sent.push(vector.data);
  }

  unmask(number: number): void {
    const vector = this.vectors[number]!;
    vector.masked = false;
    if (vector.pending) this.sent.push(vector.data!);
    vector.pending = false;
  }

  enable(enabled: boolean): void {
    this.enabled = enabled;
    if (enabled) this.status = 0;
    else for (const vector of this.vectors) vector.pending = false;
  }
}

for (const form of ["v3", "msi-v2", "msi-v2 sharing"] as const) {
  const sharing = form === "msi-v2 sharing";
  const v3 = form === "v3";

  Deno.test(
    campaign(
      `MSI storm, ${form}: no interrupt is lost or goes astray, and what was pending comes once`,
      () => {
        const random = new Random(0x51a7);
        const model = new PromptModel(QUEUES);
        const vectors = v3 ? QUEUES + 1 : VECTORS;
        using device = new FakeMmio(
          new MmioView(model, { mmio: v3 ? { form: "v3" } : { form: "msi-v2", sharing, vectors: VECTORS } }),
        );
        const expected = new Expected();
        const configure = (vector: number, data: number) => {
          if (v3) {
            device.write(0x0c4, CONTROLLER);
            device.write(0x0cc, data);
            device.write(0x0c2, 1 << 12 | vector, 2);
          } else {
            device.write(0x0d0, vector);
            device.write(0x0d4, CONTROLLER);
            device.write(0x0dc, data);
            device.write(0x0c8, 3);
          }
          expected.vectors[vector]!.data = data;
        };
        const enable = (on: boolean) => {
          if (v3) device.write(0x0c2, 2 << 12 | (on ? 1 : 0), 2);
          else device.write(0x0c8, on ? 1 : 2);
          expected.enable(on);
        };
        const command = (vector: number, value: number) => {
          device.write(0x0d0, vector);
          device.write(0x0c8, value);
        };
        device.negotiate(RULES | (v3 ? 0n : MSI));
        for (let vector = 0; vector < vectors; vector++) configure(vector, vector);
        enable(true);
        for (let queue = 0; queue < QUEUES; queue++) device.enable(queue);
        device.status = 15;
        for (let i = 0; i < rounds(OPERATIONS); i++) {
          const vector = random.below(vectors), queue = random.below(QUEUES);
          switch (random.below(v3 ? 6 : 10)) {
            case 0:
            case 1:
            case 2:
              device.offer(queue);
              if (model.answer(queue)) expected.raise(queue, sharing);
              break;
            case 3:
              model.core!.configChanged();
              expected.raise("config", sharing);
              break;
            case 4:
              // What is in the registers without the command is no vector's.
              device.write(v3 ? 0x0cc : 0x0dc, random.below(vectors));
              if (random.below(2) === 0) configure(vector, random.below(vectors));
              break;
            case 5:
              if (random.below(8) === 0) enable(!expected.enabled);
              break;
            case 6:
              command(vector, 4);
              expected.vectors[vector]!.masked = true;
              break;
            case 7:
              command(vector, 5);
              expected.unmask(vector);
              break;
            default: {
              if (!sharing) break;
              const to = random.below(6) === 0 ? NONE : vector;
              const event = random.below(3) === 0 ? "config" : queue;
              device.write(REG.queueSel, queue);
              command(to, event === "config" ? 6 : 7);
              expected.map.set(event, to);
            }
          }
          assertEquals(device.port.messages.splice(0), expected.sent.splice(0), `operation ${i}`);
          if (expected.enabled) assertEquals(device.port.line, false);
          else {
            assertEquals(device.read(REG.interruptStatus), expected.status, `operation ${i}`);
            assertEquals(device.port.line, expected.status !== 0);
            const some = random.below(4);
            device.write(REG.interruptAck, some);
            expected.status &= ~some;
          }
          assertEquals(device.port.take(), [], `operation ${i}`);
        }
      },
    ),
  );
}
