/**
 * The seam `Host`: which functions there are, who owns them, and how one is opened.
 *
 * @module
 */
import type { VhostUserDevice } from "../sockets/vhost_user/client/device.ts";
import type { VfioDevice } from "../vfio/device.ts";

/** What `Host.list` says of a function on any bus, read from sysfs. */
export interface AnyFunctionInfo {
  /** Full address, `0000:01:00.0` or `a003e00.virtio_mmio`. */
  readonly address: string;
  /** Name for people; a number or the firmware's word where no better one is known. */
  readonly deviceName: string;
  /** Driver that it is bound to now; undefined when none. */
  readonly driver?: string;
  /** `driver_override`; undefined when not set. */
  readonly driverOverride?: string;
  /** Number of its IOMMU group; undefined without an IOMMU. */
  readonly iommuGroup?: number;
  /** Other functions of the group. */
  readonly groupMembers: readonly string[];
  /** −1 when the platform does not say. */
  readonly numaNode: number;
  /** Network interfaces that hang on it. */
  readonly netInterfaces: readonly string[];
  /** Block devices that hang on it. */
  readonly blockDevices: readonly string[];
  /** `vfioN` when the kernel has a character device for it (a node exists in /dev/vfio/devices). */
  readonly vfioCdev?: string;
  /** Process that holds the function's lock; undefined when free. */
  readonly heldBy?: string;
}

/** A PCI function. */
export interface PciFunctionInfo extends AnyFunctionInfo {
  /** Always. */
  readonly bus: "pci";
  /** Vendor ID, 16 bits. */
  readonly vendorId: number;
  /** Device ID, 16 bits. */
  readonly deviceId: number;
  /** Subsystem vendor ID, 16 bits. */
  readonly subsystemVendorId: number;
  /** Subsystem ID, 16 bits. */
  readonly subsystemId: number;
  /** Revision ID, 8 bits. */
  readonly revision: number;
  /** 24-bit class code. */
  readonly classCode: number;
  /** Name, or the number when no name is known. */
  readonly vendorName: string;
  /** Name, or the number when no name is known. */
  readonly className: string;
  /** Present on a PF. */
  readonly sriov?: {
    readonly totalVfs: number;
    readonly numVfs: number;
    readonly driversAutoprobe: boolean;
    /** Addresses of the enabled VFs, in VF order. */
    readonly vfs: readonly string[];
  };
  /** PF of a VF. */
  readonly physicalFunction?: string;
}

/** A platform device: nothing on it can be asked what it is, so firmware says it. */
export interface PlatformDeviceInfo extends AnyFunctionInfo {
  /** Always. */
  readonly bus: "platform";
  /** What it is compatible with by the device tree, the most special first; empty where ACPI or the kernel itself named it. */
  readonly compatible: readonly string[];
  /** What the kernel matches its modules by; undefined when sysfs does not say. */
  readonly modalias?: string;
  /** Where its registers are, in physical memory, when the device tree says. */
  readonly registers?: {
    /** Physical address. */
    readonly address: number;
    /** In bytes. */
    readonly sizeBytes: number;
  };
  /** Type of its virtio device while virtio-mmio has it: 4 is an entropy source. */
  readonly virtioType?: number;
  /** PCI's alone. */
  readonly sriov?: undefined;
  /** PCI's alone. */
  readonly physicalFunction?: undefined;
}

/** A virtio device behind a vhost-user socket. */
export interface VhostUserInfo extends AnyFunctionInfo {
  /** Always. */
  readonly bus: "vhost-user";
  /** Its type, as the caller said: 1 is a network device. */
  readonly virtioType: number;
  /** PCI's alone. */
  readonly sriov?: undefined;
  /** PCI's alone. */
  readonly physicalFunction?: undefined;
}

/** What `Host.list` says of a function. `bus` tells which it is. */
export type FunctionInfo = PciFunctionInfo | PlatformDeviceInfo | VhostUserInfo;

/** What to list. */
export interface ListOptions {
  /**
   * Also platform devices that nothing speaks for. Default: of those only what is in an IOMMU group, on virtio-mmio or a VFIO driver, or has a
   * `driver_override`; the rest of that bus is mostly what the machine itself needs.
   */
  readonly all?: boolean;
}

