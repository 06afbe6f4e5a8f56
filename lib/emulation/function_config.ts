/**
 * Configuration space of an emulated function: which capabilities it has, and what a write sets off.
 *
 * @module
 */
import { UsageError } from "../errors/mod.ts";
import { decodeBaseAddresses } from "../pci/base_address.ts";
import * as build from "../pci/capability_builder.ts";
import { findVirtioStructure, VIRTIO_STRUCTURE_REGISTERS as WINDOW } from "../pci/capability/virtio.ts";
import { buildConfigSpace } from "../pci/config_builder.ts";
import type { ConfigSpaceImage } from "../pci/config_writer.ts";
import {
  EXPRESS,
  EXTENDED_BYTES,
  findCapability,
  HEADER,
  MSIX,
  POWER_MANAGEMENT,
  SRIOV,
  walkCapabilities,
} from "../pci/mod.ts";
import { fieldMask } from "../registers/declaration.ts";
import type { BarDeclaration, PciFunctionBehaviour } from "./pci_function.ts";

/** What a write to config space sets off. Called after the write took effect. */
export interface ConfigEvents {
  /** Command, MSI-X control or power state may have changed. */
  controlsChanged(): void;
  /** Initiate Function Level Reset was written. */
  functionLevelReset(): void;
  /** D0 was written in D3hot. */
  softReset(): void;
  /** VF Enable went from 0 to 1. @returns false when it cannot be: the bit then reads 0 again */
  enableVfs(count: number): boolean;
  /** VF Enable went from 1 to 0. */
  disableVfs(): void;
  /** Access through `virtio_pci_cfg_cap`: fill `into` from a BAR. */
  readBar(bar: number, offset: number, into: Uint8Array): void;
  /** Access through `virtio_pci_cfg_cap`: write to a BAR. */
  writeBar(bar: number, offset: number, from: Uint8Array): void;
}

/** A BAR and where the host has put it. */
export interface AssignedBar {
  /** The BAR. */
  readonly bar: BarDeclaration;
  /** Its bus address; a multiple of its size. */
  readonly address: bigint;
}

const COMMAND = HEADER.command;
const DEVICE_CONTROL = EXPRESS.registers.deviceControl;
const MSIX_CONTROL = MSIX.registers.control;
const POWER_CONTROL = POWER_MANAGEMENT.registers.control;
const { control: SRIOV_CONTROL, numVfs: NUM_VFS, vfBars: VF_BARS } = SRIOV.registers;
const DWORD = 4;
const BARS = 6;
/** Of 192 bytes power management takes 8, MSI-X 12 and PCI Express 60. */
const VENDOR_BYTES_BESIDE_EXPRESS_2 = 112;

/**
 * Config space as a VFIO user sees it: a VF shows its ids and a working Memory Space Enable, which kernel VFIO fills in for it too.
 *
 * Writes are carried out dword by dword, as configuration requests arrive at hardware.
 */
export class FunctionConfig {
  readonly #image: ConfigSpaceImage;
  readonly #isVf: boolean;
  readonly #events: ConfigEvents;
  readonly #msix: number | undefined;
  readonly #express: number;
  readonly #power: number;
  readonly #sriov: number | undefined;
  /** Offset of the capability that accesses BARs. */
  readonly #window: number | undefined;

