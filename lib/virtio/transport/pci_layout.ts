/**
 * Finds the structures of a modern virtio function: which BAR, where, how long (SPEC "Virtio Structure PCI Capabilities"; reference 2.1).
 *
 * @module
 */
import { DeviceError, UnsupportedError } from "../../errors/mod.ts";
import { ConfigSpace, findCapability, walkCapabilities } from "../../pci/mod.ts";
import { findSharedMemory, type VirtioCapability } from "../../pci/capability/virtio.ts";
import { COMMON_CFG_BYTES } from "../spec/pci.ts";
import { VIRTIO_VENDOR_ID, virtioTypeOf } from "../../pci/virtio_ids.ts";

/** Part of a BAR that lies wholly inside it, whatever its capability says. */
export interface StructurePlace {
  /** 0 to 5. */
  readonly bar: number;
  /** Bytes from the start of the BAR. */
  readonly offset: number;
  /** Bytes. */
  readonly lengthBytes: number;
}

/** Where everything is. */
export interface VirtioPciLayout {
  /** Virtio device id, from the PCI device id or, for a transitional function, the subsystem id. */
  readonly deviceId: number;
  /** `virtio_pci_common_cfg`. */
  readonly common: StructurePlace;
  /** Doorbells. */
  readonly notify: StructurePlace;
  /** Bytes for each unit of `queue_notify_off`: 0, or a power of two from 2 on. */
  readonly notifyOffMultiplier: number;
  /** The ISR byte. */
  readonly isr: StructurePlace;
  /** Absent when the device type has no config space. */
  readonly device?: StructurePlace;
  /** Shared memory by region id (reference 1.7). */
  readonly sharedMemory: ReadonlyMap<number, StructurePlace>;
  /** What its SR-IOV capability says, when it has one. */
  readonly sriov?: { readonly vfMigrationCapable: boolean };
}

/** What a structure must be like. */
interface Demand {
  readonly minimumBytes: number;
  /** Registers are accessed with their exact width, which needs this alignment. */
  readonly alignment: number;
}

const DEMANDS = {
  common: { minimumBytes: COMMON_CFG_BYTES.required, alignment: 4 },
  notify: { minimumBytes: 2, alignment: 2 },
  isr: { minimumBytes: 1, alignment: 1 },
  device: { minimumBytes: 1, alignment: 4 },
} as const satisfies Record<string, Demand>;

/**
 * Reads the layout out of a configuration space. Of several structures of a type the first usable one wins; reserved types, BARs
 * above 5 and places outside their BAR are passed over; longer capabilities and longer structures are fine. A structure that reaches beyond its
 * BAR ends with it; a shared memory region that does is none, since its size has a meaning.
 *
 * @param name function, for messages @param config 256 or 4096 bytes @param barBytes size of a BAR; 0 when there is none
 * @throws UnsupportedError when this is no virtio function, or a legacy one only; DeviceError when a structure that must be there is not usable
 */
export function findVirtioLayout(
  name: string,
  config: Uint8Array,
  barBytes: (bar: number) => number,
): VirtioPciLayout {
  const space = new ConfigSpace(config);
  const deviceId = virtioDeviceId(name, space);
  const { capabilities } = walkCapabilities(space);
  const all = capabilities.filter((one): one is VirtioCapability => one.kind === "virtio");
  if (all.length === 0) {
    throw new UnsupportedError(`${name} has no virtio capability: it speaks the legacy interface only`, {
      hint:
        "reach it through its PF's legacy admin commands, or turn the modern interface on where it is emulated",
    });
  }

  const place = ({ bar, regionOffset, regionLength }: VirtioCapability): StructurePlace => ({
    bar,
    offset: regionOffset,
    lengthBytes: Math.min(regionLength, barBytes(bar) - regionOffset),
  });
  const find = (structure: keyof typeof DEMANDS): VirtioCapability => {
    let reason = "there is none";
    for (const capability of all) {
      if (capability.structure !== structure) continue;
      const problem = problemOf(capability, DEMANDS[structure], barBytes);
      if (problem === undefined) return capability;
      reason = problem;
    }
    throw new DeviceError(`no usable ${structure} structure: ${reason}`, {
      function: name,
      field: "virtio_pci_cap",
    });
  };

  const notify = find("notify");
  const sriov = findCapability(capabilities, "sr-iov");
  const hasConfig = all.some((one) => one.structure === "device" && one.usable && one.regionLength > 0);
  return {
    deviceId,
    common: place(find("common")),
    notify: place(notify),
    notifyOffMultiplier: checkMultiplier(name, notify.notifyOffMultiplier ?? 0),
    isr: place(find("isr")),
    ...(hasConfig ? { device: place(find("device")) } : {}),
    sharedMemory: new Map(
      [...findSharedMemory(all.filter((one) => problemOf(one, wholly(one), barBytes) === undefined))]
        .map(([id, capability]) => [id, place(capability)]),
    ),
    ...(sriov === undefined ? {} : { sriov: { vfMigrationCapable: sriov.capabilities.vfMigration } }),
  };
}

/** Virtio device id of a PCI function. @throws UnsupportedError when it is none of virtio's */
export function virtioDeviceId(name: string, config: ConfigSpace): number {
  if (config.vendorId !== VIRTIO_VENDOR_ID) {
    throw new UnsupportedError(
      `${name} is not a virtio function: its vendor id is 0x${config.vendorId.toString(16)}`,
    );
  }
  const found = virtioTypeOf({ deviceId: config.deviceId, subsystemId: config.subsystem?.deviceId });
  if (found !== undefined) return found;
  throw new UnsupportedError(
    `${name}: PCI device id 0x${config.deviceId.toString(16)} is no virtio device's`,
  );
}

/** Of a shared memory region every byte is needed (1.7). */
function wholly({ regionLength }: VirtioCapability): Demand {
  return { minimumBytes: Math.max(1, regionLength), alignment: 1 };
}

function problemOf(
  capability: VirtioCapability,
  demand: Demand,
  barBytes: (bar: number) => number,
): string | undefined {
  if (!capability.usable) return capability.problems.join("; ");
  const { bar, regionOffset, regionLength } = capability;
  const size = barBytes(bar);
  if (size === 0) return `BAR ${bar} does not exist`;
  if (regionOffset + demand.minimumBytes > size) {
    return `offset ${regionOffset} + ${demand.minimumBytes} bytes is outside BAR ${bar} of ${size} bytes`;
  }
  if (regionLength < demand.minimumBytes) {
    return `its length ${regionLength} is below the structure's ${demand.minimumBytes} bytes`;
  }
  if (regionOffset % demand.alignment !== 0) {
    return `offset ${regionOffset} is not a multiple of ${demand.alignment}`;
  }
  return undefined;
}

function checkMultiplier(name: string, multiplier: number): number {
  // Also true for 2^31, where the signed arithmetic of `&` still gives 0.
  const powerOfTwo = multiplier >= 2 && (multiplier & (multiplier - 1)) === 0;
  if (multiplier === 0 || powerOfTwo) return multiplier;
  throw new DeviceError(`${multiplier} is neither 0 nor a power of two from 2 on`, {
    function: name,
    field: "notify_off_multiplier",
  });
}
