/**
 * A virtio device behind the BARs of a PCI function: the modern PCI transport, and for members of a group its legacy registers
 * (virtio 1.2 §4.1; reference 2).
 *
 * @module
 */
import type { OwnedFd } from "../../../../../ffi/mod.ts";
import { UsageError } from "../../../../errors/mod.ts";
import type { MsixShape } from "../../../../pci/capability_builder.ts";
import { VIRTIO_MODERN_BASE, VIRTIO_VENDOR_ID } from "../../../../pci/virtio_ids.ts";
import { FEATURE } from "../../../../virtio/spec/features.ts";
import type { FunctionQueues, QueueCounters } from "../../../../virtio/view/queue_view.ts";
import { STATUS } from "../../../../virtio/spec/status.ts";
import type { DmaTable } from "../../../../sockets/dma_table.ts";
import type {
  ServedDoorbell,
  ServedMapping,
  ServedMigration,
} from "../../../../sockets/vfio_user/server/served_device.ts";
import type { DeviceControls } from "../../../device_control.ts";
import type { ResetKind } from "../../../device_behaviour.ts";
import type { DeviceModel, Violation } from "../../../device_model.ts";
import type {
  BarDeclaration,
  PciFunctionBehaviour,
  PciFunctionPort,
  PciIdentity,
  VendorCapability,
} from "../../../pci_function.ts";
import type { GroupPlace } from "../../admin/engine.ts";
import type { GroupMember, NotifyArea } from "../../admin/handler.ts";
import { VirtioCore } from "../../core/core.ts";
import type { LegacyOptions } from "../../core/legacy_driver.ts";
import type { CoreOptions } from "../../core/options.ts";
import type { Selectors, VirtioView } from "../../core/view.ts";
import { LegacyView } from "../legacy/view.ts";
import { PciCommon } from "./common.ts";
import { DoorbellFds } from "../doorbell_fds.ts";
import { notificationProblem, queueDoorbells } from "./doorbells.ts";
import { PciInterrupts } from "./interrupts.ts";
import {
  behindDoorbells,
  COMMON_AT,
  DEVICE_AT,
  inside,
  isDeviceReset,
  ISR_AT,
  msixOf,
  NOTIFY_AT,
  NOTIFY_MULTIPLIER,
  PAGE,
  structureBars,
  structureCapabilities,
  STRUCTURES_BAR,
} from "./layout.ts";
import { PciSharedMemory, SHARED_MEMORY_BAR } from "./shared_memory.ts";

const NOTHING: readonly ServedDoorbell[] = [];

/** How a function differs from the default. */
export interface PciViewOptions extends CoreOptions {
  /** Of a VF: its place in the group of its PF. */
  readonly group?: GroupPlace | undefined;
  /** It has legacy registers, for the commands of its owner to reach: a VF whose PF offers them. Not together with `admin`. */
  readonly legacy?: boolean | LegacyOptions;
  /** Makes the common configuration; default: an honest one. */
  readonly makeCommon?: (core: VirtioCore) => PciCommon;
}

/** A virtio function with modern registers. */
export class PciView implements PciFunctionBehaviour, VirtioView {
  readonly identity: PciIdentity;
  readonly bars: readonly BarDeclaration[];
  readonly msix: MsixShape;
  readonly interruptPin = 1;
  readonly vendorCapabilities: readonly VendorCapability[];
  readonly netInterface?: { readonly mac: string; readonly mtu: number };
  /** The device behind. */
  readonly core: VirtioCore;
  /** Its legacy registers, when it has some. */
  readonly memberLegacy: LegacyView | undefined;
  readonly #common: PciCommon;
  /** Of the legacy interface: on a VF its own, on its owner the first of those for its members. */
  readonly #notifyArea: NotifyArea;
  readonly #group: GroupPlace | undefined;
  readonly #shared: PciSharedMemory | null;
  readonly #doorbells: DoorbellFds;
  readonly #interrupts = new PciInterrupts();
  #port: PciFunctionPort | null = null;

