/**
 * Is this host ready for userspace drivers? One finding for each thing that has to be right, with the command that mends it.
 *
 * @module
 */
import { PCI, PLATFORM } from "../vfio/bus.ts";
import { isVfioDriver, NO_IOMMU_PARAMETER } from "./changes/driver_binding.ts";
import type { FunctionAttributes } from "./sysfs/attributes.ts";
import type { Finding, FunctionInfo, Host, PlatformDeviceInfo } from "./host.ts";

/** The machine, as far as sysfs does not tell. */
export interface Machine {
  /** Text of a file; undefined when it is not there or not for this user. */
  readText(path: string): string | undefined;
  /** Whether this user may open a device node for reading and writing. */
  canOpen(path: string): boolean;
  /** Whether the path leads somewhere. */
  exists(path: string): boolean;
  /** 0 is root. */
  effectiveUserId(): number;
  /** Soft limit of bytes that this process may lock; `Infinity` for none. */
  lockedMemoryBytes(): number;
  /** Soft limit of files that this process may have open; `Infinity` for none. */
  openFiles(): number;
}

// A queue with its buffers needs a few MiB; drivers of several queues need tens.
const ENOUGH_LOCKED_BYTES = 64 << 20;
// Each vector, queue and connection takes a descriptor.
const ENOUGH_OPEN_FILES = 1024;
const HUGEPAGES = "/sys/kernel/mm/hugepages";

type State = Finding["state"];

/** Findings about a Linux host. */
export function examineLinux(host: Host, attributes: FunctionAttributes, machine: Machine): Finding[] {
  const functions = host.list();
  const isRoot = machine.effectiveUserId() === 0;
  return [
    ...iommu(attributes, machine),
    ...modules(attributes, machine, functions),
    ...platformDevices(attributes, functions.filter((one) => one.bus === "platform")),
    ...vfioParameters(attributes),
    ...nodes(attributes, machine, functions, isRoot),
    limits(machine, isRoot),
    finding(
      "open files",
      machine.openFiles() >= ENOUGH_OPEN_FILES,
      "warning",
      `limit ${amount(machine.openFiles())}`,
      {
        mend: `ulimit -n ${ENOUGH_OPEN_FILES}`,
      },
    ),
    hugepages(attributes),
    finding("user", isRoot, "warning", isRoot ? "root" : "not root: functions cannot be bound or given VFs", {
      mend: "run as root (sudo)",
    }),
    ...commonFindings(host, functions),
  ];
}

/** Findings about any host: what is left over, and where VFs can come from. */
export function commonFindings(host: Host, functions: readonly FunctionInfo[]): Finding[] {
  return [leftOver(host), sriov(functions)];
}

function finding(
  what: string,
  good: boolean,
  otherwise: State,
  detail: string,
  options: { mend?: string } = {},
): Finding {
  if (good) return { what, state: "ok", detail };
  return { what, state: otherwise, detail, mend: options.mend };
}

function iommu(attributes: FunctionAttributes, machine: Machine): Finding[] {
  const groups = attributes.optionalList("/sys/kernel/iommu_groups").length;
  const units = attributes.optionalList("/sys/class/iommu");
  const commandLine = machine.readText("/proc/cmdline") ?? "";
  const processor = machine.readText("/proc/cpuinfo") ?? "";
  const argument = processor.includes("GenuineIntel") ? "intel_iommu=on" : "amd_iommu=on";
  const asked = /\b(intel_iommu|amd_iommu|iommu)=(?!off)\S+/.test(commandLine);
  const off = `no IOMMU groups; the kernel was ${asked ? "" : "not "}asked for an IOMMU on its command line`;
  const mend = isArm(machine)
    ? "have the firmware describe the SMMU (device tree, or ACPI's IORT), with a kernel that has CONFIG_ARM_SMMU_V3 or CONFIG_ARM_SMMU, then reboot"
    : asked
    ? "turn VT-d or AMD-Vi on in the firmware, then reboot"
    : `turn the IOMMU on in the firmware, add ${argument} to the kernel's command line, then reboot`;
  const found = [
    finding(
      "IOMMU",
      groups > 0,
      "problem",
      groups > 0 ? `${groups} groups (${units.join(", ") || "no unit named"})` : off,
      { mend },
    ),
  ];
  if (groups > 0) found.push(interruptRemapping(attributes, machine));
  return found;
}

/** By what /proc/cpuinfo of Arm's processors has for a vendor. */
function isArm(machine: Machine): boolean {
  return machine.readText("/proc/cpuinfo")?.includes("CPU implementer") ?? false;
}

