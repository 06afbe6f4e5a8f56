/**
 * A virtio device, whatever carries its registers: status and its order, features, queues, configuration and its generation, resets, state as
 * parts, and what a driver must not do (virtio 1.2 §2, §3; reference 1). It knows no offset.
 *
 * A *view* carries it: it turns accesses of a driver into calls of the core, and is the core's `VirtioView`. What a view does:
 *
 * - Reads: `status`, `offered` and `driverFeatures` (by its own selectors), `configVector`, `generation`, `queues[n]` with `size`, `vector`,
 *   `enabled`, the areas' addresses, `notifyData` and `readState()`, `readConfig()`.
 * - Writes: `writeStatus`, `acceptFeatures`, `configVector = core.vector(value)`, `writeConfig`, and of the queue that `existing` finds
 *   `setSize`, `setAddress`, `setVector`, `enable`, `stop`, `reset`, `setState`. What is wrong with a value the core says; what is wrong with an
 *   access (width, place, a register that cannot be written) is the view's to `report`.
 * - A view that answers its driver asks before it writes: `sizeProblem`, `enableProblem`. One whose driver may disable queues has `disable` and
 *   `restoreState`, and may give each queue a memory of its own (`queueMemory`).
 * - Notifications: `notify` for a write, `rang` for an eventfd.
 * - Interrupts: the core asks for `interruptQueue` and `interruptConfig`; by which wire is the view's.
 * - Rules: what is wrong with a register of the core's has the view's `registerRule`.
 * - Life: `connect` once, `attached` when a driver's process is there, `reset(false)` when the function is reset or the driver gone, `close`.
 * - The legacy interface is a `LegacyDriver` beside it, by which a legacy view calls the same core. While the core is `legacy`, a view of the
 *   modern one lets a reset through, and gives every other write to `refuseModern`.
 *
 * @module
 */
import type { OwnedFd } from "../../../../ffi/mod.ts";
import { UnsupportedError } from "../../../errors/mod.ts";
import { decodeParts, encodeParts } from "../../../virtio/spec/device_parts.ts";
import type { FunctionQueues, QueueCounters } from "../../../virtio/view/queue_view.ts";
import { describeStatus, STATUS } from "../../../virtio/spec/status.ts";
import { NO_VECTOR } from "../../../virtio/spec/pci.ts";
import type { ServedMigration } from "../../../sockets/vfio_user/server/served_device.ts";
import type { DeviceControls } from "../../device_control.ts";
import type { DeviceCore, DeviceModel } from "../../device_model.ts";
import type { DeviceQueue } from "../queue/device_queue.ts";
import type { CoreOptions } from "./options.ts";
import { commonControls } from "./controls.ts";
import { DeviceParts } from "./parts.ts";
import { CoreQueue } from "./queue.ts";
import { reportQueues } from "./queue_report.ts";
import { DEAD, DeviceState } from "./state.ts";
import { stepStatus } from "./status.ts";
import type { VirtioView } from "./view.ts";

/** Rule: either interface at a time. */
export const ONE_INTERFACE = "virtio 1.2 §2.2.3";

/** See the module. */
export class VirtioCore extends DeviceState implements DeviceCore {
  /** All queues; those of administration are the last. */
  readonly queues: readonly CoreQueue[];
  /** Its state as device parts. */
  readonly parts: DeviceParts;
  /** What may be done to it from outside. */
  readonly controls: DeviceControls;
  /** Every feature that was ever in force, whatever was reset since. */
  everNegotiated = 0n;

  /** As after a reset. Touches neither view nor model before `connect`. @throws UsageError when VERSION_1 shall not be offered */
  constructor(view: VirtioView, model: DeviceModel, options: CoreOptions = {}) {
    super(view, model, options);
    this.queues = [...model.queueSizes, ...this.admin?.queueSizes ?? []].map((size, index) =>
      new CoreQueue(this, options, index, size)
    );
    this.parts = new DeviceParts(this, this.queues);
    this.controls = { ...model.controls, ...options.controls, ...commonControls(this) };
  }

  // ---- DeviceCore ----

  get vectors(): number {
    return this.view.usesVectors ? this.view.vectorCount ?? this.vectorCount : 0;
  }

  raiseVector(vector: number): boolean {
    return this.live && this.view.usesVectors && this.view.raiseVector(vector);
  }

  get stopped(): boolean {
    return this.running && this.stoppedByOwner;
  }

