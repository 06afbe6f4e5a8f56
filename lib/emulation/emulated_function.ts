/**
 * A PCI function of the emulated machine: config space, interrupts and reset around a behaviour, served to one VFIO user at a time.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import { errnoNumber, SyscallError } from "../../ffi/mod.ts";
import { MSIX_ENTRY_BYTES } from "../pci/capability/msix.ts";
import {
  DEVICE_FLAG,
  IRQ,
  REGION,
  REGION_FLAG,
  type RegionInfo,
  type VfioDeviceInfo,
} from "../vfio/device.ts";
import type {
  ServedIrqRequest,
  ServedRegion,
  ServedTokens,
} from "../sockets/vfio_user/server/served_device.ts";
import type { SriovShape } from "../pci/capability_builder.ts";
import { type DeviceSurroundings, EmulatedDevice } from "./emulated_device.ts";
import { type AssignedBar, type ConfigEvents, FunctionConfig } from "./function_config.ts";
import { FunctionInterrupts, pbaBytes } from "./function_interrupts.ts";
import type { BarDeclaration, PciFunctionBehaviour, PciFunctionPort } from "./pci_function.ts";

const NUM_REGIONS = 9;
const NUM_IRQS = 5;

/** What a PCI function needs of the machine around it. */
export interface FunctionSurroundings extends DeviceSurroundings {
  /** VF Enable was set with this many VFs, at most TotalVFs: bring them up. @param pf address */
  vfsAppear(pf: string, count: number): void;
  /** VF Enable was cleared: the VFs are gone. @param pf address */
  vfsDisappear(pf: string): void;
  /** The PF was reset and its VFs with it, but they stay. @param pf address */
  vfsReset(pf: string): void;
  /** What the host's kernel keeps of VF tokens. Absent: nothing, and whoever shows one is refused by nobody. */
  readonly vfTokens?: ServedTokens | undefined;
  /** On a VF: whether its PF lets VFs answer to memory accesses (VF MSE). */
  vfMemorySpace(): boolean;
}

/** How a function is made. */
export interface EmulatedFunctionOptions {
  /** PCI address. */
  readonly address: string;
  /** What stands behind its BARs. Owned from now on. */
  readonly behaviour: PciFunctionBehaviour;
  /** It is a VF. */
  readonly isVf?: boolean;
  /** Its SR-IOV capability, when it is a PF with VFs. */
  readonly sriov?: SriovShape;
  /** Where the host put its BARs. */
  readonly bars?: readonly AssignedBar[];
  /** Where the host put its VF BARs. */
  readonly vfBars?: readonly AssignedBar[];
}

/**
 * The function. Registers and interrupts behave as behind kernel VFIO:
 *
 * - Memory Space Enable is set when a user comes, as the kernel enables a function that it opens.
 * - A reset that a user asks for keeps what the kernel saves and restores around it: Command, BARs, MSI-X, PCIe controls, SR-IOV. A Function Level
 *   Reset written into Device Control is such a reset: vfio-pci does not pass the bit on but resets the function itself.
 * - So is what happens on the way from D3hot to D0: the function is reset (No_Soft_Reset is clear), and vfio-pci restores config space.
 * - BAR accesses while memory decoding is off, or in D3hot, fail with EIO.
 */
export class EmulatedFunction extends EmulatedDevice<PciFunctionBehaviour> implements PciFunctionPort {
  static {
    typedErrors(this);
  }

  /** Config space. */
  readonly config: FunctionConfig;
  /** Interrupts. */
  readonly interrupts: FunctionInterrupts;
  /** `vfio_device_info`. */
  readonly info: VfioDeviceInfo = {
    flags: DEVICE_FLAG.reset | DEVICE_FLAG.pci,
    numRegions: NUM_REGIONS,
    numIrqs: NUM_IRQS,
  };
  readonly vfTokens: ServedTokens | undefined;
  readonly #bars: readonly (BarDeclaration | undefined)[];
  readonly #isVf: boolean;
  readonly #totalVfs: number;
  readonly #around: FunctionSurroundings;
  #busMaster = false;

