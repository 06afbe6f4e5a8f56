/**
 * The modern PCI transport from the device's side: registers, doorbells and interrupts in front of any `DeviceModel`
 * (virtio 1.2 §4.1; reference 2).
 *
 * @module
 */
import type { OwnedFd } from "../../../../../ffi/mod.ts";
import { UnsupportedError } from "../../../../errors/mod.ts";
import { VIRTIO_PCI_MODERN_BASE, VIRTIO_PCI_VENDOR_ID } from "../../../../virtio/constants/device_id.ts";
import { decodeParts, encodeParts } from "../../../../virtio/constants/device_parts.ts";
import { FEATURE } from "../../../../virtio/constants/features.ts";
import { queueStateToWords } from "../../../../virtio/constants/queue_state.ts";
import { STATUS } from "../../../../virtio/constants/status.ts";
import type { DmaTable } from "../../../../vfio/vfio_user/dma_table.ts";
import type {
  ServedDoorbell,
  ServedMapping,
  ServedMigration,
} from "../../../../vfio/vfio_user/served_device.ts";
import type { DeviceFront, DeviceModel } from "../../../device_model.ts";
import type {
  BarDeclaration,
  MsixDeclaration,
  PciFunctionBehaviour,
  PciFunctionPort,
  PciIdentity,
  ResetKind,
  VendorCapability,
} from "../../../pci_function.ts";
import type { AdminEngine, GroupPlace } from "../../admin/engine.ts";
import { adminFront } from "../../admin/front.ts";
import type { GroupMember, MemberParts } from "../../admin/handler.ts";
import { CommonRegisters, type CommonRegistersOwner, type QueueRegisters } from "./common.ts";
import type { DeviceQueue } from "../../queue/device_queue.ts";
import { FrontDoorbells, notificationProblem } from "./doorbells.ts";
import { FrontInterrupts } from "./interrupts.ts";
import {
  behindDoorbells,
  COMMON_AT,
  DEVICE_AT,
  frontBars,
  frontCapabilities,
  frontMsix,
  inside,
  isDeviceReset,
  ISR_AT,
  notificationIdentifier,
  NOTIFY_AT,
  NOTIFY_MULTIPLIER,
  PAGE,
  STRUCTURES_BAR,
} from "./layout.ts";
import { FrontQueues, type FrontQueuesHost } from "../../core/front_queues.ts";
import { FrontSharedMemory, SHARED_MEMORY_BAR } from "./shared_memory.ts";
import { advanceStatus, type FrontStatusHost } from "../../core/front_status.ts";
import type { FunctionQueues } from "../../../../virtio/constants/queue_view.ts";
import { reportQueues } from "../../core/queue_report.ts";
import {
  featureProblem,
  type FrontProfile,
  offeredFeatures,
  type PciFrontOptions,
} from "../../core/options.ts";
import { type LegacyHost, type LegacyRegisters, legacyRegisters } from "../legacy/view.ts";
import { DeviceParts, type PartsHost } from "../../core/parts.ts";

export type { FrontProfile, PciFrontOptions } from "../../core/options.ts";

/** A driver gone wild shall not fill the machine's memory with reports. */
const REPORTS_MAX = 256;
const NOTHING: readonly ServedDoorbell[] = [];

type FrontHost = CommonRegistersOwner & FrontStatusHost & FrontQueuesHost & PartsHost & LegacyHost;

/** A virtio function with modern registers. */
export class VirtioPciFront implements PciFunctionBehaviour, DeviceFront {
  readonly identity: PciIdentity;
  readonly bars: readonly BarDeclaration[];
  readonly msix: MsixDeclaration;
  readonly interruptPin = 1;
  readonly vendorCapabilities: readonly VendorCapability[];
  readonly netInterface?: { readonly mac: string; readonly mtu: number };
  /** The device behind. */
  readonly model: DeviceModel;
  /** All features that it offers. */
  readonly offered: bigint;
  readonly #common: CommonRegisters;
  readonly #queues: FrontQueues;
  readonly #host: FrontHost;
  /** Of the legacy interface: on a VF its own, on its owner the first of those for its members. */
  readonly #notifyArea: { readonly bar: number; readonly offset: number };
  /** Profile that it has. */
  readonly profile: FrontProfile;
  readonly #admin: AdminEngine | null;
  readonly #group: GroupPlace | undefined;
  readonly #shared: FrontSharedMemory | null;
  readonly #parts: DeviceParts;
  /** Its legacy registers, when it has some. */
  readonly memberLegacy: LegacyRegisters | undefined;
  #port: PciFunctionPort | null = null;
  readonly #doorbells: FrontDoorbells;
  readonly #interrupts = new FrontInterrupts();
  #generation = 0;
  /** The driver has read config space since the generation changed last: the next change must be seen. */
  #configRead = false;
  /** SR_IOV was once negotiated: from then on VFs may be enabled, whatever is reset. */
  #sriovNegotiated = false;
  #reports = 0;

