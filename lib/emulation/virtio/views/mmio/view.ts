/**
 * A virtio device behind the registers of a platform device: virtio-mmio in its four forms (virtio 1.2 §4.2; reference 7).
 *
 * What is here: which accesses there may be, and where they lead. Control registers take accesses of 32 bits, aligned, but for two of version 3
 * (A-7.4); the configuration takes those of its fields' widths. What breaks that is reported, reads 0 (or, in the configuration, what is there),
 * and writes nothing.
 *
 * @module
 */
import type { OwnedFd } from "../../../../../ffi/mod.ts";
import { UsageError } from "../../../../errors/mod.ts";
import type { DmaTable } from "../../../../sockets/dma_table.ts";
import type { ServedDoorbell, ServedMapping } from "../../../../sockets/vfio_user/server/served_device.ts";
import { deviceType } from "../../../../virtio/spec/device_types.ts";
import type { DeviceType } from "../../../../virtio/spec/device_type.ts";
import { FEATURE } from "../../../../virtio/spec/features.ts";
import { MMIO_CONFIG_OFFSET } from "../../../../virtio/spec/mmio.ts";
import type { FunctionQueues, QueueCounters } from "../../../../virtio/view/queue_view.ts";
import type { DeviceControls } from "../../../device_control.ts";
import type { ResetKind } from "../../../device_behaviour.ts";
import type { DeviceModel, Violation } from "../../../device_model.ts";
import type { PlatformBehaviour, PlatformPort } from "../../../platform_behaviour.ts";
import { VirtioCore } from "../../core/core.ts";
import { configAccessBytes, insideConfigField } from "../../core/config_fields.ts";
import type { Selectors, VirtioView } from "../../core/view.ts";
import { deliverMsi } from "../../msi/deliver.ts";
import type { MsiMessage } from "../../msi/entry.ts";
import { byByte, type PlacedRegister } from "../by_byte.ts";
import { DoorbellFds } from "../doorbell_fds.ts";
import { PlacedSharedMemory } from "../shared_memory.ts";
import { MmioDoorbells } from "./doorbells.ts";
import { MsiV2Registers, V3Registers } from "./drafts.ts";
import { MmioInterrupts } from "./interrupts.ts";
import { LegacyMmioRegisters } from "./legacy_registers.ts";
import { MmioMsi } from "./msi.ts";
import { coreOptions, type MmioViewOptions, msiShape } from "./options.ts";
import { MMIO_RULE, type MmioRegisterFile, type MmioRegisterName, MmioRegisters } from "./registers.ts";

/** Smallest window: what the kernels' device trees say of such a device. */
const WINDOW_BYTES = 0x200;
/** A window that is larger ends where the least page of any processor does. */
const LEAST_PAGE_BYTES = 4096;
const NOTHING: readonly ServedDoorbell[] = [];

/** A virtio-mmio device. */
export class MmioView implements PlatformBehaviour, VirtioView {
  readonly compatible = "virtio,mmio";
  readonly windowBytes: number;
  readonly messages: number;
  readonly registerRule = MMIO_RULE;
  readonly netInterface?: { readonly mac: string; readonly mtu: number };
  /** The device behind. */
  readonly core: VirtioCore;
  readonly #type: DeviceType | undefined;
  readonly #interrupts: MmioInterrupts;
  readonly #registers: MmioRegisterFile;
  readonly #byByte: readonly (PlacedRegister<string> | undefined)[];
  readonly #legacy: LegacyMmioRegisters | null;
  readonly #doorbells: MmioDoorbells;
  /** Eventfds, of the queues and of shared memory. */
  readonly #fds: DoorbellFds;
  readonly #shared: PlacedSharedMemory | null;
  #port: PlatformPort | null = null;

