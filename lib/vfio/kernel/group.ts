/**
 * A VFIO group (`/dev/vfio/N`), and the path to a function through it. Functions of one group share the group's descriptor,
 * its container and its IOVA space within this process.
 *
 * @module
 */
import { OwnedFd } from "../../../ffi/mod.ts";
import { RefusedError } from "../../errors/mod.ts";
import { DmaSpace, type IovaRange } from "../../memory/mod.ts";
import { parseReservedRegions, RESERVED_IOVA_WINDOWS } from "../iova_defaults.ts";
import { EXTENSION, GROUP_FLAG, GROUP_IOCTL, groupStatus } from "./abi.ts";
import { Container, NoIommuMapper, Type1Mapper } from "./container.ts";
import { explaining, NODE_HINTS } from "./explain.ts";
import { readGroupMembers } from "./function_facts.ts";
import type { KernelCalls } from "./kernel_calls.ts";

/** Drivers beside which the kernel lets userspace have the rest of a group: they do no DMA. */
const HARMLESS_DRIVERS: readonly string[] = ["pcieport", "pci-stub", "shpchp"];

const OPEN_HINTS: Readonly<Record<string, string>> = {
  ...NODE_HINTS,
  EPERM: "no-IOMMU mode needs the capability CAP_SYS_RAWIO (root)",
  ENOENT: "the function is on a VFIO driver, but its group has no node: see dmesg and CONFIG_VFIO_GROUP",
};

/** An open group with its container; counted by the functions that use it. */
export class GroupContext {
  /** IOMMU group number. */
  readonly number: number;
  /** Descriptor that requests go to. */
  readonly fd: OwnedFd;
  /** Container of the group. */
  readonly container: Container;
  /** DMA memory that the function reaches. */
  readonly dma: DmaSpace;
  /** Functions open through it. */
  users = 0;

  private constructor(number: number, fd: OwnedFd, container: Container, dma: DmaSpace) {
    this.number = number;
    this.fd = fd;
    this.container = container;
    this.dma = dma;
  }

  /**
   * Opens a group and gives it a container of its own.
   * @throws RefusedError when the group is not viable: names each member in the way, SyscallError, UnsupportedError
   */
  static open(kernel: KernelCalls, number: number, noIommu: boolean): GroupContext {
    const container = Container.open(kernel);
    let fd: OwnedFd | undefined;
    try {
      const group = fd = explaining(
        OPEN_HINTS,
        () => kernel.openNode(noIommu ? `/dev/vfio/noiommu-${number}` : `/dev/vfio/${number}`),
      );
      requireViable(kernel, group, number);
      // A fresh ArrayBuffer, and a signed number: the kernel reads an int through the pointer.
      const containerFd = new Int32Array([container.fd.number]);
      kernel.ioctlBuffer(group, GROUP_IOCTL.setContainer, new Uint8Array(containerFd.buffer));
      container.setIommu(noIommu ? EXTENSION.noIommu : EXTENSION.type1v2);
      const name = `IOMMU group ${number}`;
      const mapper = noIommu
        ? new NoIommuMapper(name)
        : new Type1Mapper(container, name, reservedWindows(kernel, number));
      return new GroupContext(number, group, container, new DmaSpace(mapper));
    } catch (error) {
      fd?.close();
      container.close();
      throw error;
    }
  }

  /**
   * Opens a function of the group.
   * @param name its address, with ` vf_token=<uuid>` behind it for an SR-IOV function.
   * @throws SyscallError
   */
  openFunction(kernel: KernelCalls, name: string, address: string): OwnedFd {
    const argument = new TextEncoder().encode(`${name}\0`) as Uint8Array<ArrayBuffer>;
    return new OwnedFd(kernel.ioctlBuffer(this.fd, GROUP_IOCTL.getDeviceFd, argument), `function ${address}`);
  }

  /** Lets go of everything; DMA mappings first. */
  close(): void {
    try {
      this.dma.close();
    } finally {
      this.fd.close();
      this.container.close();
    }
  }
}

/** The groups that this process has open, by number. */
export class GroupRegistry {
  static readonly #registries = new WeakMap<KernelCalls, GroupRegistry>();
  readonly #open = new Map<number, GroupContext>();

  /** The one of this kernel. */
  static of(kernel: KernelCalls): GroupRegistry {
    let registry = GroupRegistry.#registries.get(kernel);
    if (registry === undefined) GroupRegistry.#registries.set(kernel, registry = new GroupRegistry());
    return registry;
  }

  /** Opens a group, or counts one more user of it. @throws as `GroupContext.open` */
  acquire(kernel: KernelCalls, number: number, noIommu: boolean): GroupContext {
    let context = this.#open.get(number);
    if (context === undefined) {
      context = GroupContext.open(kernel, number, noIommu);
      this.#open.set(number, context);
    }
    context.users++;
    return context;
  }

  /** The open group of this number. */
  find(number: number): GroupContext | undefined {
    return this.#open.get(number);
  }

  /** Counts one user less; the last one closes the group. */
  release(context: GroupContext): void {
    if (--context.users > 0) return;
    this.#open.delete(context.number);
    context.close();
  }
}

function requireViable(kernel: KernelCalls, group: OwnedFd, number: number): void {
  const status = groupStatus.encode({ argsz: groupStatus.sizeBytes });
  kernel.ioctlBuffer(group, GROUP_IOCTL.getStatus, status);
  const { flags } = groupStatus.decode(status);
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