  /** Builds the function and connects its behaviour. @throws UsageError when the behaviour's declarations do not fit together */
  constructor(options: EmulatedFunctionOptions, around: FunctionSurroundings) {
    super(options.address, options.behaviour, around);
    this.#around = around;
    this.vfTokens = around.vfTokens;
    this.#isVf = options.isVf ?? false;
    this.#totalVfs = options.sriov?.totalVfs ?? 0;
    const bars: (BarDeclaration | undefined)[] = new Array(6).fill(undefined);
    for (const bar of options.behaviour.bars) bars[bar.index] = bar;
    this.#bars = bars;
    this.interrupts = new FunctionInterrupts(
      options.behaviour.msix,
      this.#isVf ? 0 : options.behaviour.interruptPin,
      (before, now) => around.resampleChanged(before, now),
    );
    const shape = { isVf: this.#isVf, sriov: options.sriov };
    this.config = new FunctionConfig(options.behaviour, shape, this.#configEvents());
    this.config.assignAddresses(options.bars ?? [], options.vfBars ?? []);
    using opened = new DisposableStack();
    opened.defer(() => this.behaviour.close());
    this.behaviour.connect(this);
    opened.move();
  }

  get busMaster(): boolean {
    return this.#busMaster;
  }

  get msixEnabled(): boolean {
    return this.interrupts.msixEnabled;
  }

  raiseMsix(vector: number): boolean {
    return this.interrupts.raiseMsix(vector);
  }

  barAddress(bar: number): bigint | undefined {
    return this.config.barAddress(bar);
  }

  setIntx(asserted: boolean): void {
    this.interrupts.setIntxLevel(asserted);
  }

  /** `vfio_region_info`, with the file behind what may be mapped. */
  region(index: number): ServedRegion {
    const none: RegionInfo = { index, flags: 0, sizeBytes: 0, mmapAreas: [], msixMappable: false };
    const access = REGION_FLAG.read | REGION_FLAG.write;
    if (index === REGION.config) return { ...none, flags: access, sizeBytes: this.config.sizeBytes };
    const bar = this.#bars[index];
    if (bar === undefined) return none;
    if (bar.mapping === undefined) return { ...none, flags: access, sizeBytes: bar.sizeBytes };
    const { file, fileOffset, areas } = bar.mapping;
    return {
      ...none,
      flags: access | REGION_FLAG.mmap,
      sizeBytes: bar.sizeBytes,
      mmapAreas: areas,
      file,
      fileOffset,
    };
  }

  /** A user's read. @throws SyscallError EIO while the function does not answer to it */
  readRegion(index: number, offset: number, into: Uint8Array): void {
    if (index === REGION.config) return this.config.read(offset, into, this.#live());
    this.checkAnswers(index, "read");
    this.#accessBar(index, offset, into, false);
  }

  /** A user's write. @throws SyscallError EIO while the function does not answer to it */
  writeRegion(index: number, offset: number, from: Uint8Array): void {
    if (index === REGION.config) return this.config.write(offset, from);
    this.checkAnswers(index, "write");
    this.#accessBar(index, offset, from, true);
  }

  override setIrqs(index: number, request: ServedIrqRequest): void {
    super.setIrqs(index, request);
    if (index === IRQ.msix) this.#controlsChanged();
  }

  /** The host saves and restores around it, SR-IOV included. */
  reset(): void {
    this.#reset("device");
  }

  /** Reset by the host's kernel; or its PF was reset while its VFs stay: they come out of it as after an FLR. */
  resetByHost(): void {
    this.#reset("flr");
  }

  protected override opened(): void {
    this.config.setCommand({ memorySpace: this.#hasSpace("mem"), ioSpace: this.#hasSpace("io") });
  }

  protected override powerOn(): void {
    this.config.powerOn();
  }

  protected override hasRegisters(index: number): boolean {
    return this.#bars[index] !== undefined;
  }

  /** A driver of the host's kernel takes or leaves the function. */
  setHostDriver(active: boolean): void {
    this.config.setCommand({
      memorySpace: active && this.#hasSpace("mem") && !this.#isVf,
      ioSpace: active && this.#hasSpace("io"),
      busMaster: active,
    });
  }

  /** Config space as the hardware has it, for the host's kernel. */
  readHardwareConfig(): Uint8Array<ArrayBuffer> {
    return this.config.readHardware(this.#live());
  }

  requestRelease(): void {
    this.interrupts.requestRelease();
  }

  /** Tells the user of an uncorrectable error, as the kernel does when AER reports one. */
  reportError(): void {
    this.interrupts.reportError();
  }

  #configEvents(): ConfigEvents {
    return {
      controlsChanged: () => this.#controlsChanged(),
      functionLevelReset: () => this.#reset("flr"),
      softReset: () => this.#reset("flr"),
      enableVfs: (count) => this.#enableVfs(count),
      disableVfs: () => this.#disableVfs(),
      // Aimed at nothing, or at a function that does not decode: hardware drops the access.
      readBar: (bar, offset, into) => {
        if (this.#reachable(bar, offset, into.byteLength)) this.#accessBar(bar, offset, into, false);
      },
      writeBar: (bar, offset, from) => {
        if (this.#reachable(bar, offset, from.byteLength)) this.#accessBar(bar, offset, from, true);
      },
    };
  }

  #controlsChanged(): void {
    const awake = !this.config.asleep;
    const busMaster = this.config.command("busMaster") && awake;
    this.interrupts.setControls({
      busMaster,
      intxDisable: this.config.command("interruptDisable"),
      msixEnable: this.config.msixEnable,
    });
    if (busMaster === this.#busMaster) return;
    this.#busMaster = busMaster;
    this.behaviour.busMasterChanged?.(busMaster);
  }

  #enableVfs(count: number): boolean {
    if (count > this.#totalVfs) {
      this.report({
        function: this.name,
        rule: "PCIe 9.3.3.3.1",
        message: `VF Enable was set with NumVFs ${count}, above TotalVFs ${this.#totalVfs}: refused`,
      });
      return false;
    }
    this.#around.vfsAppear(this.name, count);
    this.behaviour.vfsEnabled?.(count);
    return true;
  }

  #disableVfs(): void {
    this.#around.vfsDisappear(this.name);
    this.behaviour.vfsEnabled?.(0);
  }

  #reset(kind: "device" | "flr"): void {
    this.config.wake();
    this.behaviour.reset(kind);
    this.interrupts.reset();
    this.#controlsChanged();
    if (this.config.vfEnable) this.#around.vfsReset(this.name);
  }

  #live(): { interrupt: boolean; msixOn: boolean } {
    return { interrupt: this.interrupts.line.asserted, msixOn: this.interrupts.msixTriggersSet };
  }

  #hasSpace(kind: "mem" | "io"): boolean {
    return this.behaviour.bars.some((bar) => (bar.kind === "io") === (kind === "io"));
  }

  #decodes(bar: BarDeclaration): boolean {
    if (this.config.asleep) return false;
    if (bar.kind === "io") return this.config.command("ioSpace");
    return this.config.command("memorySpace") && (!this.#isVf || this.#around.vfMemorySpace());
  }

  #reachable(index: number, offset: number, length: number): boolean {
    const bar = this.#bars[index];
    return bar !== undefined && this.#decodes(bar) && offset + length <= bar.sizeBytes;
  }

  protected override checkAnswers(index: number, call: string): void {
    const bar = this.#bars[index];
    if (bar !== undefined && this.#decodes(bar)) return;
    throw new SyscallError(`${call} BAR ${index}`, this.name, errnoNumber.EIO!, {
      hint: "Memory Space Enable is clear, or the function is in D3hot",
    });
  }

  /** MSI-X table and PBA answer for their ranges, the behaviour for the rest. */
  #accessBar(index: number, offset: number, bytes: Uint8Array, write: boolean): void {
    const { msix } = this.behaviour;
    const end = offset + bytes.byteLength;
    if (msix !== undefined) {
      const parts = [
        [msix.table, msix.vectors * MSIX_ENTRY_BYTES, true],
        [msix.pendingBits, pbaBytes(msix.vectors), false],
      ] as const;
      for (const [{ bar, offset: start }, size, isTable] of parts) {
        if (bar !== index || end <= start || offset >= start + size) continue;
        const [from, to] = [Math.max(offset, start), Math.min(end, start + size)];
        if (offset < from) this.#accessBar(index, offset, bytes.subarray(0, from - offset), write);
        const inside = bytes.subarray(from - offset, to - offset);
        if (!isTable) { if (!write) this.interrupts.readPba(from - start, inside); }
        else if (write) this.interrupts.writeTable(from - start, inside);
        else this.interrupts.readTable(from - start, inside);
        if (to < end) this.#accessBar(index, to, bytes.subarray(to - offset), write);
        return;
      }
    }
    if (write) this.behaviour.writeBar(index, offset, bytes);
    else this.behaviour.readBar(index, offset, bytes);
  }
}
