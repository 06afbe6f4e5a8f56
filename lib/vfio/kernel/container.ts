/**
 * A VFIO container (`/dev/vfio/vfio`): the IOMMU address space of the group path.
 *
 * @module
 */
import { type MappedMemory, type OwnedFd, pageSizeBytes } from "../../../ffi/mod.ts";
import { UnsupportedError } from "../../errors/mod.ts";
import type { DmaAccess, DmaMapper, IovaRange } from "../../memory/mod.ts";
import { defaultIovaRanges } from "../iova_defaults.ts";
import { CONTAINER_IOCTL, DMA_MAP_FLAG, dmaMap, dmaUnmap, EXTENSION, iommuInfo } from "./abi.ts";
import { explaining, NODE_HINTS } from "./explain.ts";
import { infoCall } from "./info_call.ts";
import { decodeType1Info } from "./iommu_info.ts";
import { ioctlStruct, type KernelCalls } from "./kernel_calls.ts";
import { KernelMapper } from "./mapper.ts";

const NODE = "/dev/vfio/vfio";

const SET_IOMMU_HINTS: Readonly<Record<string, string>> = {
  EPERM:
    "the platform has no interrupt remapping: switch it on in the firmware (intremap), or accept the risk with " +
    "the vfio_iommu_type1 parameter allow_unsafe_interrupts",
  ENODEV: "load the IOMMU driver (modprobe vfio_iommu_type1)",
};

/** Opens one and checks its version. @throws SyscallError, UnsupportedError when the version is not 0 */
export function openContainer(kernel: KernelCalls): OwnedFd {
  using opened = new DisposableStack();
  const fd = opened.use(explaining(NODE_HINTS, () => kernel.openNode(NODE)));
  const version = kernel.ioctlValue(fd, CONTAINER_IOCTL.getApiVersion);
  if (version !== 0) throw new UnsupportedError(`${NODE} speaks VFIO API version ${version}, not 0`);
  opened.move();
  return fd;
}

/**
 * Chooses the IOMMU model of a container that a group has been added to. @param type one of `EXTENSION`.
 * @throws UnsupportedError when the kernel lacks it, SyscallError, ClosedError
 */
export function setIommu(kernel: KernelCalls, container: OwnedFd, type: number): void {
  if (kernel.ioctlValue(container, CONTAINER_IOCTL.checkExtension, BigInt(type)) <= 0) {
    throw new UnsupportedError(
      type === EXTENSION.noIommu
        ? "the kernel's no-IOMMU mode is off"
        : `${NODE} has no IOMMU of type ${type}`,
      {
        hint: type === EXTENSION.noIommu
          ? "echo Y > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode (needs CONFIG_VFIO_NOIOMMU)"
          : "load the IOMMU driver (modprobe vfio_iommu_type1), or use the cdev path",
      },
    );
  }
  explaining(SET_IOMMU_HINTS, () => kernel.ioctlValue(container, CONTAINER_IOCTL.setIommu, BigInt(type)));
}

/** DMA mapping through a Type1v2 container. */
export class Type1Mapper extends KernelMapper {
  readonly #kernel: KernelCalls;
  readonly #container: OwnedFd;

  /** Asks the container what it can map. @param reserved windows of the IOMMU group, for kernels that report no ranges. @throws SyscallError, ProtocolError */
  constructor(kernel: KernelCalls, container: OwnedFd, name: string, reserved: readonly IovaRange[]) {
    const answer = infoCall(
      kernel,
      container,
      CONTAINER_IOCTL.iommuGetInfo,
      iommuInfo.sizeBytes,
      (argsz) => iommuInfo.encode({ argsz }, argsz - iommuInfo.sizeBytes),
    );
    const { iovaRanges, pageSizes } = decodeType1Info(answer, NODE);
    super(name, iovaRanges ?? defaultIovaRanges(reserved), pageSizes ?? BigInt(pageSizeBytes));
    this.#kernel = kernel;
    this.#container = container;
  }

  protected override map(memory: MappedMemory, iova: bigint, size: bigint, access: DmaAccess): void {
    const flags = (access.deviceReads ? DMA_MAP_FLAG.read : 0) |
      (access.deviceWrites ? DMA_MAP_FLAG.write : 0);
    const values = { flags, vaddr: memory.address, iova, size };
    ioctlStruct(this.#kernel, this.#container, CONTAINER_IOCTL.iommuMapDma, dmaMap, values);
  }

  protected override unmap(iova: bigint, size: bigint): bigint {
    return ioctlStruct(this.#kernel, this.#container, CONTAINER_IOCTL.iommuUnmapDma, dmaUnmap, { iova, size })
      .size;
  }
}

/**
 * Stands where a mapper would be in no-IOMMU mode: without an IOMMU a device uses physical addresses, and neither VFIO nor
 * an unprivileged page map says what they are, or keeps them where they are.
 */
export class NoIommuMapper implements DmaMapper {
  readonly name: string;
  readonly iovaRanges: readonly IovaRange[] = defaultIovaRanges([]);
  readonly pageSizes = BigInt(pageSizeBytes);
  readonly needsFile = false;

  /** Makes one. @param name for messages */
  constructor(name: string) {
    this.name = name;
  }

  /** Refuses. @throws UnsupportedError always */
  mapDma(): void {
    throw new UnsupportedError(
      `${this.name}: no DMA memory in no-IOMMU mode: the device would need physical addresses, which VFIO does not give`,
      {
        hint:
          "where the host has an IOMMU for this device (VT-d, AMD-Vi, SMMU), switch it on and open without " +
          "enableUnsafeNoIommuMode; registers and interrupts work without DMA",
      },
    );
  }

  /** Refuses. @throws UnsupportedError always: nothing was mapped */
  unmapDma(): void {
    throw new UnsupportedError(`${this.name}: nothing is mapped in no-IOMMU mode`);
  }
}
