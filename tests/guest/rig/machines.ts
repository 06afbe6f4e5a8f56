/** What QEMU emulates the instructions of. */
export type Architecture = "x86_64" | "aarch64";

/**
 * `q35`: a PC, with an IOMMU and SR-IOV; `microvm`: a small PC whose virtio devices are memory-mapped; `virt`: an AArch64 machine, with
 * an SMMU and memory-mapped virtio devices that its device tree names.
 */
export type MachineKind = "q35" | "microvm" | "virt";

/** How the guest's instructions are executed. */
export type Accelerator = "tcg" | "kvm";

/** What differs from one machine to the next. */
export interface Machine {
  readonly architecture: Architecture;
  /** Whether it has an IOMMU to put functions behind. */
  readonly hasIommu: boolean;
  /** Device nodes of its consoles: kernel messages, the init's own reports, the task's output. */
  readonly consoles: { readonly kernel: string; readonly status: string; readonly task: string };
  /** QEMU's arguments for the machine. @param properties further ones of the machine, each with a comma before it */
  arguments(iommu: boolean, properties: string): string[];
  /** QEMU's arguments that plug the character devices `console`, `status` and `task` into the consoles. */
  readonly serialPorts: readonly string[];
  /** The processor under TCG. */
  readonly cpu: string;
  /** Kernel arguments beside those that every machine gets. */
  readonly kernelArgs: readonly string[];
  /** Modules without which the task's output does not come out. */
  readonly bootModules: readonly string[];
}

const PC = {
  architecture: "x86_64",
  consoles: { kernel: "ttyS0", status: "ttyS1", task: "ttyS2" },
  // The features left out make TCG flush its translations on every kernel entry.
  cpu: "max,-la57,-pku,-smap,-smep,-umip",
  bootModules: [],
} as const;

/** All of them. */
export const MACHINES: Readonly<Record<MachineKind, Machine>> = {
  q35: {
    ...PC,
    hasIommu: true,
    arguments: (iommu, properties) => [
      ...["-machine", `q35,kernel-irqchip=split${properties}`],
      ...(iommu ? ["-device", "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on"] : []),
    ],
    serialPorts: ["console", "status", "task"].flatMap((name) => ["-serial", `chardev:${name}`]),
    kernelArgs: ["intel_iommu=on", "tsc=reliable"],
  },
  microvm: {
    ...PC,
    hasIommu: false,
    // PCI for the file shares alone. Without ACPI the kernel would be told of the virtio-mmio devices on its command line, and PCI is not to be had.
    arguments: (_iommu, properties) => [
      "-machine",
      `microvm,acpi=on,pcie=on,rtc=on,isa-serial=on,pit=on,pic=on${properties}`,
    ],
    serialPorts: [
      ...["-serial", "chardev:console"],
      ...["-device", "isa-serial,chardev=status,index=1", "-device", "isa-serial,chardev=task,index=2"],
    ],
    // There is no timer that the kernel would measure the counter's rate by; TCG's counter is the host's.
    get kernelArgs() {
      return ["tsc=reliable", `tsc_early_khz=${hostKhz()}`];
    },
  },
  virt: {
    architecture: "aarch64",
    hasIommu: true,
    consoles: { kernel: "ttyAMA0", status: "ttyAMA1", task: "hvc0" },
    arguments: (iommu, properties) => [
      "-machine",
      `virt,gic-version=3${iommu ? ",iommu=smmuv3" : ""}${properties}`,
    ],
    // The machine has two serial ports.
    serialPorts: [
      ...["-serial", "chardev:console", "-serial", "chardev:status"],
      ...["-device", "virtio-serial-pci,id=ports", "-device", "virtconsole,bus=ports.0,chardev=task"],
    ],
    cpu: "cortex-a76",
    kernelArgs: [],
    bootModules: ["virtio_console"],
  },
};

/** Rate of the host's time stamp counter, as near as it is told. */
function hostKhz(): number {
  const mhz = /^cpu MHz\s*: ([\d.]+)/m.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1];
  return Math.round(Number(mhz ?? 2000) * 1000);
}
