/**
 * A PCI function opened through kernel VFIO: what it has beside what a device of any bus has.
 *
 * @module
 */
import { isErrno } from "../../../ffi/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { DEVICE_FEATURE, REGION } from "../device.ts";
import type { HotResetInfo, VfioPciDevice } from "../pci_device.ts";
import { parseVfToken } from "../uuid.ts";
import { DEVICE_IOCTL, deviceFeature, FEATURE_FLAG } from "./abi.ts";
import type { IommuBinding } from "./binding.ts";
import { explaining } from "./explain.ts";
import { performHotReset, queryHotReset } from "./hot_reset.ts";
import type { KernelCalls } from "./kernel_calls.ts";
import { KernelDevice } from "./kernel_device.ts";
import { MemoryDecoding } from "./memory_decoding.ts";

const HOT_RESET_HINTS: Readonly<Record<string, string>> = {
  ENODEV: "neither the slot nor the bus of this function can be reset (a function on the root bus has none)",
};

/** `VfioPciDevice` over a kernel descriptor. Its BARs are mapped only while its memory decoding is on: else a touch would end the process. */
export class KernelPciDevice extends KernelDevice implements VfioPciDevice {
  static {
    typedErrors(this);
  }

  readonly #decoding: MemoryDecoding;

  /** As of `KernelDevice`. */
  constructor(kernel: KernelCalls, name: string, binding: IommuBinding, onClosed?: () => void) {
    super(kernel, name, binding, "pci", onClosed);
    this.#decoding = new MemoryDecoding(this);
  }

  /** As `VfioPciDevice.hotResetInfo`. */
  hotResetInfo(): HotResetInfo {
    this.requireOpen();
    const { fd } = this.binding;
    return explaining(HOT_RESET_HINTS, () => queryHotReset(this.kernel, fd, this.binding, this.name));
  }

  hotReset(): void {
    this.requireOpen();
    const { fd } = this.binding;
    explaining(HOT_RESET_HINTS, () => performHotReset(this.kernel, fd, this.binding, this.name));
    this.wasReset();
  }

  /** As `VfioPciDevice.onRemovalRequested`. */
  onRemovalRequested(handler: () => void): () => void {
    return this.lifeline.onRemovalRequested(handler);
  }

  /** As `VfioPciDevice.onDeviceError`. */
  onDeviceError(handler: () => void): () => void {
    return this.lifeline.onDeviceError(handler);
  }

  setVfToken(token: string): void {
    this.requireOpen();
    const argument = encodeVfToken(parseVfToken(token));
    try {
      this.kernel.ioctlBuffer(this.binding.fd, DEVICE_IOCTL.feature, argument);
    } catch (error) {
      if (!isErrno(error, "ENOTTY")) throw error;
      throw new UnsupportedError(`${this.name} has no VF token`, {
        hint:
          "only a PF with SR-IOV has one, when its VFIO driver allows VFs (vfio_pci parameter enable_sriov)",
        cause: error,
      });
    }
  }

  /** A write to configuration space may turn memory decoding off. */
  protected override wrote(index: number): void {
    if (index === REGION.config && this.isMapped && !this.#decoding.on) this.unmapAll();
  }

  protected override requireMappable(index: number): void {
    if (index > REGION.rom || this.#decoding.on) return;
    throw new UsageError(`${this.name} region ${index} cannot be mapped now: memory decoding is off`, {
      hint: "set the Memory Space bit of the Command register, and the power state to D0",
    });
  }

  /** The kernel has a VGA region for VGA controllers only. */
  protected override isAbsent(index: number): boolean {
    return index === REGION.vga;
  }

  protected override get noResetHint(): string {
    return "it has neither a function level reset nor another way that the kernel knows: use hotReset()";
  }
}

/** The feature request that sets a VF token: header, then the 16 bytes (24 in all). */
export function encodeVfToken(token: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const argsz = deviceFeature.sizeBytes + token.byteLength;
  return deviceFeature.encode({ argsz, flags: FEATURE_FLAG.set | DEVICE_FEATURE.pciVfToken }, token);
}
