/**
 * The driver's rings of lib/virtio against the device's of lib/emulation. Each has tests of its own against a model; this one finds out
 * whether they mean the same.
 */
import { assert, assertEquals } from "@std/assert";
import { MappedMemory } from "../../../../../ffi/mod.ts";
import { Chain } from "../../../../../lib/emulation/virtio/queue/chain.ts";
import type {
  DeviceQueue,
  DeviceQueueSetup,
} from "../../../../../lib/emulation/virtio/queue/device_queue.ts";
import { PackedDeviceQueue } from "../../../../../lib/emulation/virtio/queue/packed.ts";
import { SplitDeviceQueue } from "../../../../../lib/emulation/virtio/queue/split.ts";
import type { DmaAccess } from "../../../../../lib/memory/mod.ts";
import { DmaRegion, DmaTable } from "../../../../../lib/sockets/dma_table.ts";
import { CopiedFile } from "../../../../../lib/sockets/far_memory.ts";
import { FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { createVirtqueue } from "../../../../../lib/virtio/queue/create.ts";
import { usedBurst } from "../../../../../lib/virtio/queue/used_burst.ts";
import { FakeTransport } from "../../../virtio/transport/fake_transport.ts";
import { FakeOwner } from "../fake_client.ts";
import { campaign, Random, rounds } from "../../../../random.ts";

const DATA = 0x7f_0000_0000n;
const OPERATIONS = rounds(40_000);

interface Variant {
  readonly layout: "split" | "packed";
  readonly size: number;
  readonly eventIndex: boolean;
  readonly indirect: boolean;
  readonly inOrder: boolean;
  readonly usedBatches: boolean;
  /** The device has the driver's memory as a file that could shrink: every access is a copy. */
  readonly copied?: true;
}

function variants(): Variant[] {
  const out: Variant[] = [];
  for (const layout of ["split", "packed"] as const) {
    for (const size of layout === "split" ? [1, 8, 64] : [1, 5, 64]) {
      for (const eventIndex of [false, true]) {
        for (const indirect of [false, true]) {
          out.push({ layout, size, eventIndex, indirect, inOrder: false, usedBatches: false });
          for (const usedBatches of [false, true]) {
            out.push({ layout, size, eventIndex, indirect, inOrder: true, usedBatches });
          }
          const copied = { layout, size, eventIndex, indirect, copied: true } as const;
          if (indirect) out.push({ ...copied, inOrder: eventIndex, usedBatches: eventIndex });
          else out.push({ ...copied, inOrder: false, usedBatches: false });
        }
      }
    }
  }
  return out;
}

interface Sent {
  readonly lengths: readonly number[];
  readonly readable: number;
  readonly bytes: number;
}

/** @param place first addresses of the ring and of the buffers; the device's table has the same */
function run(
  variant: Variant,
  seed: number,
  place = { ring: 0n, data: DATA },
  operations = OPERATIONS,
): void {
  const { layout, eventIndex, indirect, inOrder, usedBatches } = variant;
  const name = JSON.stringify(variant);
  const random = new Random(seed);
  const transport = new FakeTransport({ queueSizes: [variant.size], firstIova: place.ring });
  transport.driverFeatures = FEATURE.VERSION_1 | FEATURE.NOTIFICATION_DATA |
    (layout === "packed" ? FEATURE.RING_PACKED : 0n) | (eventIndex ? FEATURE.EVENT_IDX : 0n) |
    (indirect ? FEATURE.INDIRECT_DESC : 0n) | (inOrder ? FEATURE.IN_ORDER : 0n);
  const dma = new DmaTable();
  const { iommu } = transport;
  const mapDma = iommu.mapDma.bind(iommu);
  const add = (iova: bigint, memory: MappedMemory, access: DmaAccess) => {
    if (variant.copied) dma.addFar(new CopiedFile({ iova, sizeBytes: memory.sizeBytes, ...access }, memory));
    else dma.add(new DmaRegion(iova, memory, access));
  };
  iommu.mapDma = (memory, file, iova, sizeBytes, access) => {
    mapDma(memory, file, iova, sizeBytes, access);
    add(iova, memory, access);
  };
  add(place.data, MappedMemory.anonymous(65536), { deviceReads: true, deviceWrites: true });
  const queue = createVirtqueue(transport, 0, { size: variant.size, maxSegments: 4 });
  const { size, addresses } = queue;
  assertEquals([queue.layout, size], [layout, variant.size]);
  const owner = new FakeOwner(dma);
  const make = (more: Partial<DeviceQueueSetup> = {}): DeviceQueue => {
    const setup: DeviceQueueSetup = {
      layout,
      index: 0,
      ...addresses,
      indirect,
      eventIndex,
      inOrder,
      usedBatches,
      ...more,
    };
    return layout === "packed" ? new PackedDeviceQueue(setup, owner) : new SplitDeviceQueue(setup, owner);
  };
  let device = make();
  transport.onNotify = (_queue, nextOffset, nextWrap) => {
    const problem = device.checkNotification(nextOffset, nextWrap);
    if (problem !== undefined) throw new Error(`${name}: ${problem}`);
  };

  const chain = new Chain(size);
  const into = usedBurst(size);
  const sent = new Map<number, Sent>();
  const returned = new Map<number, number>();
  const made: number[] = [];
  const held: { id: number; bytes: number }[] = [];
  let unpublished = 0, armed = false, wantsInterrupt = false, done = 0, popped = 0, changes = 0;

  for (let n = 0; n < operations; n++) {
    switch (random.below(8)) {
      case 0:
      case 1: {
        const parts = 1 + random.next() % Math.min(4, size);
        const readable = random.below(parts + 1);
        if (!queue.begin(readable, parts - readable)) break;
        const lengths = Array.from({ length: parts }, () => 1 + random.below(1000));
        for (const length of lengths) {
          const address = place.data + BigInt(random.below(60000));
          queue.segment(Number(address & 0xffff_ffffn), Number(address >> 32n), length);
        }
        const id = queue.commit();
        const bytes = lengths.slice(readable).reduce((sum, one) => sum + one, 0);
        sent.set(id, { lengths, readable, bytes });
        made.push(id);
        unpublished++;
        break;
      }
      case 2: {
        const wanted = queue.publish();
        // A device that asked, saw nothing and has not looked since must be told.
        if (armed && unpublished > 0 && !wanted) throw new Error(`${name}: operation ${n}: not notified`);
        if (wanted || unpublished > 0) armed = false;
        if (wanted) queue.notify();
        unpublished = 0;
        break;
      }
      case 3:
      case 4: {
        const id = device.pop(chain);
        if (id < 0) break;
        armed = false;
        const expected = sent.get(made[popped]!)!;
        if (id !== made[popped]) throw new Error(`${name}: operation ${n}: chain ${id}, not ${made[popped]}`);
        popped++;
        assertEquals([...chain.lengths.subarray(0, chain.count)], expected.lengths, name);
        assertEquals([chain.readableCount, chain.writableBytes], [expected.readable, expected.bytes]);
        if (random.below(8) === 0) {
          device.unpop();
          popped--;
        } else held.push({ id, bytes: expected.bytes });
        break;
      }
      case 5: {
        let count = 0;
        while (held.length > 0 && random.below(3) !== 0) {
          const [one] = held.splice(inOrder ? 0 : random.below(held.length), 1);
          const { id, bytes } = one!;
          const length = random.below(2) === 0 ? bytes : random.below(bytes + 1);
          device.pushUsed(id, length);
          returned.set(id, length);
          count++;
        }
        const before = owner.interrupts;
        const told = device.publish();
        assertEquals(owner.interrupts - before, told ? 1 : 0);
        if (wantsInterrupt && count > 0 && !told) throw new Error(`${name}: operation ${n}: no interrupt`);
        if (count > 0) wantsInterrupt = false;
        break;
      }
      case 6: {
        const count = queue.takeUsed(into);
        if (count > 0) wantsInterrupt = false;
        for (let i = 0; i < count; i++) {
          const id = into.ids[i]!;
          if (into.lengths[i] !== returned.get(id)) {
            throw new Error(
              `${name}: operation ${n}: length ${into.lengths[i]} of ${id}, not ${returned.get(id)}`,
            );
          }
          returned.delete(id);
          sent.delete(id);
          done++;
        }
        break;
      }
      default:
        switch (random.below(5)) {
          case 0:
            armed = !device.arm();
            break;
          case 1:
            device.suppress();
            armed = false;
            break;
          case 2:
            wantsInterrupt = !queue.enableInterrupts();
            break;
          case 3:
            queue.suppressInterrupts();
            wantsInterrupt = false;
            break;
          default:
            // The device is replaced by one that goes on where it stood.
            if (held.length > 0) break;
            device = make({ state: device.state() });
            armed = wantsInterrupt = false;
            changes++;
        }
    }
    if (made.length > 4096) popped -= made.splice(0, popped).length;
  }
  assertEquals(owner.violations, [], name);
  assert(
    done > operations / 50 && changes >= operations / 2000 - 1,
    `${name}: ${done} chains, ${changes} changes`,
  );
  queue.close();
  dma.clear();
}

for (const layout of ["split", "packed"] as const) {
  Deno.test(campaign(
    `1.3 1.4 1.6 6 ${layout}: driver and device agree on chains, lengths, notifications and states, in every mix of features`,
    () => {
      variants().filter((one) => one.layout === layout).forEach((variant, i) => run(variant, 1000 + i));
    },
  ));
}

Deno.test("rings and buffers on both sides of 4 GiB and of 128 TiB, and at the end of all addresses", () => {
  for (const edge of [2n ** 32n, 2n ** 47n, 2n ** 64n - 2n ** 20n]) {
    // The ring's areas and tables take several pages: the first lies below the edge.
    const place = { ring: edge - 4096n, data: edge + 2n ** 20n - (edge < 2n ** 63n ? 0n : 65536n) };
    for (const layout of ["split", "packed"] as const) {
      for (const indirect of [false, true]) {
        const variant = { layout, size: 64, eventIndex: true, indirect, inOrder: false, usedBatches: false };
        run(variant, 7, place, 2000);
      }
    }
  }
});