  /** A function in front of `model`. @throws UsageError when VERSION_1 shall not be offered, or a legacy interface that it cannot have */
  constructor(model: DeviceModel, options: PciViewOptions = {}) {
    const core = this.core = new VirtioCore(this, model, options);
    this.#common = options.makeCommon?.(core) ?? new PciCommon(core);
    this.#group = options.group;
    const queueCount = core.queues.length;
    this.identity = {
      vendorId: VIRTIO_VENDOR_ID,
      deviceId: VIRTIO_MODERN_BASE + model.deviceId,
      subsystemVendorId: VIRTIO_VENDOR_ID,
      subsystemId: 0x1100,
      revision: 1,
      classCode: model.classCode,
    };
    this.#notifyArea = { bar: STRUCTURES_BAR, offset: behindDoorbells(queueCount) };
    this.memberLegacy = this.#legacy(options);
    const behind = this.#notifyArea.offset;
    const managed = model.notifyArea?.doorbells.map((shared) =>
      shared.map(({ offset, sizeBytes }) => ({ offset: behind + offset, sizeBytes }))
    );
    this.#doorbells = new DoorbellFds(
      [...queueDoorbells(queueCount), ...managed ?? []],
      this.memberLegacy && behind,
    );
    this.#shared = model.sharedMemory === undefined ? null : new PciSharedMemory(model.sharedMemory);
    this.bars = [
      ...structureBars(queueCount, core.vectorCount, this.memberLegacy ? PAGE : this.#notifyBytes),
      ...this.#shared?.bars ?? [],
    ];
    this.msix = msixOf(core.vectorCount);
    this.vendorCapabilities = [
      ...this.#shared?.capabilities ?? [],
      ...structureCapabilities(queueCount, model.configSizeBytes, NOTIFY_AT, this.#common.sizeBytes),
    ];
    if (model.netInterface !== undefined) this.netInterface = model.netInterface;
  }

  /** Of members or managed devices; a function has not both. */
  get #notifyBytes(): number {
    const { admin, model } = this.core;
    return model.notifyArea?.sizeBytes ?? admin?.notifyBytes ?? 0;
  }

  #legacy({ legacy = false, admin, featuresOff = 0n }: PciViewOptions): LegacyView | undefined {
    if (legacy === false) return undefined;
    if (admin !== undefined) throw new UsageError("an owner of a group has no legacy registers as a member");
    const anyLayout = (featuresOff & FEATURE.ANY_LAYOUT) === 0n;
    const options = legacy === true ? { anyLayout } : { anyLayout, ...legacy };
    return new LegacyView(this.core, this.#interrupts, this.#notifyArea, options);
  }

  // ---- VirtioView ----

  /** PCI address of the function. */
  get name(): string {
    return this.#port?.name ?? "function without a machine";
  }

  get selectors(): Selectors {
    return this.#common.selectors;
  }

  get dma(): DmaTable | null {
    return this.#port?.dma ?? null;
  }

  get mayTouchMemory(): boolean {
    const port = this.#port;
    return port !== null && port.busMaster && port.dma !== null;
  }

  get usesVectors(): boolean {
    return this.#interrupts.usesVectors;
  }

  interruptQueue(_queue: number, vector: number): void {
    this.#interrupts.queue(vector);
  }

  interruptConfig(vector: number): void {
    this.#interrupts.config(vector);
  }

  raiseVector(vector: number): boolean {
    return this.#port?.raiseMsix(vector) ?? false;
  }

  cleared(): void {
    this.#common.cleared();
    this.memberLegacy?.cleared();
    this.#interrupts.clear();
  }

  report(violation: Violation): void {
    this.#port?.report(violation);
  }

  get watch(): ((fd: OwnedFd, handler: () => void) => void) | undefined {
    return this.#port?.watch;
  }

