/** The device core behind a view that is no bus at all: no register, no offset, no vector table. */
import { assert, assertEquals } from "@std/assert";
import type { DmaTable } from "../../../../../lib/sockets/dma_table.ts";
import type { Violation } from "../../../../../lib/emulation/device_model.ts";
import { VirtioCore } from "../../../../../lib/emulation/virtio/core/core.ts";
import { LegacyDriver } from "../../../../../lib/emulation/virtio/core/legacy_driver.ts";
import type { VirtioView } from "../../../../../lib/emulation/virtio/core/view.ts";
import { RngModel } from "../../../../../lib/emulation/virtio/rng/model.ts";
import { FEATURE } from "../../../../../lib/virtio/spec/mod.ts";
import { FakeClient, FakeRing } from "../fake_client.ts";

const RULES = FEATURE.VERSION_1 | FEATURE.ACCESS_PLATFORM;

/** A view that notes what the core asks of it. */
class Bare implements VirtioView, Disposable {
  readonly name = "bare";
  readonly selectors = { device_feature_select: 0, driver_feature_select: 0, queue_select: 0 };
  readonly client = new FakeClient(1 << 20);
  readonly core: VirtioCore;
  readonly notes: string[] = [];
  readonly watch = undefined;
  readonly unwatch = undefined;
  mayTouchMemory = true;
  usesVectors = false;

  constructor() {
    this.core = new VirtioCore(this, new RngModel({ queueSize: 8 }));
    this.core.connect();
  }

  get dma(): DmaTable {
    return this.client.dma;
  }

  interruptQueue(queue: number, vector: number): void {
    this.notes.push(`queue ${queue} ${vector}`);
  }

  interruptConfig(vector: number): void {
    this.notes.push(`config ${vector}`);
  }

  raiseVector(vector: number): boolean {
    this.notes.push(`vector ${vector}`);
    return true;
  }

  cleared(): void {
    this.notes.push("cleared");
  }

  wake(): void {}

  report({ rule, message }: Violation): void {
    this.notes.push(`${rule}: ${message}`);
  }

  take(): string[] {
    return this.notes.splice(0);
  }

  /** Until FEATURES_OK. */
  negotiate(): void {
    for (const status of [0, 1, 3]) this.core.writeStatus(status);
    this.core.acceptFeatures(0, Number(RULES & 0xffff_ffffn));
    this.core.acceptFeatures(1, Number(RULES >> 32n));
    this.core.writeStatus(11);
    assertEquals(this.core.status, 11);
  }

  request(ring: FakeRing): void {
    ring.add([{ iova: this.client.at(0x8000), length: 16, write: true }]);
    ring.publish();
  }

  [Symbol.dispose](): void {
    this.core.close();
    this.client[Symbol.dispose]();
  }
}

Deno.test("a modern driver by meaning: status, features, queue, notification, interrupt", () => {
  using view = new Bare();
  const { core } = view;
  view.negotiate();
  const ring = new FakeRing(view.client, 8);
  const { descriptorArea, driverArea, deviceArea } = ring.setup();
  const queue = core.existing(0, "queue_size")!;
  queue.setSize(8);
  [descriptorArea, driverArea, deviceArea].forEach((iova, area) => {
    queue.setAddress(area as 0 | 1 | 2, false, Number(iova & 0xffff_ffffn));
    queue.setAddress(area as 0 | 1 | 2, true, Number(iova >> 32n));
  });
  queue.setVector(1);
  queue.enable(1);
  core.writeStatus(15);
  assertEquals([core.live, queue.enabled, view.take()], [true, true, ["cleared"]]);
  view.request(ring);
  core.notify(0);
  assertEquals(core.poll(8), 1);
  assertEquals(view.take(), ["queue 0 1"]);
  core.configChanged();
  assertEquals(view.take(), ["config 65535"]);
  core.writeStatus(0);
  assertEquals([core.live, queue.enabled, queue.vector, view.take()], [false, false, 0xffff, ["cleared"]]);
});

Deno.test("rules are the core's: each wrong call is named, and a violation stops the device", () => {
  using view = new Bare();
  const { core } = view;
  core.writeStatus(2);
  core.queues[0]!.enable(1);
  core.acceptFeatures(1, 1 << 29);
  assertEquals(core.existing(7, "queue_size"), undefined);
  assertEquals(view.take(), [
    "1.1: DRIVER was set before ACKNOWLEDGE",
    "1.1: the queue was enabled before FEATURES_OK",
    "1.1: the driver accepted what was not offered: bit 61",
    "2.2: queue_size was written for a queue that does not exist",
  ]);
  view.negotiate();
  core.queues[0]!.setSize(3);
  core.notify(0);
  assertEquals(view.take(), [
    "cleared",
    "2.2: queue_size 3 is not a power of two",
    "1.1: the driver notified before DRIVER_OK",
  ]);
  assertEquals(core.status, 11 | 0x40);
});

Deno.test("a legacy driver of the same core: one address for a ring, and no FEATURES_OK", () => {
  using view = new Bare();
  const { core } = view;
  const driver = new LegacyDriver(core);
  assert(driver.claim("the test"));
  for (const status of [1, 3]) core.writeStatus(status);
  driver.acceptFeatures(0);
  const ring = new FakeRing(view.client, 8, true);
  const iova = view.client.at(ring.desc);
  driver.setRing(driver.queues[0]!, iova);
  assertEquals(driver.ring(driver.queues[0]!), iova);
  view.request(ring);
  driver.notify(0);
  assertEquals([core.started, core.poll(8)], [true, 1], "used before DRIVER_OK");
  core.writeStatus(7);
  core.refuseModern("queue_select");
  assertEquals(view.take(), [
    "cleared",
    "queue 0 65535",
    "virtio 1.2 §2.2.3: queue_select was written while a driver uses the legacy interface",
  ]);
});