/** The kernel says it per IRQ domain in debugfs, and the Type 1 driver refuses to work without it unless told otherwise. */
function interruptRemapping(attributes: FunctionAttributes, machine: Machine): Finding {
  const what = "interrupt remapping";
  const domains = attributes.optionalList("/sys/kernel/debug/irq/domains");
  const unsafe =
    attributes.optional("/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts") === "Y";
  if (domains.some((name) => /-IR-|DMAR-MSI|AMD-IR|INTEL-IR|IR-PCI|ITS-/i.test(name))) {
    return { what, state: "ok", detail: "on" };
  }
  if (unsafe) {
    return {
      what,
      state: "warning",
      detail: "allow_unsafe_interrupts is set: a device can raise any interrupt",
      mend: "echo N > /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts",
    };
  }
  const log = machine.readText("/proc/interrupts") ?? "";
  if (/\bIR-|ITS-/.test(log)) return { what, state: "ok", detail: "on" };
  return {
    what,
    state: "warning",
    detail: "cannot be seen to be on; without it the kernel lets no function be opened",
    mend: isArm(machine)
      ? "only a GICv3 with an ITS tells devices apart; have the firmware describe it"
      : "turn x2APIC and interrupt remapping on in the firmware; remove intremap=off from the kernel's command line",
  };
}

function modules(
  attributes: FunctionAttributes,
  machine: Machine,
  functions: readonly FunctionInfo[],
): Finding[] {
  const loaded = (name: string): boolean => attributes.sysfs.exists(`/sys/module/${name}`);
  const group = machine.exists("/dev/vfio/vfio");
  const driver = attributes.sysfs.exists(`${PCI.drivers}/${PCI.vfioDriver}`);
  // /dev/iommu also comes with a kernel in which VFIO itself cannot use it: then no function gets a node of its own.
  const cdev = machine.exists("/dev/iommu");
  const type1 = loaded("vfio_iommu_type1") ||
    attributes.optionalList("/sys/module/vfio_iommu_type1/parameters").length > 0;
  const found = [
    // A host may have nothing but platform devices to give away.
    finding(
      "vfio-pci",
      driver,
      functions.length === 0 || functions.some((one) => one.bus === "pci") ? "problem" : "warning",
      driver ? "loaded" : "the driver is not loaded",
      { mend: "modprobe vfio-pci" },
    ),
    finding(
      "VFIO by group",
      group && type1,
      cdev ? "warning" : "problem",
      group ? (type1 ? "/dev/vfio/vfio with Type 1" : "no Type 1 IOMMU driver") : "no /dev/vfio/vfio",
      { mend: "modprobe -a vfio vfio_iommu_type1" },
    ),
    finding(
      "VFIO by cdev",
      cdev,
      group ? "warning" : "problem",
      cdev ? "/dev/iommu" : "no /dev/iommu; the group path does without",
      {
        mend: "modprobe iommufd (a kernel with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV)",
      },
    ),
  ];
  return found;
}

/** What platform devices need; nothing is said on a host that has none to give away. */
function platformDevices(
  attributes: FunctionAttributes,
  devices: readonly PlatformDeviceInfo[],
): Finding[] {
  if (devices.length === 0) return [];
  const driver = attributes.sysfs.exists(`${PLATFORM.drivers}/${PLATFORM.vfioDriver}`);
  const found = [
    finding(
      "vfio-platform",
      driver,
      "warning",
      driver ? "loaded" : "the driver is not loaded: platform devices cannot be given to userspace",
      { mend: "modprobe vfio-platform (kernels for ARM have it, with CONFIG_VFIO_PLATFORM)" },
    ),
  ];
  if (attributes.optional("/sys/module/vfio_platform/parameters/reset_required") === "Y") {
    found.push({
      what: "reset of platform devices",
      state: "warning",
      detail:
        "vfio-platform takes only devices that the kernel has a reset function for, and virtio-mmio is none",
      mend: "modprobe -r vfio-platform && modprobe vfio-platform reset_required=0",
    });
  }
  const bare = devices.filter((one) => one.iommuGroup === undefined);
  const detail = bare.length === 0
    ? "in front of each"
    : `none in front of ${bare.map(({ address }) => address).join(", ")}`;
  found.push(finding("IOMMU of platform devices", bare.length === 0, "warning", detail, {
    mend: `without one a device has registers and interrupts, and no DMA: echo Y > ${NO_IOMMU_PARAMETER}`,
  }));
  return found;
}

