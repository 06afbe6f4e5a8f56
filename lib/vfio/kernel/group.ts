/**
 * A VFIO group (`/dev/vfio/N`). Functions of one group share the group's descriptor, its container and its IOVA space within this
 * process.
 *
 * @module
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import { RefusedError } from "../../errors/mod.ts";
import { DmaSpace, type IovaRange } from "../../memory/mod.ts";
import { parseReservedRegions, RESERVED_IOVA_WINDOWS } from "../iova_defaults.ts";
import { EXTENSION, GROUP_FLAG, GROUP_IOCTL, groupStatus } from "./abi.ts";
import { NoIommuMapper, openContainer, setIommu, Type1Mapper } from "./container.ts";
import { explaining, NODE_HINTS } from "./explain.ts";
import { readGroupMembers } from "./function_facts.ts";
import { ioctlStruct, type KernelCalls } from "./kernel_calls.ts";

/** Drivers beside which the kernel lets userspace have the rest of a group: they do no DMA. */
const HARMLESS_DRIVERS: readonly string[] = ["pcieport", "pci-stub", "shpchp"];

const OPEN_HINTS: Readonly<Record<string, string>> = {
  ...NODE_HINTS,
  EPERM: "no-IOMMU mode needs the capability CAP_SYS_RAWIO (root)",
  ENOENT: "the function is on a VFIO driver, but its group has no node: see dmesg and CONFIG_VFIO_GROUP",
};

/** An open group with a container of its own. */
export interface Group {
  /** Descriptor that requests go to. */
  readonly fd: OwnedFd;
  /** DMA memory that its functions reach. */
  readonly dma: DmaSpace;
  /** Lets go of everything; DMA mappings first. */
  close(): void;
}

/**
 * Opens a group and gives it a container.
 * @throws RefusedError when the group is not viable: names each member in the way, SyscallError, UnsupportedError
 */
export function openGroup(kernel: KernelCalls, number: number, noIommu: boolean): Group {
  using opened = new DisposableStack();
  const container = opened.use(openContainer(kernel));
  const node = noIommu ? `/dev/vfio/noiommu-${number}` : `/dev/vfio/${number}`;
  const group = opened.use(explaining(OPEN_HINTS, () => kernel.openNode(node)));
  requireViable(kernel, group, number);
  // A fresh ArrayBuffer, and a signed number: the kernel reads an int through the pointer.
  const containerFd = new Int32Array([container.number]);
  kernel.ioctlBuffer(group, GROUP_IOCTL.setContainer, new Uint8Array(containerFd.buffer));
  setIommu(kernel, container, noIommu ? EXTENSION.noIommu : EXTENSION.type1v2);
  const name = `IOMMU group ${number}`;
  const dma = opened.use(
    new DmaSpace(
      noIommu
        ? new NoIommuMapper(name)
        : new Type1Mapper(kernel, container, name, reservedWindows(kernel, number)),
    ),
  );
  const all = opened.move();
  return { fd: group, dma, close: () => all.dispose() };
}

function requireViable(kernel: KernelCalls, group: OwnedFd, number: number): void {
  const { flags } = ioctlStruct(kernel, group, GROUP_IOCTL.getStatus, groupStatus);
  if ((flags & GROUP_FLAG.containerSet) !== 0) {
    throw new RefusedError(`IOMMU group ${number} has a container already: another user has it open`);
  }
  if ((flags & GROUP_FLAG.viable) !== 0) return;
  const inTheWay = readGroupMembers(kernel, number).filter((member) =>
    member.driver !== undefined && !member.driver.includes("vfio") &&
    !HARMLESS_DRIVERS.includes(member.driver)
  );
  const who = inTheWay.length === 0
    ? "a function of it is on a driver that is not VFIO's"
    : inTheWay.map((member) => `${member.address} is bound to ${member.driver}`).join(", ");
  throw new RefusedError(`IOMMU group ${number} is not viable: ${who}`, {
    hint: inTheWay.length === 0
      ? `see the drivers in /sys/kernel/iommu_groups/${number}/devices`
      : `the group goes to userspace as a whole: ringside bind ${
        inTheWay.map((one) => one.address).join(" ")
      }`,
  });
}

function reservedWindows(kernel: KernelCalls, number: number): IovaRange[] {
  const path = `/sys/kernel/iommu_groups/${number}/reserved_regions`;
  return [
    ...RESERVED_IOVA_WINDOWS,
    ...(kernel.exists(path) ? parseReservedRegions(kernel.readText(path)) : []),
  ];
}