  /** A device in front of `model`. @throws UsageError for a shape that it cannot have */
  constructor(model: DeviceModel, options: MmioViewOptions) {
    const { mmio } = options;
    const core = this.core = new VirtioCore(this, model, coreOptions(options));
    this.#type = deviceType(model.deviceId);
    this.#doorbells = new MmioDoorbells(core, mmio.form, mmio.notify);
    const shape = msiShape(mmio, core);
    const msi = shape && new MmioMsi(core, shape, (message) => this.#send(message));
    this.messages = msi?.count ?? 0;
    this.#interrupts = new MmioInterrupts(msi);
    const honest = this.#makeRegisters(options);
    this.#legacy = honest instanceof LegacyMmioRegisters ? honest : null;
    this.#registers = options.overRegisters?.(honest) ?? honest;
    this.#byByte = byByte(honest.table);
    const end = Math.max(MMIO_CONFIG_OFFSET + model.configSizeBytes, this.#notifyEnd(options));
    this.#shared = model.sharedMemory === undefined ? null : new PlacedSharedMemory(model.sharedMemory, end);
    this.windowBytes = this.#shared === null
      ? Math.ceil(end / WINDOW_BYTES) * WINDOW_BYTES
      : Math.ceil(this.#shared.endBytes / LEAST_PAGE_BYTES) * LEAST_PAGE_BYTES;
    this.#fds = new DoorbellFds([...this.#doorbells.places(), ...this.#shared?.places ?? []]);
    if (model.netInterface !== undefined) this.netInterface = model.netInterface;
  }

  #makeRegisters({ mmio, featuresOff = 0n }: MmioViewOptions): MmioRegisterFile {
    const interrupts = this.#interrupts;
    const parts = { core: this.core, interrupts, sharedMemory: (id: number) => this.#sharedAt(id) };
    const { msi } = interrupts, { drafted: notify } = this.#doorbells;
    if (msi === null || notify === null) {
      if (mmio.form !== "legacy") return new MmioRegisters(parts);
      return new LegacyMmioRegisters(parts, { anyLayout: (featuresOff & FEATURE.ANY_LAYOUT) === 0n });
    }
    const draft = { ...parts, msi, notify };
    return mmio.form === "v3"
      ? new V3Registers(draft)
      : new MsiV2Registers(draft, mmio.stateBits === "linux");
  }

  /** Where the doorbells end. @throws UsageError for places where they cannot be */
  #notifyEnd({ notificationData }: MmioViewOptions): number {
    const { drafted } = this.#doorbells;
    if (drafted === null) return 0;
    const problem = drafted.problem(this.#registers.table, this.core.model.configSizeBytes) ??
      (notificationData && !drafted.wide ? "NOTIFICATION_DATA needs multiples of 4 (A-7.14)" : undefined);
    if (problem !== undefined) throw new UsageError(`mmio.notify: ${problem}`);
    return drafted.endBytes;
  }

  // ---- VirtioView ----

  /** Address of the device. */
  get name(): string {
    return this.#port?.name ?? "device without a machine";
  }

  get deviceId(): number {
    return this.core.model.deviceId;
  }

  get selectors(): Selectors {
    return this.#registers.selectors;
  }

  get dma(): DmaTable | null {
    return this.#port?.dma ?? null;
  }

  /** Nothing stands between a platform device and memory. */
  get mayTouchMemory(): boolean {
    return this.dma !== null;
  }

  get usesVectors(): boolean {
    return this.#interrupts.msi?.enabled ?? false;
  }

  get vectorCount(): number {
    return this.messages;
  }

  interruptQueue(_queue: number, vector: number): void {
    this.#interrupts.queue(vector);
  }

  interruptConfig(vector: number): void {
    this.#interrupts.config(vector);
  }

  raiseVector(vector: number): boolean {
    const { msi } = this.#interrupts;
    if (!msi?.enabled || vector >= msi.count) return false;
    msi.raise(vector);
    return true;
  }

  cleared(): void {
    this.#registers.cleared();
    this.#interrupts.cleared();
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

  // ---- PlatformBehaviour: life ----

  /** Takes its place; called once. */
  connect(port: PlatformPort): void {
    this.#port = port;
    this.#interrupts.connect(port);
    this.core.connect();
  }

  /** Lets go of everything; may be called again. */
  close(): void {
    this.core.close();
    this.#fds.close();
    this.#port = null;
    this.#interrupts.connect(null);
  }

  /** A client is there. */
  attached(): void {
    this.core.attached();
  }

  /** Nothing to do: no address is kept between calls, and the rings' views go by `DmaTable.generation`. */
  dmaWillUnmap(_iova: bigint, _sizeBytes: number): void {}

  /** Forgets everything of the driver. */
  reset(_kind: ResetKind): void {
    this.#powerOn();
  }

  /** The client is gone. */
  detached(): void {
    this.#powerOn();
    this.#fds.close();
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

  get keepsDmaFiles(): boolean {
    return this.core.model.keepsDmaFiles ?? false;
  }

  get addressSpaces(): readonly DmaTable[] | undefined {
    return this.core.model.addressSpaces;
  }

  // ---- PlatformBehaviour: registers ----

  /** Reads, as the standard has it. */
  readWindow(offset: number, into: Uint8Array): void {
    into.fill(0);
    if (this.#inConfig(offset, into.length)) return this.#readConfig(offset - MMIO_CONFIG_OFFSET, into);
    const found = this.#accessed("read", offset, into.length);
    if (found === undefined) {
      if (offset >= this.#sharedFrom) this.#shared!.read(offset, into);
      return;
    }
    const { name, access } = found;
    if (access === "W" || (name === "queue_notify" && !this.#doorbells.readWord())) {
      return this.core.report(MMIO_RULE, `${this.#title(found)} is write-only`);
    }
    const value = this.#registers.get(name as MmioRegisterName, offset - found.offset >= 4);
    for (let i = 0; i < into.length; i++) into[i] = value >>> (8 * i);
  }

  /** Writes, as the standard has it. */
  writeWindow(offset: number, from: Uint8Array): void {
    if (this.#doorbells.has(offset)) return this.#notifyWritten(offset, from);
    if (this.#inConfig(offset, from.length)) return this.#writeConfig(offset - MMIO_CONFIG_OFFSET, from);
    const found = this.#accessed("write", offset, from.length);
    if (found === undefined) {
      if (offset >= this.#sharedFrom) this.#shared!.write(offset, from);
      return;
    }
    const { name, access } = found;
    if (name === "queue_notify") {
      return this.core.report("A-7.8", "QueueNotify was written: its doorbells are elsewhere");
    }
    // a driver for the draft's Linux patch enables MSI there.
    if (access === "R" && !(name === "msi_status" && from.length === 2)) {
      return this.core.report(MMIO_RULE, `${this.#title(found)} is read-only`);
    }
    let value = 0;
    for (let i = 0; i < from.length; i++) value += from[i]! * 2 ** (8 * i);
    this.#registers.set(name as MmioRegisterName, offset - found.offset >= 4, value);
  }

  /** The register that an access is to; one that may not be made is reported. */
  #accessed(what: string, offset: number, width: number): PlacedRegister<string> | undefined {
    if (offset >= this.#sharedFrom) return undefined;
    const found = this.#byByte[offset];
    const there = found !== undefined && this.#exists(found);
    const at = `${what} of ${width} bytes at 0x${offset.toString(16)}`;
    if (!there) {
      this.core.report(MMIO_RULE, `${at}: there is no register`);
      return undefined;
    }
    const half = found.width === 2;
    const wide = half && what === "read" && found.name === "msi_status" && width === 4;
    const within = offset - found.offset;
    if (wide || (width === Math.min(found.width, 4) && within % 4 === 0)) return found;
    this.core.report(
      half ? "A-7.4" : MMIO_RULE,
      `${at}: ${this.#title(found)} is accessed by ${half ? 16 : 32} bits, aligned`,
    );
    return undefined;
  }

  #title({ name }: PlacedRegister<string>): string {
    return this.#registers.table[name]!.name ?? name;
  }

  /** Registers of features that are not offered are not there. */
  #exists({ feature }: PlacedRegister<string>): boolean {
    return feature === undefined || (this.core.offered >> BigInt(feature) & 1n) !== 0n;
  }

  // ---- configuration ----

  #inConfig(offset: number, length: number): boolean {
    const end = MMIO_CONFIG_OFFSET + this.core.model.configSizeBytes;
    return offset >= MMIO_CONFIG_OFFSET && offset + length <= end;
  }

  #readConfig(at: number, into: Uint8Array): void {
    this.#checkConfig("read", at, into.length);
    this.core.readConfig(at, into);
  }

  #writeConfig(at: number, from: Uint8Array): void {
    if (!this.#checkConfig("write", at, from.length)) return;
    if (this.#legacy === null) this.core.writeConfig(at, from);
    else if (this.#legacy.claimConfig()) this.core.model.writeConfig?.(at, from);
  }

  /** Accesses of the field's width; on the legacy interface any inside a field. */
  #checkConfig(what: string, at: number, length: number): boolean {
    if (this.#type === undefined) return true;
    const size = this.core.model.configSizeBytes;
    const right = this.#legacy === null
      ? configAccessBytes(this.#type, at) === length
      : insideConfigField(this.#type, size, at, length);
    if (!right) {
      this.core.report(
        MMIO_RULE,
        `configuration: ${what} of ${length} bytes at ${at}, no field of that width`,
      );
    }
    return right;
  }

  // ---- notifications ----

  #notifyWritten(offset: number, from: Uint8Array): void {
    const said = this.#doorbells.written(offset, from);
    if (said === undefined) return;
    if (this.#legacy === null) this.core.notify(said.queue, said.position);
    else this.#legacy.driver.notify(said.queue);
  }

  /** Eventfds that stand for notifications. */
  doorbells(_region: number): readonly ServedDoorbell[] {
    return this.dma === null ? NOTHING : this.#fds.list();
  }

  /** A doorbell eventfd was rung. */
  rang(_region: number, offset: number, value?: number): void {
    if (offset >= this.#sharedFrom) return this.#shared!.rang(offset);
    const queue = this.#doorbells.rung(offset, value);
    if (this.#legacy === null) this.core.rang(queue);
    else this.#legacy.driver.rang(queue);
  }

  // ---- shared memory ----

  /** See `PlatformBehaviour`. */
  mapArea(_region: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    return this.#shared?.map(offset, sizeBytes, writable);
  }

  get #sharedFrom(): number {
    return this.#shared?.areas[0]?.start ?? Infinity;
  }

  #sharedAt(id: number): { readonly address: bigint; readonly sizeBytes: number } | undefined {
    const area = this.#shared?.areas.find((one) => one.id === id);
    return area && { address: this.#port!.windowAddress + BigInt(area.start), sizeBytes: area.sizeBytes };
  }

  // ---- messages ----

  #send(message: MsiMessage): void {
    const port = this.#port;
    if (port === null) return;
    const target = {
      vectors: this.messages,
      raise: (vector: number) => port.raiseMessage(vector),
      dma: port.dma,
    };
    const wrong = deliverMsi(message, target, this.#interrupts.msi!.rule);
    if (wrong !== undefined) this.core.report(wrong.rule, wrong.problem);
  }

  #powerOn(): void {
    this.core.reset(false);
    this.#registers.poweredOn();
    this.#doorbells.poweredOn();
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