  get unwatch(): ((fd: OwnedFd) => void) | undefined {
    return this.#port?.unwatch;
  }

  wake(): void {
    this.#port?.wake?.();
  }

  get notifyAddress(): bigint | undefined {
    const bar = this.#port?.barAddress?.(STRUCTURES_BAR);
    return bar === undefined ? undefined : bar + BigInt(this.#notifyArea.offset);
  }

  // ---- PciFunctionBehaviour: life ----

  /** This VF, as the administration commands of its PF reach it. */
  get groupMember(): GroupMember {
    const { memberLegacy: legacy } = this;
    return { name: this.name, parts: this.core.parts, legacy };
  }

  /** Takes its place; called once. */
  connect(port: PciFunctionPort): void {
    this.#port = port;
    this.#interrupts.connect(port);
    this.core.connect();
    this.core.admin?.connect(this.core, this.core.model.queueSizes.length, this.#notifyArea);
    this.#group?.join(this.groupMember);
  }

  /** Lets go of everything; may be called again. */
  close(): void {
    this.#group?.leave();
    this.core.close();
    this.#closeDoorbells();
    this.#port = null;
    this.#interrupts.connect(null);
  }

  /** A client is there. */
  attached(): void {
    this.core.attached();
  }

  /** Devices behind this one sleep by themselves. */
  busMasterChanged(enabled: boolean): void {
    if (enabled) this.core.model.resumed?.();
  }

  /** Nothing to do: no address is kept between calls, and the rings' views go by `DmaTable.generation`. */
  dmaWillUnmap(_iova: bigint, _sizeBytes: number): void {}

  /** Forgets everything of the driver. */
  reset(_kind: ResetKind): void {
    this.core.reset(false);
  }

  /** The client is gone. */
  detached(): void {
    this.core.reset(false);
    this.#closeDoorbells();
  }

  get migration(): ServedMigration | undefined {
    return this.core.migration;
  }

  get controls(): DeviceControls {
    return this.core.controls;
  }

  queueReport(): FunctionQueues {
    return this.core.queueReport();
  }

  /** What they have done, for `/ringside/counters`. */
  queueCounters(): QueueCounters[] {
    return this.core.queueCounters();
  }

  /** Lets the virtio driver of the PF know that it enabled VFs without leave. */
  vfsEnabled(count: number): void {
    const { core } = this;
    // Without a virtio driver on the PF (VFs through sysfs while vfio-pci has it) nobody is there who could have negotiated. Once negotiated,
    // VFs may be enabled from then on, whatever is reset.
    const driven = (core.status & STATUS.driver) !== 0;
    if (count > 0 && driven && (core.offered & ~core.everNegotiated & FEATURE.SR_IOV) !== 0n) {
      core.report("1.2", `${count} VFs were enabled, VIRTIO_F_SR_IOV was not negotiated`);
    }
    core.admin?.vfsEnabled(count);
  }

  // ---- PciFunctionBehaviour: registers ----

  /** Reads from a BAR, as the standard has it. */
  readBar(bar: number, offset: number, into: Uint8Array): void {
    into.fill(0);
    if (bar === SHARED_MEMORY_BAR) this.#shared?.read(offset, into);
    if (bar !== STRUCTURES_BAR) return;
    if (inside(offset, into.length, COMMON_AT, this.#common.sizeBytes)) {
      this.#common.read(offset - COMMON_AT, into);
    } else if (offset === ISR_AT) {
      into[0] = this.#interrupts.takeIsr();
    } else if (offset >= DEVICE_AT && offset < DEVICE_AT + this.core.model.configSizeBytes) {
      this.core.readConfig(offset - DEVICE_AT, into);
    }
  }

  /** Writes to a BAR, as the standard has it. */
  writeBar(bar: number, offset: number, from: Uint8Array): void {
    if (bar === SHARED_MEMORY_BAR) this.#shared?.write(offset, from);
    if (bar !== STRUCTURES_BAR) return;
    const { core, memberLegacy } = this;
    if (memberLegacy !== undefined && offset >= this.#notifyArea.offset) {
      if (offset === this.#notifyArea.offset && from.length === 2) {
        memberLegacy.notified(from[0]! | from[1]! << 8);
      } else core.report("2.3", `write of ${from.length} bytes at 0x${offset.toString(16)}: no notification`);
    } else if (core.legacy && !isDeviceReset(offset, from)) {
      core.refuseModern(`0x${offset.toString(16)} of BAR ${bar}`);
    } else if (inside(offset, from.length, COMMON_AT, this.#common.sizeBytes)) {
      this.#common.write(offset - COMMON_AT, from);
    } else if (inside(offset, from.length, NOTIFY_AT, core.queues.length * NOTIFY_MULTIPLIER)) {
      this.#notifyWritten(offset - NOTIFY_AT, from);
    } else if (inside(offset, from.length, DEVICE_AT, core.model.configSizeBytes)) {
      core.writeConfig(offset - DEVICE_AT, from);
    } else if (inside(offset, from.length, this.#notifyArea.offset, this.#notifyBytes)) {
      const at = offset - this.#notifyArea.offset;
      if (core.model.notifyArea !== undefined) core.model.notifyArea.written(at, from);
      else core.admin!.notifyWritten(at, from);
    } else {
      core.report("2.1", `write of ${from.length} bytes at 0x${offset.toString(16)}: there is nothing`);
    }
  }

  #notifyWritten(offset: number, from: Uint8Array): void {
    const { core } = this;
    if (core.stoppedByOwner) return;
    const queue = core.queues[Math.floor(offset / NOTIFY_MULTIPLIER)]!;
    const wrong = notificationProblem(queue, offset % NOTIFY_MULTIPLIER, from, core.negotiatedFeatures);
    if (wrong !== undefined) queue.report(wrong.rule, wrong.message);
    else core.notify(queue.index, from.length === 4 ? from[2]! | from[3]! << 8 : undefined);
  }

  /** Eventfds that stand for notifications. */
  doorbells(bar: number): readonly ServedDoorbell[] {
    if (bar === SHARED_MEMORY_BAR) return this.#shared?.doorbells.list() ?? NOTHING;
    if (bar !== STRUCTURES_BAR || this.dma === null) return NOTHING;
    return this.#doorbells.list();
  }

  #closeDoorbells(): void {
    this.#shared?.doorbells.close();
    this.#doorbells.close();
  }

  /** A doorbell eventfd was rung. */
  rang(bar: number, offset: number): void {
    if (bar === SHARED_MEMORY_BAR) this.#shared?.rang(offset);
    if (bar !== STRUCTURES_BAR) return;
    if (offset >= this.#notifyArea.offset) {
      return this.core.model.notifyArea?.rang(offset - this.#notifyArea.offset);
    }
    const index = (offset - NOTIFY_AT) / NOTIFY_MULTIPLIER;
    if (this.core.legacy) this.memberLegacy!.driver.rang(index);
    else this.core.rang(index);
  }

  get keepsDmaFiles(): boolean {
    return this.core.model.keepsDmaFiles ?? false;
  }

  get addressSpaces(): readonly DmaTable[] | undefined {
    return this.core.model.addressSpaces;
  }

  /** See `PciFunctionBehaviour`: shared memory. */
  mapArea(bar: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    return bar === SHARED_MEMORY_BAR ? this.#shared?.map(offset, sizeBytes, writable) : undefined;
  }

  // ---- work ----

  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    return this.core.poll(budget);
  }

  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    return this.core.arm();
  }

  /** How long to sleep at most; undefined: until something rings. */
  get wakeAfterMs(): number | undefined {
    return this.core.wakeAfterMs;
  }
}
