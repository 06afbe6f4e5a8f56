/**
 * A PCI function of the machine: its VFs, its side of the emulated kernel.
 *
 * @module
 */
import { errnoNumber, SyscallError } from "../../ffi/mod.ts";
import { barResources, type KernelResource } from "./bus_addresses.ts";
import {
  EmulatedFunction,
  type EmulatedFunctionOptions,
  type FunctionSurroundings,
} from "./emulated_function.ts";
import { MachineDevice, type MachineDeviceOptions } from "./machine_device.ts";
import type { DeviceMachine } from "./machine_socket.ts";
import type { PciIdentity } from "./pci_function.ts";
import type { ServedTokens } from "../sockets/vfio_user/server/served_device.ts";

/** What `MachineFunction` is made from, beside the function's own options. */
export interface MachineFunctionOptions extends EmulatedFunctionOptions, MachineDeviceOptions {
  /** PCI address. */
  readonly address: string;
  /** Its PF, on a VF. */
  readonly pf?: MachineFunction;
  /** Which of its PF's VFs it is, 0 for the first. */
  readonly vfIndex?: number;
}

/** What a PCI function asks of its machine. */
export interface MachineSurroundings
  extends DeviceMachine, Pick<FunctionSurroundings, "vfsAppear" | "vfsDisappear" | "vfsReset"> {
  /** What its kernel keeps of VF tokens. @param address of the function that is served */
  vfTokens?(address: string): ServedTokens;
}

/** See the module. */
export class MachineFunction extends MachineDevice {
  readonly device: EmulatedFunction;
  readonly options: MachineFunctionOptions;
  /** Addresses of its enabled VFs, kept by the machine. */
  readonly vfs: string[] = [];

  /** Makes the function. @throws what `EmulatedFunction` throws */
  constructor(options: MachineFunctionOptions, around: MachineSurroundings) {
    super(options.address, around);
    const { pf } = options;
    const { vfsAppear, vfsDisappear, vfsReset } = around;
    this.options = options;
    this.device = new EmulatedFunction(options, {
      ...this.surroundings(),
      vfsAppear,
      vfsDisappear,
      vfsReset,
      vfTokens: around.vfTokens?.(options.address),
      vfMemorySpace: () => pf?.device.config.vfMemorySpace ?? true,
    });
  }

  /** Header fields. */
  get identity(): PciIdentity {
    return this.device.behaviour.identity;
  }

  /** Lines of `resource`. */
  resources(): readonly KernelResource[] {
    const rom: KernelResource = { start: 0n, sizeBytes: 0n, flags: 0 };
    const { bars = [], vfBars = [], sriov } = this.options;
    return [...barResources(bars), rom, ...barResources(vfBars, sriov?.totalVfs)];
  }

  /** Writes NumVFs and VF Enable; the VFs are there when it returns. @throws SyscallError, RingsideError */
  enableVfs(count: number): void {
    const { config } = this.device;
    config.writeSriov(count);
    if (config.vfEnable) return;
    throw new SyscallError("enable SR-IOV", this.address, errnoNumber.EIO!, {
      hint: "the function did not take VF Enable: see /ringside/violations",
    });
  }
}