function vfioParameters(attributes: FunctionAttributes): Finding[] {
  const parameter = (module: string, name: string) =>
    attributes.optional(`/sys/module/${module}/parameters/${name}`);
  const found: Finding[] = [];
  const sriov = parameter("vfio_pci", "enable_sriov");
  if (sriov !== undefined) {
    found.push(finding("VFs of a PF on vfio-pci", sriov === "Y", "warning", `enable_sriov is ${sriov}`, {
      mend: "echo 1 > /sys/module/vfio_pci/parameters/enable_sriov",
    }));
  }
  if (parameter("vfio_pci", "disable_denylist") === "Y") {
    found.push({
      what: "vfio-pci deny list",
      state: "warning",
      detail: "off: devices that are known to break hosts can be bound",
      mend: "modprobe -r vfio-pci && modprobe vfio-pci disable_denylist=0",
    });
  }
  if (parameter("vfio", "enable_unsafe_noiommu_mode") === "Y") {
    found.push({
      what: "no-IOMMU mode",
      state: "warning",
      detail: "on: a device that is opened so reaches all of memory",
      mend: "echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
    });
  }
  return found;
}

/** Nodes of functions that are bound to vfio-pci already. */
function nodes(
  attributes: FunctionAttributes,
  machine: Machine,
  functions: readonly FunctionInfo[],
  isRoot: boolean,
): Finding[] {
  return functions.filter((one) => one.driver !== undefined && isVfioDriver(one.driver)).map((one) => {
    const paths = [
      ...(one.iommuGroup === undefined
        ? []
        : [`/dev/vfio/${one.iommuGroup}`, `/dev/vfio/noiommu-${one.iommuGroup}`]),
      ...(one.vfioCdev === undefined ? [] : [`/dev/vfio/devices/${one.vfioCdev}`]),
    ].filter((path) => attributes.sysfs.exists(path));
    const open = paths.filter((path) => machine.canOpen(path));
    const detail = paths.length === 0
      ? "no device node"
      : `${paths.join(", ")}${open.length > 0 ? "" : ": not for this user"}`;
    return finding(`access to ${one.address}`, open.length > 0, isRoot ? "problem" : "warning", detail, {
      mend: paths.length === 0 ? `ringside bind ${one.address}` : `chown $USER ${paths.join(" ")}`,
    });
  });
}

function limits(machine: Machine, isRoot: boolean): Finding {
  const bytes = machine.lockedMemoryBytes();
  const detail = bytes === Infinity ? "no limit" : `limit ${Math.floor(bytes / 1024)} KiB`;
  // The Type 1 driver does not count memory against the limit of a process with CAP_IPC_LOCK.
  const enough = isRoot || bytes >= ENOUGH_LOCKED_BYTES;
  return finding("locked memory", enough, "warning", isRoot ? `${detail}; does not bind root` : detail, {
    mend: "ulimit -l unlimited (as root: a line 'memlock unlimited' in /etc/security/limits.conf)",
  });
}

function hugepages(attributes: FunctionAttributes): Finding {
  const sizes = attributes.optionalList(HUGEPAGES).flatMap((name) => {
    const total = Number(attributes.optional(`${HUGEPAGES}/${name}/nr_hugepages`) ?? "0");
    const free = Number(attributes.optional(`${HUGEPAGES}/${name}/free_hugepages`) ?? "0");
    return [{ kib: Number(/(\d+)kB/.exec(name)?.[1] ?? "0"), total, free }];
  });
  const detail = sizes.map(({ kib, total, free }) => `${kib} KiB: ${free} of ${total} free`).join("; ");
  const some = sizes.some(({ free }) => free > 0);
  return finding(
    "hugepages",
    some,
    "warning",
    `${detail || "not supported"}${some ? "" : "; locked pages are used instead"}`,
    {
      mend: "sysctl vm.nr_hugepages=64",
    },
  );
}

function leftOver(host: Host): Finding {
  const what = "changes of earlier runs";
  try {
    const entries = host.journal();
    const functions = new Set(entries.map((entry) => entry.function)).size;
    return finding(
      what,
      entries.length === 0,
      "warning",
      entries.length === 0
        ? "none"
        : `${entries.length} on ${functions} function${functions === 1 ? "" : "s"}`,
      {
        mend: "ringside restore",
      },
    );
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    return { what, state: "problem", detail };
  }
}

function sriov(functions: readonly FunctionInfo[]): Finding {
  const pfs = functions.filter((one) => one.sriov !== undefined && one.sriov.totalVfs > 0);
  const detail = pfs.map((one) => `${one.address} (${one.sriov!.numVfs} of ${one.sriov!.totalVfs} VFs)`).join(
    ", ",
  );
  return finding("SR-IOV", pfs.length > 0, "warning", detail || "no function can have VFs here", {
    mend: "turn SR-IOV on in the firmware and in the device's own settings",
  });
}

function amount(value: number): string {
  return value === Infinity ? "none" : `${value}`;
}
