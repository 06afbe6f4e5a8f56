/**
 * What a topology says of a function, whatever its kind.
 *
 * @module
 */

/** PCI drivers of the emulated host's kernel. */
export const KERNEL_DRIVERS = ["virtio-pci", "vfio-pci", "pci-stub"] as const;

/** Drivers of platform devices of the emulated host's kernel. */
export const PLATFORM_KERNEL_DRIVERS = ["virtio-mmio", "vfio-platform"] as const;

/** Name of a driver of the emulated host's kernel. */
export type KernelDriverName = (typeof KERNEL_DRIVERS | typeof PLATFORM_KERNEL_DRIVERS)[number];

/** Profiles that a function can have (reference R-0): what bits 40, 44 and 45 and the registers past the standard's mean. */
export const TOPOLOGY_PROFILES = ["spec", "queue-state", "transport-vq"] as const;

/** Name of a profile that a function can have. */
export type TopologyProfile = typeof TOPOLOGY_PROFILES[number];

/** Where drivers of the legacy interface can notify a VF (LEGACY_NOTIFY_INFO; reference 3.3). */
export const LEGACY_NOTIFY_PLACES = ["member", "owner", "both", "none"] as const;

/** `member`: in the VF's BAR, `owner`: in the PF's, `both`: the VF's is preferred, `none`: by command only. */
export type LegacyNotifyPlace = typeof LEGACY_NOTIFY_PLACES[number];

/** What devices let drivers do against the standard where a topology says so. */
export const QUIRKS = ["any-head"] as const;

/** `any-head`: with IN_ORDER, chains of a split ring may begin at any descriptor, not at the one behind the last (DPDK's control queue). */
export type QuirkName = typeof QUIRKS[number];

/** Administration of a PF and its VFs. A VF has the fields of its PF. */
export interface AdminTopology {
  /** Administration queues of the PF; 0: it does not offer ADMIN_VQ. */
  readonly queues: number;
  /** Its VFs have legacy registers, which the PF reaches by command. */
  readonly legacyVfs: boolean;
  /** Where their notify addresses are. */
  readonly legacyNotify: LegacyNotifyPlace;
}

/** Forms of virtio-mmio (reference 7): the standard's version 2 and version 1, and the two drafts with MSI. */
export const MMIO_FORMS = ["modern", "legacy", "v3", "msi-v2"] as const;

/** A virtio-mmio device. */
export interface MmioTopology {
  /** Which registers it has. */
  readonly form: typeof MMIO_FORMS[number];
  /** Forms with MSI: how many vectors. Default: one a queue, one for the configuration, and what the kind wants besides. */
  readonly vectors?: number | undefined;
  /** Forms with MSI: where its doorbells are. Default: all in one, at QueueNotify. */
  readonly notify?: { readonly base: number; readonly multiplier: number } | undefined;
  /** Form `msi-v2`: events are mapped to vectors by commands. Default false. */
  readonly sharing?: boolean | undefined;
  /** Form `msi-v2`: which bits MsiState has. Default `draft`. */
  readonly stateBits?: "draft" | "linux" | undefined;
}

/** One function of a topology, with every default filled in. */
export interface FunctionTopology {
  /** Full address: of a PCI function in its long form, or a platform device's name. */
  readonly address: string;
  /** Kind of device, as the models name it: `virtio-net`. */
  readonly kind: string;
  /** Most VFs that it can have; 0: no SR-IOV capability. */
  readonly totalVfs: number;
  /** From the PF's routing ID to that of VF 0. */
  readonly firstVfOffset: number;
  /** From one VF's routing ID to the next. */
  readonly vfStride: number;
  /** Driver that it is bound to at the start; null: none. */
  readonly driver: KernelDriverName | null;
  /** NUMA node; −1: not said. */
  readonly numaNode: number;
  /** IOMMU group; undefined: one of its own. */
  readonly iommuGroup?: number;
  /** Entries of each queue, 1 to 32768. Where it is no power of two, a split ring has the next smaller one. */
  readonly queueSize?: number;
  /** What bit 40 and the registers past the standard's mean; default `spec`. */
  readonly profile?: TopologyProfile;
  /** With IN_ORDER, what is returned in one burst goes into as few used elements as the standard lets it; default false. */
  readonly usedBatches?: boolean;
  /** What it lets drivers do against the standard; default: nothing. */
  readonly quirks?: readonly QuirkName[] | undefined;
  /** Features that it must not offer, by the standard's names. */
  readonly featuresOff: readonly string[];
  /** Features that it offers only on demand. */
  readonly featuresOn: readonly string[];
  /** Way in which it breaks the standard, for tests of drivers. */
  readonly lie?: string;
  /** Administration queues, and the legacy interface of its VFs; undefined: it has none. */
  readonly admin?: AdminTopology;
  /** Of a platform device: which virtio-mmio device it is. */
  readonly mmio?: MmioTopology | undefined;
  /** Fields of its kind. */
  readonly [field: string]: unknown;
}

/** A device behind a vhost-user socket, on no bus, with every default filled in. */
export interface VhostUserTopology {
  /** What the machine calls it: `vhost-user:net0`. */
  readonly address: string;
  /** Path of its socket. */
  readonly socket: string;
  /** It connects to a front end that listens there, and again when that is gone. Default: it listens. */
  readonly connect?: boolean;
  /** Kind of device, as the models name it: `virtio-net`. */
  readonly kind: string;
  /** Largest size of each queue: the front end says how large they are. Default 1024. */
  readonly queueSize: number;
  /** With IN_ORDER, what is returned in one burst goes into as few used elements as the standard lets it; default false. */
  readonly usedBatches?: boolean;
  /** Features that it must not offer, by the standard's names. */
  readonly featuresOff: readonly string[];
  /** Lie that its kind tells, for tests of drivers. */
  readonly lie?: string;
  /** Fields of its kind. */
  readonly [field: string]: unknown;
}

/** An emulated host's functions, in order of their addresses, and devices on no bus. */
export interface Topology {
  /** The PFs and plain functions; VFs come out of their PFs. */
  readonly functions: readonly FunctionTopology[];
  /** Devices behind vhost-user sockets. Default: none. */
  readonly vhostUser?: readonly VhostUserTopology[];
}
