/**
 * A virtio device behind vhost-user messages (`docs/interop/vhost-user.rst` in QEMU): the front end has the registers, and tells of them what a
 * back end needs.
 *
 * What is here: when the device runs, and which of its rings. A ring runs from the moment when it was started and is enabled, and there are
 * features. So does the device, or from DRIVER_OK on. It is reset by a status of 0, and where there was no DRIVER_OK when the last ring has
 * stopped: some front ends have no status, and others never say DRIVER_OK in theirs (QEMU's vhost-user-base). The steps of a status need not come in
 * a driver's order (QEMU says FEATURES_OK first).
 *
 * What a ring carries that was turned off (SET_VRING_ENABLE 0) while the device runs: frames to be sent are dropped, and nothing is received. Of a device
 * that is no network there is no such thing as a request without an effect, and what must not be done is not answered either: the ring is left alone, as
 * QEMU and DPDK leave it. So is a ring that was not turned on yet: its front end is about to, and what lies there is not lost.
 *
 * A front end that says what cannot be after that moment, when no message can be refused any more, has a device that needs a reset.
 *
 * @module
 */
import type { EventFd, OwnedFd } from "../../../../../ffi/mod.ts";
import { ProtocolError, UsageError } from "../../../../errors/mod.ts";
import type { DmaTable } from "../../../../sockets/dma_table.ts";
import type { FrontEnd } from "../../../../sockets/vhost_user/server/served_device.ts";
import { FEATURE } from "../../../../virtio/spec/features.ts";
import { STATUS } from "../../../../virtio/spec/status.ts";
import type { FunctionQueues, QueueCounters } from "../../../../virtio/view/queue_view.ts";
import type { DeviceControls } from "../../../device_control.ts";
import type { DeviceModel, Violation } from "../../../device_model.ts";
import type { VhostUserBehaviour, VhostUserPort } from "../../../vhost_user_behaviour.ts";
import { VirtioCore } from "../../core/core.ts";
import type { CoreOptions } from "../../core/options.ts";
import type { Selectors, VirtioView } from "../../core/view.ts";
import { makeInflight, takeInflight } from "./inflight.ts";
import { VHOST_USER_RULE, Vring, type VringDevice } from "./vring.ts";

/** The front end's own, as it has the registers; and ACCESS_PLATFORM, which would mean addresses that only IOTLB messages tell. */
const OF_FRONT_END = FEATURE.ACCESS_PLATFORM | FEATURE.NOTIFICATION_DATA | FEATURE.NOTIF_CONFIG_DATA |
  FEATURE.SR_IOV | FEATURE.ADMIN_VQ;
const BEGUN = STATUS.acknowledge | STATUS.driver;
const NO_SELECTORS: Selectors = { device_feature_select: 0, driver_feature_select: 0, queue_select: 0 };

/** A device whose front is a vhost-user socket. */
export class VhostUserView implements VirtioView, VhostUserBehaviour, VringDevice {
  readonly selectors: Selectors = NO_SELECTORS;
  readonly usesVectors = false;
  readonly registerRule = VHOST_USER_RULE;
  readonly behindFrontEnd = true;
  /** The device behind. */
  readonly core: VirtioCore;
  readonly vrings: readonly Vring[];
  readonly queueCount: number;
  readonly maxQueueSize: number;
  readonly maxMtu: number | undefined;
  #port: VhostUserPort | null = null;
  #front: FrontEnd | null = null;
  /** STATUS was negotiated. */
  #tellsStatus = false;
  /** What the front end says of it. */
  #status = 0;
  /** Features that the front end set; undefined: none yet. */
  #features: bigint | undefined;
  /** Rings are enabled from their start. */
  #enabledAtStart = true;
  /** Rings change by this object's own doing. */
  #settling = false;

  /** A device in front of `model`. @throws UsageError for options that cannot be */
  constructor(model: DeviceModel, options: CoreOptions = {}) {
    const { featuresOff = 0n } = options;
    const lacks = model.sharedMemory !== undefined
      ? "shared memory"
      : (model.extraVectors ?? 0) > 0
      ? "vectors of its own"
      : undefined;
    if (lacks !== undefined) {
      throw new UsageError(`a device with ${lacks} cannot be behind a vhost-user socket`);
    }
    const core = this.core = new VirtioCore(this, model, {
      ...options,
      featuresOff: featuresOff | OF_FRONT_END,
    });
    this.vrings = core.queues.map((queue) => new Vring(queue, this));
    this.maxQueueSize = Math.max(...core.queues.map(({ maxSize }) => maxSize));
    // Network devices count pairs.
    this.queueCount = model.netInterface === undefined
      ? core.queues.length
      : Math.floor(core.queues.length / 2);
    this.maxMtu = model.netInterface?.mtu;
  }