  /** An enabled queue of a live device. */
  queue(index: number): DeviceQueue | undefined {
    return this.live ? this.queues[index]?.ring : undefined;
  }

  paused(index: number): boolean {
    return this.live && (this.queues[index]?.paused ?? false);
  }

  get notifyAddress(): bigint | undefined {
    return this.view.notifyAddress;
  }

  get behindFrontEnd(): boolean {
    return this.view.behindFrontEnd ?? false;
  }

  get watch(): ((fd: OwnedFd, handler: () => void) => void) | undefined {
    return this.view.watch;
  }

  get unwatch(): ((fd: OwnedFd) => void) | undefined {
    return this.view.unwatch;
  }

  // ---- life ----

  /** The view has its place; called once. */
  connect(): void {
    this.model.connect(this);
  }

  /** Lets go of everything; may be called again. */
  close(): void {
    this.reset(false);
    this.model.close?.();
    this.admin?.close();
  }

  /**
   * Forgets everything of the driver.
   * @param byDriver it is a device reset, which queue states outlive (N-6.3), and not one of the function
   */
  reset(byDriver: boolean): void {
    const { status, legacy } = this;
    // Its driver can go on, here or on another device: the states outlive the reset, or it has read them of queues that it disabled.
    const mayGoOn = this.keepsState || this.queues.some(({ paused }) => paused);
    const suspended = byDriver && mayGoOn && (status & STATUS.driverOk) !== 0;
    for (const queue of this.queues) queue.clearAll(byDriver);
    this.status = 0;
    this.driverFeatures = 0n;
    this.configVector = NO_VECTOR;
    this.legacy = false;
    this.started = false;
    this.view.cleared();
    this.parts.cleared(!byDriver);
    // A second reset in a row finds nothing of a driver, and does not end a suspension.
    if (!byDriver || status !== 0 || legacy) {
      this.model.reset?.(suspended);
      this.admin?.reset();
    }
  }

  /** Moved as device parts, where they hold all of its state. */
  get migration(): ServedMigration | undefined {
    const { parts } = this;
    if (this.model.parts === undefined) return undefined;
    return {
      setStopped: (stopped) => parts.setStopped(stopped),
      save: () => encodeParts(parts.get()),
      load: (state) => {
        const taken = decodeParts(state);
        const problem = parts.problemOf(taken);
        if (problem !== undefined) {
          throw new UnsupportedError(`${this.name}: its state cannot be taken: ${problem}`);
        }
        parts.set(taken);
      },
    };
  }

  /** Its queues, as they look from outside. */
  queueReport(): FunctionQueues {
    return reportQueues(this, this.queues);
  }

  /** What those that are enabled have done. */
  queueCounters(): QueueCounters[] {
    return this.queues.flatMap(({ index: queue, ring }) =>
      ring === undefined
        ? []
        : [{ queue, size: ring.size, layout: ring.layout, taken: ring.taken, held: ring.inFlight }]
    );
  }

  // ---- what a driver writes ----

  /** `device_status`, by either interface; 0 resets. */
  writeStatus(value: number): void {
    this.wake();
    if (value === 0) this.reset(true);
    else this.#advance(value);
    this.everNegotiated |= this.negotiatedFeatures;
  }