  /** A function in front of `model`. @throws UsageError when VERSION_1 shall not be offered */
  constructor(model: DeviceModel, options: PciFrontOptions = {}) {
    this.model = model;
    this.profile = options.profile ?? "spec";
    this.offered = offeredFeatures(model.features, options);
    this.#admin = (this.offered & FEATURE.ADMIN_VQ) === 0n ? null : options.admin ?? null;
    this.#group = options.group;
    const sizes = [...model.queueSizes, ...this.#admin?.queueSizes ?? []];
    const queueCount = sizes.length;
    const vectors = queueCount + 1 + (model.extraVectors ?? 0);
    this.identity = {
      vendorId: VIRTIO_PCI_VENDOR_ID,
      deviceId: VIRTIO_PCI_MODERN_BASE + model.deviceId,
      subsystemVendorId: VIRTIO_PCI_VENDOR_ID,
      subsystemId: 0x1100,
      revision: 1,
      classCode: model.classCode,
    };
    this.#notifyArea = { bar: STRUCTURES_BAR, offset: behindDoorbells(queueCount) };
    const self = this.#inside(vectors);
    this.#common = new CommonRegisters(self, sizes, queueCount - model.queueSizes.length);
    this.#host = { ...self, registers: this.#common };
    this.#queues = new FrontQueues(this.#host, options);
    this.memberLegacy = legacyRegisters(this.#host, options);
    this.#parts = new DeviceParts(this.#host);
    this.#doorbells = new FrontDoorbells(queueCount, this.memberLegacy && this.#notifyArea.offset);
    this.#shared = model.sharedMemory === undefined ? null : new FrontSharedMemory(model.sharedMemory);
    this.bars = [
      ...frontBars(queueCount, vectors, this.memberLegacy ? PAGE : this.#admin?.notifyBytes),
      ...this.#shared?.bars ?? [],
    ];
    this.msix = frontMsix(vectors);
    this.vendorCapabilities = [
      ...this.#shared?.capabilities ?? [],
      ...frontCapabilities(
        queueCount,
        model.configSizeBytes,
        NOTIFY_AT,
        this.#common.sizeBytes,
      ),
    ];
    if (model.netInterface !== undefined) this.netInterface = model.netInterface;
  }

  // ---- DeviceFront ----

  /** PCI address of the function. */
  get name(): string {
    return this.#port?.name ?? "function without a machine";
  }

  /** Features from FEATURES_OK on, on the legacy interface from first use; 0 before. */
  get negotiatedFeatures(): bigint {
    if (this.memberLegacy?.active) return this.memberLegacy.negotiatedFeatures;
    return (this.#common.status & STATUS.featuresOk) === 0 ? 0n : this.#common.driverFeatures;
  }

  /** A driver uses the legacy interface. */
  get legacy(): boolean {
    return this.memberLegacy?.active ?? false;
  }

  /** A driver uses the device, whatever became of it since. */
  get #running(): boolean {
    return (this.#common.status & STATUS.driverOk) !== 0 || (this.memberLegacy?.started ?? false);
  }

  /** The device may touch memory. */
  get live(): boolean {
    const port = this.#port;
    return this.#running && !this.#parts.stopped &&
      (this.#common.status & (STATUS.deviceNeedsReset | STATUS.failed)) === 0 &&
      port !== null && port.busMaster && port.dma !== null;
  }

  /** See `DeviceFront`. */
  get dma(): DmaTable | null {
    return this.#port?.dma ?? null;
  }

  /** See `DeviceFront`. */
  get vectors(): number {
    return this.#port?.msixEnabled === true ? this.msix.vectors : 0;
  }

  /** See `DeviceFront`. */
  raiseVector(vector: number): boolean {
    return this.live && this.#port!.msixEnabled && this.#port!.raiseMsix(vector);
  }

  /** See `DeviceFront`. */
  get stopped(): boolean {
    return this.#running && this.#parts.stopped;
  }

  /** `device_status`, for those who look at the device from outside. */
  get status(): number {
    return this.#common.status;
  }

  /** Its state as device parts, and whether its owner stopped it. */
  get memberParts(): MemberParts {
    return this.#parts;
  }

  /** Moved as device parts, where they hold all of its state. */
  get migration(): ServedMigration | undefined {
    const parts = this.#parts;
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

  /** An enabled queue of a live device. */
  queue(index: number): DeviceQueue | undefined {
    return this.live ? this.#queues.list[index] : undefined;
  }

  /** See `PciFunctionBehaviour`. */
  queueReport(): FunctionQueues {
    return reportQueues({
      function: this.name,
      deviceId: this.model.deviceId,
      profile: this.profile,
      status: this.#common.status,
      negotiated: this.negotiatedFeatures,
      registers: this.#common.queues,
      queues: this.#queues.list,
      dma: this.#port?.dma ?? null,
    });
  }

  /** Bumps the generation, raises the config interrupt. */
  configChanged(): void {
    if (this.#configRead) {
      this.#generation = (this.#generation + 1) & 0xff;
      this.#configRead = false;
    }
    if (this.#running) this.#interruptConfig();
  }

  /** Notes what does no more harm. */
  report(rule: string, message: string, queue?: number): void {
    if (this.#port === null || this.#reports >= REPORTS_MAX) return;
    this.#reports++;
    const last = this.#reports === REPORTS_MAX ? " (no further reports until the client is gone)" : "";
    this.#port.report({
      function: this.name,
      ...(queue === undefined ? {} : { queue }),
      rule,
      message: message + last,
    });
  }

  /** Notes, sets DEVICE_NEEDS_RESET, stops. */
  violation(rule: string, message: string, queue?: number): void {
    this.report(rule, message, queue);
    const before = this.#common.status;
    if ((before & STATUS.deviceNeedsReset) !== 0) return;
    this.#common.status = before | STATUS.deviceNeedsReset;
    if (this.#running) this.#interruptConfig();
  }

  /** See `DeviceFront`. */
  get watch(): ((fd: OwnedFd, handler: () => void) => void) | undefined {
    return this.#port?.watch;
  }

  /** See `DeviceFront`. */
  get unwatch(): ((fd: OwnedFd) => void) | undefined {
    return this.#port?.unwatch;
  }

  /** See `DeviceFront`. */
  wake(): void {
    this.#port?.wake?.();
  }

  /** This VF, as the administration commands of its PF reach it. */
  get groupMember(): GroupMember {
    const { memberLegacy: legacy } = this;
    return { name: this.name, parts: this.#parts, ...(legacy === undefined ? {} : { legacy }) };
  }

  // ---- PciFunctionBehaviour: life ----

  /** Takes its place; called once. */
  connect(port: PciFunctionPort): void {
    this.#port = port;
    this.#interrupts.connect(port);
    this.model.connect(this);
    this.#admin?.connect(adminFront(this, this.model.queueSizes.length, this.#notifyArea));
    this.#group?.join(this.groupMember);
  }

  /** Lets go of everything; may be called again. */
  close(): void {
    this.#group?.leave();
    this.#clear(false);
    this.model.close?.();
    this.#admin?.close();
    this.#closeDoorbells();
    this.#port = null;
    this.#interrupts.connect(null);
  }

  /** A client is there. */
  attached(): void {
    this.#reports = 0;
  }

  /** Nothing to do: no address is kept between calls, and the rings' views go by `DmaTable.generation`. */
  dmaWillUnmap(_iova: bigint, _sizeBytes: number): void {}

  /** Forgets everything of the driver. */
  reset(_kind: ResetKind): void {
    this.#clear(false);
  }

  /** The client is gone. */
  detached(): void {
    this.#clear(false);
    this.#closeDoorbells();
  }

  /** Lets the virtio driver of the PF know that it enabled VFs without leave. */
  vfsEnabled(count: number): void {
    // Without a virtio driver on the PF (VFs through sysfs while vfio-pci has it) nobody is there who could have negotiated.
    const driven = (this.#common.status & STATUS.driver) !== 0;
    if (count > 0 && driven && !this.#sriovNegotiated && (this.offered & FEATURE.SR_IOV) !== 0n) {
      this.report("1.2", `${count} VFs were enabled, VIRTIO_F_SR_IOV was not negotiated`);
    }
    this.#admin?.vfsEnabled(count);
  }

  /** @param keepStates it is a device reset, which queue states outlive (N-6.3) */
  #clear(keepStates: boolean): void {
    const { status, keepsState } = this.#common;
    const suspended = keepStates && keepsState && (status & STATUS.driverOk) !== 0;
    this.#common.reset(keepStates);
    this.#queues.dropAll();
    this.#interrupts.clear();
    this.#parts.cleared(!keepStates);
    const legacy = this.legacy;
    this.memberLegacy?.cleared();
    // A second reset in a row finds nothing of a driver, and does not end a suspension.
    if (!keepStates || status !== 0 || legacy) {
      this.model.reset(suspended);
      this.#admin?.reset();
    }
  }

  // ---- PciFunctionBehaviour: registers ----

  /** Reads from a BAR, as the standard has it. */
  readBar(bar: number, offset: number, into: Uint8Array): void {
    into.fill(0);
    if (bar === SHARED_MEMORY_BAR) this.#shared?.read(offset, into);
    if (bar !== STRUCTURES_BAR) return;
    const sizeBytes = this.model.configSizeBytes;
    if (inside(offset, into.length, COMMON_AT, this.#common.sizeBytes)) {
      this.#common.read(offset - COMMON_AT, into);
    } else if (offset === ISR_AT) {
      into[0] = this.#interrupts.takeIsr();
    } else if (offset >= DEVICE_AT && offset < DEVICE_AT + sizeBytes) {
      this.#configRead = true;
      this.model.readConfig(offset - DEVICE_AT, into);
    }
  }

  /** Writes to a BAR, as the standard has it. */
  writeBar(bar: number, offset: number, from: Uint8Array): void {
    if (bar === SHARED_MEMORY_BAR) this.#shared?.write(offset, from);
    if (bar !== STRUCTURES_BAR) return;
    const { configSizeBytes } = this.model;
    const { memberLegacy } = this;
    if (memberLegacy !== undefined && offset >= this.#notifyArea.offset) {
      if (offset === this.#notifyArea.offset && from.length === 2) {
        memberLegacy.notified(from[0]! | from[1]! << 8);
      } else this.report("2.3", `write of ${from.length} bytes at 0x${offset.toString(16)}: no notification`);
    } else if (
      !isDeviceReset(offset, from) && memberLegacy?.refusesModern(`0x${offset.toString(16)} of BAR ${bar}`)
    ) {
      return;
    } else if (inside(offset, from.length, COMMON_AT, this.#common.sizeBytes)) {
      this.#common.write(offset - COMMON_AT, from);
    } else if (inside(offset, from.length, NOTIFY_AT, this.#queues.list.length * NOTIFY_MULTIPLIER)) {
      this.#notifyWritten(offset - NOTIFY_AT, from);
    } else if (inside(offset, from.length, DEVICE_AT, configSizeBytes)) {
      if ((this.#common.status & STATUS.featuresOk) === 0 && !this.model.configWritableAlways) {
        this.report("1.1", "device configuration was written before FEATURES_OK");
      } else this.model.writeConfig(offset - DEVICE_AT, from);
    } else if (inside(offset, from.length, this.#notifyArea.offset, this.#admin?.notifyBytes ?? 0)) {
      this.#admin!.notifyWritten(offset - this.#notifyArea.offset, from);
    } else {
      this.report("2.1", `write of ${from.length} bytes at 0x${offset.toString(16)}: there is nothing`);
    }
  }

  #notifyWritten(offset: number, from: Uint8Array): void {
    // A stopped device accepts notifications, also before it has been given the parts of the driver's former one: it looks when it is resumed.
    if (this.#parts.stopped) return;
    const index = Math.floor(offset / NOTIFY_MULTIPLIER);
    const wrong = notificationProblem(offset, from, this.negotiatedFeatures);
    if (wrong !== undefined) {
      this.report(wrong.rule, wrong.message, index);
      return;
    }
    const { status } = this.#common;
    const queue = this.#queues.list[index];
    if ((status & STATUS.driverOk) === 0) {
      this.violation("1.1", "the driver notified before DRIVER_OK", index);
    } else if (queue === undefined) {
      this.violation("2.2", "the driver notified a queue that is not enabled", index);
    } else if (this.live) {
      if (from.length === 4) {
        const problem = queue.checkNotification(from[2]! | (from[3]! & 0x7f) << 8, from[3]! >> 7);
        if (problem !== undefined) this.report("1.6", problem, index);
      }
      // The check may have found the ring unmapped, and stopped the device for it.
      if (this.live) this.#notified(index);
    }
  }

  #notified(index: number): void {
    this.wake();
    const first = this.model.queueSizes.length;
    if (index < first) this.model.notified(index);
    else this.#admin?.notified(index - first);
  }

  /** Eventfds that stand for notifications. */
  doorbells(bar: number): readonly ServedDoorbell[] {
    if (bar === SHARED_MEMORY_BAR) return this.#shared?.doorbells() ?? NOTHING;
    if (bar !== STRUCTURES_BAR || !this.#port?.dma) return NOTHING;
    return this.#doorbells.list();
  }

  #closeDoorbells(): void {
    this.#shared?.closeDoorbells();
    this.#doorbells.close();
  }

  /** See `PciFunctionBehaviour`. */
  get keepsDmaFiles(): boolean {
    return this.model.keepsDmaFiles ?? false;
  }

  /** See `PciFunctionBehaviour`: shared memory. */
  mapArea(bar: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    return bar === SHARED_MEMORY_BAR ? this.#shared?.map(offset, sizeBytes, writable) : undefined;
  }

  /**
   * A doorbell eventfd was rung.
   * An eventfd has no order relative to register writes, so one that comes when the device is not live may be from before a reset: it
   * is no violation.
   */
  rang(bar: number, offset: number): void {
    if (bar === SHARED_MEMORY_BAR) this.#shared?.rang(offset);
    if (bar !== STRUCTURES_BAR) return;
    const index = (offset - NOTIFY_AT) / NOTIFY_MULTIPLIER;
    if (this.legacy) this.memberLegacy!.rang(index);
    else if (this.live && this.#queues.list[index] !== undefined) this.#notified(index);
  }

  // ---- work ----

  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    if (!this.live) return 0;
    // A queue of commands must not wait for traffic that never ends: the work of both counts.
    const commands = this.#admin?.poll(budget) ?? 0;
    return commands + this.model.poll(budget);
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    if (!this.live) return false;
    const commands = this.#admin?.arm() ?? false;
    return this.model.arm() || commands;
  }

  /** How long to sleep at most; undefined: until something rings. */
  get wakeAfterMs(): number | undefined {
    return this.live ? this.model.wakeAfterMs : undefined;
  }

  // ---- inside ----

  /** What registers, queues, device parts and legacy registers need of this. */
  #inside(vectors: number): Omit<FrontHost, "registers"> {
    return {
      model: this.model,
      offered: this.offered,
      deviceId: this.model.deviceId,
      queueState: this.profile === "queue-state",
      vectors,
      notifyArea: this.#notifyArea,
      notificationIdentifier,
      report: (rule, message, queue) => this.report(rule, message, queue),
      violation: (rule, message, queue) => this.violation(rule, message, queue),
      wake: () => this.wake(),
      dma: () => this.dma,
      interruptQueue: (index) => this.#interrupts.queue(this.#common.queues[index]!.vector),
      attached: () => this.dma !== null,
      running: () => this.live,
      legacy: () => this.legacy,
      msixEnabled: () => this.#port?.msixEnabled ?? false,
      takeIsr: () => this.#interrupts.takeIsr(),
      statusWritten: (value) => {
        this.wake();
        if (value === 0) this.#clear(true);
        else advanceStatus(this.#host, value);
        this.#sriovNegotiated ||= (this.negotiatedFeatures & FEATURE.SR_IOV) !== 0n;
      },
      reset: () => this.#clear(true),
      start: () => this.model.start(),
      notify: (index) => this.#notified(index),
      featureProblem: (accepted) => featureProblem(accepted, this.offered, this.model, this.profile),
      readGeneration: () => this.#generation,
      setGeneration: (generation) => this.#generation = generation,
      configChanged: () => {
        this.#configRead = true;
        this.configChanged();
      },
      stateOf: (index) => {
        const queue = this.#queues.list[index];
        return queue === undefined ? undefined : queueStateToWords(queue.state());
      },
      enableQueue: (index: number, registers: QueueRegisters, features?: bigint) =>
        this.#queues.enable(index, registers, features ?? this.negotiatedFeatures),
      resetQueue: (index) => this.#queues.drop(index),
      leaveQueues: () => this.#queues.leave(),
      remakeQueue: (index, goOn) =>
        this.#queues.enable(index, this.#common.queues[index]!, this.negotiatedFeatures, goOn),
    };
  }

  #interruptConfig(): void {
    if (this.#parts.holdConfigInterrupt()) return;
    this.#interrupts.config(this.#common.configVector);
  }
}
