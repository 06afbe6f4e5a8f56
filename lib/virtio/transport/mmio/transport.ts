/**
 * What all forms of virtio-mmio have in common (virtio 1.2 §4.2; reference 7).
 *
 * @module
 */
import { requireType, typedErrors } from "../../../errors/doors.ts";
import type { RegisterDeclaration, RegisterTable } from "../../../registers/declaration.ts";
import {
  partOf,
  type RegisterAccess,
  Registers,
  type RegisterSpace,
  TracedSpace,
} from "../../../registers/registers.ts";
import { MMIO_CONFIG_OFFSET, type MmioForm, type MmioRegisterName } from "../../spec/mmio.ts";
import { ISR } from "../../spec/pci.ts";
import { STATUS } from "../../spec/status.ts";
import { MmioInterrupts } from "./interrupts.ts";
import type { MmioWindow } from "./window.ts";
import { RegisterTransport } from "../register_transport.ts";
import type { InterruptKind, Profile } from "../transport.ts";

/** How to open. */
export interface MmioOptions {
  /**
   * Which text the registers follow: `spec` (default) for versions 1 and 2, `mmio-v3`, or `mmio-msi-v2`. It is never guessed: the drafts gave register
   * 0x0c0 and feature bits 39 and 40 other meanings than the standard.
   */
  readonly profile?: Profile;
  /** Drive a device behind an IOMMU also when it does not offer ACCESS_PLATFORM: as `PciModernOptions`. Default: refuse it. */
  readonly assumeAccessPlatform?: boolean;
  /** Told of each access to a register, after it was made; the config space and doorbells are none. */
  readonly trace?: (access: RegisterAccess) => void;
  /** Profile `mmio-v3`: turn MSI on and off by writing bit 15 of MsiStatus, for devices made for the draft's first Linux driver. Default: MsiCmd ENABLE. */
  readonly msiEnableByStatus?: boolean;
  /** Profile `mmio-msi-v2`: where the fields of MsiState are: bits 0 and 1 of the specification's patch, or 31 and 30 of Linux's. Default `spec`. */
  readonly msiStateBits?: "spec" | "linux";
}

/** What a device says of itself, and how it is opened. */
export interface MmioParts<T extends RegisterTable> {
  /** The transport's from now on. */
  readonly window: MmioWindow;
  /** Of the form that the device has. */
  readonly table: T;
  /** That form. */
  readonly form: MmioForm;
  /** DeviceID. */
  readonly deviceId: number;
  /** As given to `openMmio`. */
  readonly options: MmioOptions;
}

/** See the module. Closing it stops the virtio device, turns interrupts off and closes the window. */
export abstract class MmioTransport<T extends RegisterTable & Record<MmioRegisterName, RegisterDeclaration>>
  extends RegisterTransport<T> {
  static {
    typedErrors(this);
  }

  /** Discriminator. */
  readonly kind = "mmio";
  /** See `VirtioTransport`. */
  readonly allOnesReason = "nothing is behind its window";
  /** Of kernel VFIO with an IOMMU, as on PCI. */
  readonly needsAccessPlatform: boolean;
  /** What the registers lie in. */
  protected readonly window: MmioWindow;
  /** From offset 0x100 on; by fields, as they are wide. */
  protected readonly configSpace: RegisterSpace;
  /** As `interrupts`. */
  protected readonly line: MmioInterrupts;

  /** Touches no register. */
  constructor({ window, table, deviceId, options }: MmioParts<T>) {
    const interrupts = new MmioInterrupts(window);
    super({
      device: window,
      registers: new Registers(table, tracedWindow(window, table, options)),
      interrupts,
      deviceId,
      profile: options.profile,
    });
    this.line = interrupts;
    this.window = window;
    this.configSpace = partOf(window.space, MMIO_CONFIG_OFFSET);
    this.needsAccessPlatform = window.dma.mapper.iommu === true && options.assumeAccessPlatform !== true;
  }

  /** QueueSizeMax says for each queue whether it is there: see `countQueues`. */
  get queueCount(): number {
    return this.countQueues();
  }

  /** QueueSizeMax. */
  queueMaxSize(queue: number): number {
    this.select(queue);
    return this.registers.read("queue_size_max");
  }

  /** Status: its bits are those of a byte. */
  override readStatus(): number {
    return super.readStatus() & 0xff;
  }

  /** Status. Messages are turned on before DRIVER_OK, when all vectors are configured (N-7.4). */
  override writeStatus(status: number): void {
    this.requireOpen();
    if ((status & STATUS.driverOk) !== 0) this.line.start();
    super.writeStatus(status);
    if (status === 0) this.line.forget();
  }

  /** As of every transport; vectors are forgotten. Default `timeoutMs` 5000. */
  override reset(timeoutMs?: number): void {
    super.reset(timeoutMs);
    this.line.forget();
  }

  /** Why there are no messages; else undefined. */
  get interruptLack(): string | undefined {
    this.requireOpen();
    return this.line.lack;
  }

  /** What is on: the line also where messages were asked for and the device does not take them (N-7.3). */
  get interruptKind(): InterruptKind {
    const { kind } = this.interrupts;
    return kind === "intx" || kind === "msi" ? kind : "none";
  }

  /** A message for changes of the config space; null for none. */
  setConfigVector(vector: number | null): void {
    this.requireOpen();
    this.line.bind("config", vector);
  }

  /** A message for a queue; null for none. */
  setQueueVector(queue: number, vector: number | null): void {
    this.requireQueue(queue);
    this.line.bind(queue, vector);
  }

  /** As it was set: no register reads it. */
  protected override queueVector(queue: number): number | null {
    return this.line.vectorOf(queue);
  }

  /** InterruptStatus, and what it says acknowledged. With messages on neither is touched (N-7.2): all may have happened. */
  readInterruptStatus(): number {
    this.requireOpen();
    if (this.interrupts.kind === "msi") return ISR.queue | ISR.config;
    const status = this.registers.read("interrupt_status") & (ISR.queue | ISR.config);
    if (status !== 0) this.registers.write("interrupt_ack", status);
    return status;
  }

  /** A register of the window that is written to notify; a caller's window may give anything. @throws UsageError */
  protected register(offset: number, width: 2 | 4, value?: number): ReturnType<MmioWindow["doorbell"]> {
    const found = this.window.doorbell(offset, width, value === undefined ? {} : { value });
    requireType(found, "object", `${this.name}: what window.doorbell gave`, "write");
    return found;
  }

  /** Closes the window. */
  protected release(): void {
    this.window.close();
  }
}

/** The registers of a window, told of if that is asked for. */
export function tracedWindow(
  window: MmioWindow,
  table: RegisterTable,
  { trace }: Pick<MmioOptions, "trace">,
): RegisterSpace {
  return trace === undefined ? window.space : new TracedSpace(window.space, table, trace);
}
