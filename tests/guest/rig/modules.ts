import { GuestOptionsError } from "./errors.ts";

/** A kernel module and how to load it. */
export interface ModuleLoad {
  /** Module name; hyphens and underscores are the same. */
  readonly name: string;
  /** Parameters as `insmod` takes them, e.g. `enable_sriov=1`. */
  readonly parameters?: string;
  /** Carry on without it when the kernel has no such module. */
  readonly optional?: boolean;
}

/** What is known of a prepared module file. */
export interface ModuleFile {
  /** File name in the kernel's `modules` folder. */
  readonly file: string;
  /** Names (with underscores) of the modules it needs loaded first. */
  readonly depends: readonly string[];
}

/** The modules of a prepared kernel, by name with underscores. */
export interface ModuleIndex {
  /** Names compiled into the kernel itself. */
  readonly builtin: readonly string[];
  readonly modules: Readonly<Record<string, ModuleFile>>;
}

/** Modules without which the guest cannot reach its file systems. */
export const BOOT_MODULES: readonly string[] = ["virtio_pci", "9pnet_virtio", "9p"];

/** Modules a test may want; the set-up prepares these and whatever they depend on. */
export const GUEST_MODULES: readonly string[] = [
  ...BOOT_MODULES,
  "af_packet",
  "vfio_pci",
  "vfio_iommu_type1",
  "virtio_vfio_pci",
  "iommufd",
  "virtio_net",
  "virtio_blk",
  "virtio_rng",
  "virtio_mmio",
  "virtio_console",
  "vfio_platform",
  "igb",
  "igbvf",
  "e1000e",
  "nvme",
  "tun",
  "veth",
  ...["bridge", "8021q", "bonding", "macvtap"],
  ...["raid1", "dm_mod", "crc32c_generic", "btrfs", "ext4"],
  "pci_stub",
  "pci_pf_stub",
  "uio_pci_generic",
];

/** What a guest loads when its caller does not say: VFIO with SR-IOV on, and the kernel's own drivers. */
export const DEFAULT_MODULES: readonly ModuleLoad[] = [
  { name: "vfio_pci", parameters: "enable_sriov=1" },
  { name: "vfio_iommu_type1" },
  { name: "iommufd", optional: true },
  { name: "virtio_vfio_pci", optional: true },
  { name: "af_packet", optional: true },
  { name: "virtio_net" },
  { name: "virtio_rng" },
  { name: "virtio_blk" },
  { name: "igb", optional: true },
  { name: "e1000e", optional: true },
];

/** The name under which the kernel lists a module. */
export function moduleName(nameOrFile: string): string {
  return (nameOrFile.split("/").at(-1) ?? "").replace(/\.ko(\.[a-z0-9]+)?$/, "").replaceAll("-", "_");
}

/**
 * Names a module needs loaded first, read from the module file itself.
 *
 * `modules.dep` would say the same but is made by `depmod` on installation, so unpacked packages lack it.
 */
export function moduleDepends(file: Uint8Array): string[] {
  const text = new TextDecoder("latin1").decode(file);
  // .modinfo is a list of NUL-terminated strings.
  const list = /\0depends=([^\0]*)\0/.exec(text)?.[1] ?? "";
  return list.split(",").filter((name) => name !== "").map(moduleName);
}

/** A module file with its parameters, in the order in which a list of them can be loaded. */
export interface ModuleStep {
  readonly name: string;
  readonly file: string;
  readonly parameters: string;
}

/** Puts the modules asked for and their dependencies in loading order. */
export function loadOrder(index: ModuleIndex, wanted: readonly ModuleLoad[]): ModuleStep[] {
  const builtin = new Set(index.builtin);
  const parameters = new Map<string, string>();
  for (const load of wanted) {
    if (load.parameters !== undefined) parameters.set(moduleName(load.name), load.parameters);
  }
  const steps = new Map<string, ModuleStep>();
  const visit = (name: string, optional: boolean, neededBy: string): void => {
    if (builtin.has(name) || steps.has(name)) return;
    const module = index.modules[name];
    if (module === undefined) {
      if (optional) return;
      throw new GuestOptionsError(
        `the guest kernel has no module "${name}" (wanted by ${neededBy}); prepared are: ` +
          Object.keys(index.modules).sort().join(", "),
      );
    }
    for (const dependency of module.depends) visit(dependency, false, name);
    steps.set(name, { name, file: module.file, parameters: parameters.get(name) ?? "" });
  };
  for (const load of wanted) visit(moduleName(load.name), load.optional ?? false, "the caller");
  return [...steps.values()];
}

/** Parameters for modules that are built in, which take them on the kernel command line. */
export function builtinParameters(index: ModuleIndex, wanted: readonly ModuleLoad[]): string[] {
  return wanted.flatMap((load) => {
    const name = moduleName(load.name);
    if (!index.builtin.includes(name) || load.parameters === undefined) return [];
    return load.parameters.split(/\s+/).map((parameter) => `${name}.${parameter}`);
  });
}