  /** Takes `value` as far as the order of the bits and the features allow (§3.1.1; reference 1.1). */
  #advance(value: number): void {
    const before = this.status;
    const step = stepStatus(before, value, this.legacy);
    for (const problem of step.problems) this.report("1.1", problem);
    let { status } = step;
    if ((status & ~before & STATUS.featuresOk) !== 0) {
      const problem = this.featureProblem(this.driverFeatures);
      if (problem !== undefined) {
        this.report("1.2", `FEATURES_OK refused: ${problem}`);
        status &= ~STATUS.featuresOk;
      }
    }
    this.status = status;
    const added = status & ~before;
    if ((added & STATUS.acknowledge) !== 0) { for (const queue of this.queues) queue.forgetState(); }
    if ((added & STATUS.featuresOk) !== 0) { for (const queue of this.queues) queue.chooseLayout(); }
    if ((added & STATUS.driverOk) === 0) return;
    if (this.keepsState) {
      for (const queue of this.queues) {
        if (queue.lacksState) queue.report("N-6.1", "DRIVER_OK was set before the state of the queue");
      }
    }
    if ((status & DEAD) !== 0) this.report("1.1", `DRIVER_OK in status ${describeStatus(before)}`);
    else if (this.legacy) this.firstUse();
    else this.model.start?.();
  }

  /** A legacy driver uses the device: its features are final. There was no FEATURES_OK to refuse a set that cannot be. */
  firstUse(): void {
    if (this.started || (this.status & DEAD) !== 0) return;
    this.started = true;
    const problem = this.model.checkFeatures?.(this.driverFeatures);
    this.wake();
    if (problem === undefined) this.model.start?.();
    else this.violation("virtio 1.2 §3.1.2", `features that cannot be: ${problem}`);
  }

  /** 32 bits of the accepted features, as far as there are so many. @param select 0: bits 0–31 */
  acceptFeatures(select: number, value: number): void {
    if ((this.status & STATUS.featuresOk) !== 0) {
      this.report("1.1", "driver_feature was written after FEATURES_OK");
      return;
    }
    if (select > 1) {
      if (value !== 0) {
        this.report("1.2", `driver_feature word ${select}: 0x${value.toString(16)} was not offered`);
      }
      return;
    }
    const shift = BigInt(32 * select);
    this.driverFeatures = (this.driverFeatures & ~(0xffff_ffffn << shift)) | BigInt(value) << shift;
    this.reportAlien(this.driverFeatures, this.offered);
  }

  /** The queue, for a write to one of its registers; one that does not exist is reported. */
  existing(index: number, register: string, rule: string = this.registerRule): CoreQueue | undefined {
    const queue = this.queues[index];
    if (queue !== undefined && queue.maxSize > 0) return queue;
    this.report(rule, `${register} was written for a queue that does not exist`, index);
    return undefined;
  }

  /** Fills `into` from the configuration: 0 past its end. The driver knows its generation by now. */
  readConfig(offset: number, into: Uint8Array): void {
    this.configSeen();
    const bytes = this.model.config?.().subarray(offset, this.model.configSizeBytes);
    for (let i = 0; i < into.length; i++) into[i] = bytes?.[i] ?? 0;
  }

  /** Device-specific configuration. */
  writeConfig(offset: number, from: Uint8Array): void {
    if ((this.status & STATUS.featuresOk) === 0 && !this.model.configWritableAlways) {
      this.report("1.1", "device configuration was written before FEATURES_OK");
    } else this.model.writeConfig?.(offset, from);
  }

  /** While `legacy`, every modern write but a reset is reported and has no effect. */
  refuseModern(what: string): void {
    this.report(ONE_INTERFACE, `${what} was written while a driver uses the legacy interface`);
  }

  // ---- notifications ----

  /**
   * A modern driver notified a queue by a write.
   * @param position what came with it under NOTIFICATION_DATA: bits 0–14 the next offset, bit 15 the next wrap counter
   */
  notify(index: number, position?: number): void {
    // A stopped device accepts notifications, also before it has been given the parts of the driver's former one: it looks when it is resumed.
    if (this.stoppedByOwner) return;
    const ring = this.queues[index]?.ring;
    if ((this.status & STATUS.driverOk) === 0) {
      this.violation("1.1", "the driver notified before DRIVER_OK", index);
    } else if (ring === undefined) {
      this.violation(this.registerRule, "the driver notified a queue that is not enabled", index);
    } else if (this.live) {
      if (position !== undefined) {
        const problem = ring.checkNotification(position & 0x7fff, position >> 15);
        if (problem !== undefined) this.report("1.6", problem, index);
      }
      // The check may have found the ring unmapped, and stopped the device for it.
      if (this.live) this.notified(index);
    }
  }

  /**
   * An eventfd that stands for a notification was rung. It has no order relative to register writes, so one that comes when the device is not
   * live may be from before a reset: it is no violation.
   */
  rang(index: number): void {
    if (this.live && this.queues[index]?.ring !== undefined) this.notified(index);
  }

  /** Tells those behind of a notification that is in order. */
  notified(index: number): void {
    this.wake();
    if (!this.queues[index]!.ofAdmin) this.model.notified?.(index);
  }

  // ---- work ----

  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    if (!this.live) return 0;
    // A queue of commands must not wait for traffic that never ends: the work of both counts.
    const commands = this.admin?.poll(budget) ?? 0;
    return commands + this.model.poll(budget);
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    if (!this.live) return false;
    const commands = this.admin?.arm() ?? false;
    return this.model.arm() || commands;
  }

  /** How long to sleep at most; undefined: until something rings. */
  get wakeAfterMs(): number | undefined {
    return this.live ? this.model.wakeAfterMs : undefined;
  }
}