  /**
   * Builds the space.
   * @param shape `sriov` for a PF with VFs, `isVf` for a VF
   * @throws UsageError when the behaviour declares something that does not fit
   */
  constructor(
    behaviour: PciFunctionBehaviour,
    shape: { readonly sriov?: build.SriovShape; readonly isVf?: boolean },
    events: ConfigEvents,
  ) {
    const { identity } = behaviour;
    this.#isVf = shape.isVf ?? false;
    this.#events = events;
    this.#image = buildConfigSpace({
      isVf: this.#isVf,
      hasIntx: behaviour.interruptPin === 1 && !this.#isVf,
      ...identity,
      revisionId: identity.revision,
      bars: behaviour.bars,
      capabilities: standardCapabilities(behaviour),
      extendedCapabilities: extendedCapabilities(shape.sriov),
    });
    const { capabilities } = walkCapabilities(this.#image.config);
    this.#msix = findCapability(capabilities, "msi-x")?.offset;
    this.#express = findCapability(capabilities, "express")!.offset;
    this.#power = findCapability(capabilities, "power-management")!.offset;
    this.#sriov = findCapability(capabilities, "sr-iov")?.offset;
    this.#window = findVirtioStructure(capabilities, "pciCfg")?.offset;
  }

  /** Bytes of the config region. */
  get sizeBytes(): number {
    return EXTENDED_BYTES;
  }

  /** A bit of the Command register. */
  command(name: keyof typeof COMMAND.fields): boolean {
    return this.#bit(COMMAND.offset, fieldMask(COMMAND.fields[name]));
  }

  /** MSI-X Enable, as written. */
  get msixEnable(): boolean {
    return this.#msix !== undefined &&
      this.#bit(this.#msix + MSIX_CONTROL.offset, fieldMask(MSIX_CONTROL.fields.enable));
  }

  /** The function is in D3hot and answers to config accesses only. */
  get asleep(): boolean {
    return this.#bit(
      this.#power + POWER_CONTROL.offset,
      fieldMask(POWER_CONTROL.fields.powerState),
    );
  }

  /** NumVFs as written. */
  get numVfs(): number {
    return this.#sriov === undefined ? 0 : this.#image.config.read16(this.#sriov + NUM_VFS.offset);
  }

  /** VF Enable. */
  get vfEnable(): boolean {
    return this.#sriovControl(fieldMask(SRIOV_CONTROL.fields.vfEnable));
  }

  /** VF MSE: VFs answer to memory accesses. */
  get vfMemorySpace(): boolean {
    return this.#sriovControl(fieldMask(SRIOV_CONTROL.fields.vfMemorySpaceEnable));
  }

  /** Where the host has put a BAR, as the registers have it; undefined when there is no such BAR. */
  barAddress(bar: number): bigint | undefined {
    const read = (offset: number) => this.#image.config.read32(offset);
    return decodeBaseAddresses(read, HEADER.bars.offset, BARS).find(({ index }) => index === bar)?.address;
  }

  /**
   * Reads as a VFIO user. `interrupt` and `msixOn` are live state: the INTx line, and MSI-X in use by SET_IRQS.
   * @throws UsageError outside the space
   */
  read(offset: number, into: Uint8Array, live: { interrupt: boolean; msixOn: boolean }): void {
    if (this.#window !== undefined) this.#readWindow(this.#window, offset, into.byteLength);
    into.set(this.#image.read(offset, into.byteLength));
    // Bit 3 of Status.
    if (live.interrupt) orInto(into, HEADER.status.offset - offset, 0x08);
    // The top bit of MSI-X Message Control, which lies in its second byte.
    if (live.msixOn && this.#msix !== undefined) {
      orInto(into, this.#msix + MSIX_CONTROL.offset + 1 - offset, 0x80);
    }
  }

  /** A write by a VFIO user or the host. @throws UsageError outside the space, or what an access to a BAR throws */
  write(offset: number, from: Uint8Array): void {
    if (offset < 0 || offset + from.byteLength > EXTENDED_BYTES) {
      throw new UsageError(
        `config space has ${EXTENDED_BYTES} bytes; ${from.byteLength} at ${offset} pass its end`,
      );
    }
    for (let at = 0; at < from.byteLength;) {
      const length = Math.min(DWORD - ((offset + at) % DWORD), from.byteLength - at);
      this.#writeDword(offset + at, from.subarray(at, at + length));
      at += length;
    }
  }

  /** Sets or clears bits of Command from the host's side. */
  setCommand(bits: { memorySpace?: boolean; ioSpace?: boolean; busMaster?: boolean }): void {
    this.#image.registers(HEADER).update("command", bits);
    this.#events.controlsChanged();
  }

  /** Brings the function from D3hot to D0, as a reset does. */
  wake(): void {
    this.#image.registers(POWER_MANAGEMENT.registers, this.#power).update("control", { powerState: 0 });
  }

  /** Everything as at power-on but SR-IOV, which outlives the user of a PF. */
  powerOn(): void {
    const kept = this.#sriov === undefined ? undefined : this.#image.read(this.#sriov, SRIOV.lengthBytes);
    this.#image.reset();
    if (kept !== undefined) kept.forEach((byte, i) => this.#image.set(this.#sriov! + i, 1, byte));
    this.#events.controlsChanged();
  }

  /** NumVFs, then VF Enable and VF MSE (or neither), as the host's kernel writes them. */
  writeSriov(count: number): void {
    const at = this.#sriov;
    if (at === undefined) throw new UsageError("a function without SR-IOV");
    const enable = fieldMask(SRIOV_CONTROL.fields.vfEnable) |
      fieldMask(SRIOV_CONTROL.fields.vfMemorySpaceEnable);
    if (count > 0) this.write(at + NUM_VFS.offset, word(count));
    const control = this.#image.config.read16(at + SRIOV_CONTROL.offset);
    this.write(at + SRIOV_CONTROL.offset, word(count > 0 ? control | enable : control & ~enable));
    if (count === 0) this.write(at + NUM_VFS.offset, word(0));
  }

  /** Writes addresses into BARs and VF BARs, as firmware does, and makes them the power-on state. */
  assignAddresses(bars: readonly AssignedBar[], vfBars: readonly AssignedBar[]): void {
    const place = (first: number, assigned: readonly AssignedBar[]) => {
      for (const { bar, address } of assigned) {
        this.#image.write(first + DWORD * bar.index, dword(Number(address & 0xffff_ffffn)));
        if (bar.kind === "mem64") {
          this.#image.write(first + DWORD * (bar.index + 1), dword(Number(address >> 32n)));
        }
      }
    };
    place(HEADER.bars.offset, bars);
    if (this.#sriov !== undefined) place(this.#sriov + VF_BARS.offset, vfBars);
    this.#image.captureResetState();
  }

  /** As the hardware has it: a VF's ids read 0xffff, its BARs and Memory Space Enable 0 (PCIe 6.0 §9.3.4.1). */
  readHardware(live: { interrupt: boolean; msixOn: boolean }): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(EXTENDED_BYTES);
    this.read(0, bytes, live);
    if (!this.#isVf) return bytes;
    bytes.fill(0xff, HEADER.vendorId.offset, HEADER.command.offset);
    bytes[HEADER.command.offset]! &= ~fieldMask(COMMAND.fields.memorySpace);
    bytes.fill(0, HEADER.bars.offset, HEADER.cardbusCis.offset);
    return bytes;
  }

  #writeDword(offset: number, from: Uint8Array): void {
    const wasEnabled = this.vfEnable;
    const wasAsleep = this.asleep;
    const triggered = this.#image.write(offset, from);
    const reset = this.#express + DEVICE_CONTROL.offset + 1;
    if (triggered.some((bits) => bits.offset === reset)) {
      this.#events.functionLevelReset();
      return;
    }
    if (wasAsleep && !this.asleep) this.#events.softReset();
    if (this.#window !== undefined) this.#writeWindow(this.#window, offset, from.byteLength);
    if (!wasEnabled && this.vfEnable) {
      let enabled = false;
      try {
        enabled = this.#events.enableVfs(this.numVfs);
      } finally {
        if (!enabled) this.#clearVfEnable();
      }
    } else if (wasEnabled && !this.vfEnable) this.#events.disableVfs();
    this.#events.controlsChanged();
  }

  #clearVfEnable(): void {
    this.#image.registers(SRIOV.registers, this.#sriov).update("control", { vfEnable: false });
  }

  /** A read of pci_cfg_data reads the BAR first (virtio 1.2 §4.1.4.9.1). */
  #readWindow(window: number, offset: number, length: number): void {
    const target = this.#windowTarget(window, offset, length);
    if (target === undefined) return;
    const data = new Uint8Array(target.length);
    this.#events.readBar(target.bar, target.offset, data);
    data.forEach((byte, i) => this.#image.set(window + WINDOW.pciCfgData.offset + i, 1, byte));
  }

  #writeWindow(window: number, offset: number, length: number): void {
    const target = this.#windowTarget(window, offset, length);
    if (target === undefined) return;
    this.#events.writeBar(
      target.bar,
      target.offset,
      this.#image.read(window + WINDOW.pciCfgData.offset, target.length),
    );
  }

  /** Where the window points, when an access touches pci_cfg_data and the driver has aimed it at something that can be. */
  #windowTarget(
    window: number,
    offset: number,
    length: number,
  ): { bar: number; offset: number; length: number } | undefined {
    const data = window + WINDOW.pciCfgData.offset;
    if (offset + length <= data || offset >= data + DWORD) return undefined;
    const { config } = this.#image;
    const target = {
      bar: config.register(WINDOW.bar, window),
      offset: config.register(WINDOW.regionOffset, window),
      length: config.register(WINDOW.regionLength, window),
    };
    // "cap.length MUST be 1, 2 or 4, cap.offset a multiple of it": anything else aims at nothing. A look at the whole
    // of config space, as lspci takes it, is no access either: that would clear the ISR status behind the driver's back.
    if (length > DWORD || ![1, 2, 4].includes(target.length) || target.offset % target.length !== 0) {
      return undefined;
    }
    return target;
  }

  #sriovControl(mask: number): boolean {
    return this.#sriov !== undefined && this.#bit(this.#sriov + SRIOV_CONTROL.offset, mask);
  }

  #bit(offset: number, mask: number): boolean {
    return (this.#image.config.read16(offset) & mask) !== 0;
  }
}

function standardCapabilities({ msix, vendorCapabilities }: PciFunctionBehaviour): build.CapabilityLayout[] {
  const vendor = vendorCapabilities.map(build.vendorCapability);
  const vendorBytes = vendor.reduce((sum, { lengthBytes }) => sum + lengthBytes, 0);
  return [
    build.powerManagement(),
    ...(msix === undefined ? [] : [build.msix(msix)]),
    // Two shared memory regions leave no room for the longer structure in the 192 bytes of capabilities.
    build.express(vendorBytes > VENDOR_BYTES_BESIDE_EXPRESS_2 ? 1 : 2),
    ...vendor,
  ];
}

function extendedCapabilities(sriov: build.SriovShape | undefined): build.CapabilityLayout[] {
  return [
    build.advancedErrorReporting(),
    build.alternativeRoutingId(),
    build.addressTranslation(),
    ...(sriov === undefined ? [] : [build.sriov(sriov)]),
  ];
}

function orInto(into: Uint8Array, at: number, bits: number): void {
  if (at >= 0 && at < into.byteLength) into[at]! |= bits;
}

function word(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, value >>> 8);
}

function dword(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}