/** What a change of many functions tells while it is made. */
export interface ChangeProgress {
  /** Told how many functions are done, each time that one is, and of how many: calls of `Host` let nothing else happen meanwhile. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** How to bind. */
export interface BindOptions extends ChangeProgress {
  /** Default: the one of the bus that hands functions to userspace, `vfio-pci` or `vfio-platform`. */
  readonly driver?: string;
  /** Go on although the host uses the function. */
  readonly force?: boolean;
  /** Look at all that could keep it from being done, and change nothing. */
  readonly dryRun?: boolean;
}

/** What `Host.bind` did to a function, or would do. */
export interface Binding {
  /** Full address. */
  readonly function: string;
  /** Driver that had it; empty for none. */
  readonly before: string;
  /** Driver that has it now. */
  readonly driver: string;
}

/** How to change the VF count. */
export interface SriovOptions extends ChangeProgress {
  /** Go on although the host uses a VF that would go. */
  readonly force?: boolean;
  /** Whether the kernel may bind new VFs to drivers; default: off when the PF is on vfio-pci, else as it is. */
  readonly driversAutoprobe?: boolean;
  /** Look at all that could keep it from being done, and change nothing. */
  readonly dryRun?: boolean;
}

/** How to open. */
export interface OpenOptions {
  /** Default: cdev when the host has it, else group. Ignored by hosts with one path. */
  readonly path?: "group" | "cdev";
  /** UUID text; sent only for functions that have to do with SR-IOV. */
  readonly vfToken?: string;
  /** The full name of the unsafe mode, since it gives the device all of memory. */
  readonly enableUnsafeNoIommuMode?: boolean;
  /** How long a peer on a socket may take to answer. Default 5000. */
  readonly timeoutMs?: number;
}

/** How to put back. */
export interface RestoreOptions extends ChangeProgress {
  /** Go on although the host uses a function that would lose its driver, or a VF that would go. */
  readonly force?: boolean;
  /** Drop the entries of a function and its VFs, and change nothing: for a device that is gone for good. Only with an address. Default false. */
  readonly forget?: boolean;
  /** Say what would be put back, and what would not, as far as that can be known; change nothing. */
  readonly dryRun?: boolean;
}

/** One change that the journal would undo. */
export interface JournalEntry {
  /** Full address. */
  readonly function: string;
  /** Name of the attribute; `driver` is the link to the bound driver. */
  readonly attribute: "driver" | "driver_override" | "sriov_numvfs" | "sriov_drivers_autoprobe";
  /** Value before the first change; empty for "none". */
  readonly before: string;
  /** Value that was written last. */
  readonly after: string;
  /** Process that wrote it. */
  readonly pid: number;
  /** ISO 8601. */
  readonly time: string;
  /**
   * The device that it is about: vendor, device, subsystem, class, and its serial number where it has one. Nothing else that is found at the address
   * later is changed. Absent in entries that were written before there was one.
   */
  readonly identity?: string | undefined;
  /** Interfaces and disks that hung on it, before its driver was taken: `restore` takes these names, too. */
  readonly names?: readonly string[] | undefined;
}

/** What `restore` did, in order. */
export interface RestoreReport {
  /** Entries whose values were put back, or that were dropped. */
  readonly done: readonly JournalEntry[];
  /** Entries that needed nothing: the value was back already, or the VF is gone with its PF's others. They are out of the journal, too. */
  readonly unchanged: readonly JournalEntry[];
  /** Entries that could not be undone now; they stay in the journal. */
  readonly failed: readonly { readonly entry: JournalEntry; readonly error: Error }[];
}

/**
 * A host. Calls are synchronous. Functions are named by address: a PCI address, or the name of a platform device (`a003e00.virtio_mmio`), which
 * can be bound and restored; what only PCI has is an `UnsupportedError` there. The name of an interface or a disk (`eth3`, `nvme0n1`) stands for the
 * function that it hangs on. Errors: `NotFoundError` (no such function), `RefusedError` (guard or lock),
 * `UnsupportedError` (no SR-IOV, no VFIO), `UsageError`, `SyscallError`.
 */
export interface Host extends Disposable {
  /** `linux`, or the emulated host's directory. */
  readonly name: string;
  /** All PCI functions, by address, then the platform devices that could be of use here. */
  list(options?: ListOptions): FunctionInfo[];
  /** Takes full and short addresses. @throws NotFoundError */
  describe(address: string): FunctionInfo;
  /** Config space of a PCI function as sysfs shows it: 64 (unprivileged), 256 or 4096 bytes. */
  readConfig(address: string): Uint8Array<ArrayBuffer>;
  /** Sizes of BAR 0–5 and ROM of a PCI function in bytes, 0 for none. */
  barSizes(address: string): number[];

  /**
   * Gives functions to a driver (default vfio-pci or vfio-platform), recording first what was there: all of them, or none.
   * @returns what became of each, in the order in which they were named
   */
  bind(functions: string | readonly string[], options?: BindOptions): Binding[];
  /** Sets NumVFs of PFs, recording first what was there: of all of them, or of none. @returns addresses of the VFs, PF by PF. */
  setVfCount(functions: string | readonly string[], count: number, options?: SriovOptions): string[];
  /** Puts back what the journal holds, for some functions (and their VFs) or for all. What cannot be put back does not keep the rest from it. */
  restore(functions?: string | readonly string[], options?: RestoreOptions): RestoreReport;
  /** What `restore` would put back. */
  journal(): JournalEntry[];

  /**
   * Opens the function for userspace and takes its lock until the device is closed. `isPciDevice` of the door `vfio` says whether it is a PCI function,
   * which has more.
   */
  open(address: string, options?: OpenOptions): VfioDevice;
  /**
   * Of a host whose devices are virtio devices without registers, which `openTransport` of the door `virtio` takes as well as what `open` gives; `open` is an
   * `UnsupportedError` there. Absent elsewhere.
   */
  openVhostUser?(address: string, options?: OpenOptions): VhostUserDevice;
  /** Problems and mends, for `doctor`. */
  examine(): Finding[];
}

/** One finding of `doctor`. */
export interface Finding {
  /** What was looked at. */
  readonly what: string;
  /** `problem`: userspace drivers cannot work; `warning`: some cannot, or not well. */
  readonly state: "ok" | "warning" | "problem";
  /** What was found. */
  readonly detail: string;
  /** Command that mends it. */
  readonly mend?: string;
}