  // ---- life ----

  /** Takes its place; called once. */
  connect(port: VhostUserPort): void {
    this.#port = port;
    this.core.connect();
  }

  /** Lets go of everything; may be called again. */
  close(): void {
    this.detached();
    this.core.close();
    this.#port = null;
  }

  // ---- VirtioView ----

  /** What the machine calls it. */
  get name(): string {
    return this.#port?.name ?? "device without a machine";
  }

  get dma(): DmaTable | null {
    return this.#front?.memory.dma ?? null;
  }

  get mayTouchMemory(): boolean {
    return this.#front !== null;
  }

  interruptQueue(queue: number, _vector: number): void {
    this.vrings[queue]!.interrupt();
  }

  interruptConfig(_vector: number): void {
    if ((this.core.status & STATUS.deviceNeedsReset) !== 0) this.#fail();
    this.#front?.configChanged();
  }

  /** Front ends bind vectors, and no device behind one sees them. */
  raiseVector(): boolean {
    return false;
  }

  cleared(): void {}

  report(violation: Violation): void {
    this.#port?.report(violation);
  }

  wake(): void {
    this.#port?.wake?.();
  }

  // ---- VringDevice ----

  get negotiatedFeatures(): bigint {
    return this.core.negotiatedFeatures;
  }

  guestAddress(userAddress: bigint, length: number): bigint | undefined {
    return this.#front?.memory.guestAddress(userAddress, length);
  }

  changed(): void {
    if (!this.#settling) this.#settle();
  }

  get watch(): ((fd: OwnedFd, handler: () => void) => void) | undefined {
    return this.#port?.watch;
  }

  get unwatch(): ((fd: OwnedFd) => void) | undefined {
    return this.#port?.unwatch;
  }

  watchKick(kick: EventFd, queue: number): void {
    this.#port?.watch?.(kick.fd, () => {
      if (kick.closed || kick.take() === 0) return;
      if (this.vrings[queue]!.drops) this.wake();
      else this.core.rang(queue);
    });
  }

  unwatchKick(kick: EventFd): void {
    this.#port?.unwatch?.(kick.fd);
  }

  // ---- ServedVhostDevice ----

  get features(): bigint {
    return this.core.offered;
  }

  get configBytes(): number {
    return this.core.model.configSizeBytes;
  }

  /** A front end is there. */
  attached(front: FrontEnd): void {
    this.#front = front;
    this.core.attached();
    this.#port?.userChanged(true);
  }

  /** It is gone. */
  detached(): void {
    if (this.#front === null) return;
    try {
      this.core.reset(false);
    } finally {
      this.#front = null;
      this.#port?.userChanged(false);
      for (const ring of this.vrings) ring.forget();
      this.#tellsStatus = false;
      this.#enabledAtStart = true;
      this.#forget();
    }
  }

  /** Rings go on in the memory that there is now, or the device stops. */
  memoryChanged(): void {
    this.#carefully(() => {
      for (const ring of this.vrings) ring.moved();
    });
  }

  protocolChosen(status: boolean): void {
    this.#tellsStatus = status;
  }

  /** Features in force. @throws ProtocolError */
  setFeatures(features: bigint, enabled: boolean): void {
    // QEMU says them again for each pair of queues, while the rings of others run.
    if (features === this.#features && enabled === this.#enabledAtStart) return;
    if (this.core.queues.some(({ ring }) => ring !== undefined)) {
      throw new ProtocolError(`${this.name}: features were changed while rings run`);
    }
    for (const ring of this.vrings) ring.rest();
    this.core.reset(true);
    this.#features = features;
    this.#enabledAtStart = enabled;
    const problem = this.core.featureProblem(features);
    if (problem !== undefined && !this.#tellsStatus) {
      this.#features = undefined;
      throw new ProtocolError(`${this.name}: features that cannot be: ${problem}`);
    }
    this.#accept();
    this.#settle();
  }

  get status(): number {
    const own = this.core.status;
    const kept = (own & STATUS.featuresOk) === 0 ? this.#status & ~STATUS.featuresOk : this.#status;
    return kept | own & STATUS.deviceNeedsReset;
  }

  setStatus(status: number): void {
    if (status === 0) return this.reset();
    this.#status = status;
    this.#settle();
  }

  /** To the state of a front end that has just come. */
  reset(): void {
    this.core.reset(true);
    for (const ring of this.vrings) ring.reset();
    this.#forget();
  }

  readConfig(offset: number, into: Uint8Array): void {
    this.core.readConfig(offset, into);
  }

  writeConfig(offset: number, from: Uint8Array): void {
    this.core.writeConfig(offset, from);
  }

  /** None of packed rings: where such a ring stands is not in its memory, and would have to be kept there chain by chain. */
  makeInflight(queues: number, queueSize: number): ReturnType<typeof makeInflight> | undefined {
    return this.#packed ? undefined : makeInflight(queues, queueSize);
  }

  setInflight(file: OwnedFd, offset: bigint, sizeBytes: bigint, queues: number, queueSize: number): void {
    if (this.#packed) throw new ProtocolError(`${this.name}: none is kept for packed rings`);
    takeInflight(file, offset, sizeBytes, queues, queueSize);
  }

  // ---- when it runs ----

  get #packed(): boolean {
    return ((this.#features ?? 0n) & FEATURE.RING_PACKED) !== 0n;
  }

  #forget(): void {
    this.#status = 0;
    this.#features = undefined;
  }

  /** The device takes the features, as far as it can. */
  #accept(): void {
    const { core } = this;
    core.writeStatus(STATUS.acknowledge);
    core.writeStatus(BEGUN);
    core.driverFeatures = this.#features ?? 0n;
    core.writeStatus(BEGUN | STATUS.featuresOk);
  }

  /** Starts or stops the device and its rings, as far as the front end has come. */
  #settle(): void {
    const { core } = this;
    const driverOk = this.#tellsStatus && (this.#status & STATUS.driverOk) !== 0;
    const allowed = this.vrings.some(({ started, enabled }) =>
      started && (enabled || (this.#enabledAtStart && !this.#tellsStatus))
    );
    // It runs until the last of its rings has stopped, also while all of them are turned off.
    const begun = core.running && this.vrings.some(({ started }) => started);
    const ready = this.#features !== undefined && (driverOk || allowed || begun);
    this.#carefully(() => {
      if (!ready) {
        for (const ring of this.vrings) ring.rest();
        // Nothing else says that a driver is gone.
        if ((core.status & (STATUS.driverOk | STATUS.deviceNeedsReset)) !== 0) {
          core.reset(true);
        }
        return;
      }
      if (core.status === 0) this.#accept();
      if ((core.status & (STATUS.featuresOk | STATUS.deviceNeedsReset)) !== STATUS.featuresOk) return;
      for (const [index, ring] of this.vrings.entries()) {
        if (!ring.started) ring.rest();
        else if (ring.enabled || (this.#enabledAtStart && !ring.disabled)) ring.run();
        else if (ring.disabled && this.#sends(index)) ring.drop();
        else ring.rest();
      }
      const dead = (core.status & STATUS.deviceNeedsReset) !== 0;
      if (!core.running && !dead) core.writeStatus(BEGUN | STATUS.featuresOk | STATUS.driverOk);
    });
  }

  /** What goes wrong with a ring that was to run stops the device: no message is there to be refused for it. */
  #carefully(action: () => void): void {
    const { core } = this;
    const before = core.status;
    this.#settling = true;
    try {
      action();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      core.violation(VHOST_USER_RULE, error.message);
    } finally {
      this.#settling = false;
    }
    // The core tells of it only once the device runs.
    if ((core.status & ~before & STATUS.deviceNeedsReset) !== 0) this.#fail();
  }

  #fail(): void {
    for (const ring of this.vrings) ring.fail();
  }

  // ---- work ----

  /** A queue of frames to be sent: not one of receive buffers, and not that of commands, which is the last. */
  #sends(queue: number): boolean {
    return this.core.model.netInterface !== undefined && queue % 2 === 1;
  }

  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    let moved = this.core.poll(budget);
    if (this.core.live) { for (const ring of this.vrings) moved += ring.dropSome(budget); }
    return moved;
  }

  /** Asks for notifications. @returns true when work is there already, and always while a ring has nothing that could be rung */
  arm(): boolean {
    let work = this.core.arm();
    for (const ring of this.vrings) work = ring.armDropping() || ring.polled || work;
    return work;
  }

  /** How long to sleep at most; undefined: until something rings. */
  get wakeAfterMs(): number | undefined {
    return this.core.wakeAfterMs;
  }

  get controls(): DeviceControls {
    return this.core.controls;
  }

  /** Its queues, for `/ringside/queues`. */
  queueReport(): FunctionQueues {
    return this.core.queueReport();
  }

  /** What they have done, for `/ringside/counters`. */
  queueCounters(): QueueCounters[] {
    return this.core.queueCounters();
  }
}
