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
import { checkDmaRange, checkUnmapped } from "./dma_range.ts";
import { explaining, MAP_HINTS, NODE_HINTS } from "./explain.ts";
import { infoCall } from "./info_call.ts";
import { decodeType1Info, type Type1Info } from "./iommu_info.ts";
import type { KernelCalls } from "./kernel_calls.ts";

const NODE = "/dev/vfio/vfio";

const SET_IOMMU_HINTS: Readonly<Record<string, string>> = {
  EPERM:
    "the platform has no interrupt remapping: switch it on in the firmware (intremap), or accept the risk with " +
    "the vfio_iommu_type1 parameter allow_unsafe_interrupts",
  ENODEV: "load the IOMMU driver (modprobe vfio_iommu_type1)",
};

/** An open container. It owns its descriptor. */
export class Container implements Disposable {
  /** Descriptor that requests go to. */
  readonly fd: OwnedFd;
  readonly #kernel: KernelCalls;

  private constructor(kernel: KernelCalls, fd: OwnedFd) {
    this.#kernel = kernel;
    this.fd = fd;
  }

  /** Opens one and checks its version. @throws SyscallError, UnsupportedError when the version is not 0 */
  static open(kernel: KernelCalls): Container {
    const container = new Container(kernel, explaining(NODE_HINTS, () => kernel.openNode(NODE)));
    try {
      const version = kernel.ioctlValue(container.fd, CONTAINER_IOCTL.getApiVersion);
      if (version !== 0) throw new UnsupportedError(`${NODE} speaks VFIO API version ${version}, not 0`);
      return container;
    } catch (error) {
      container.close();
      throw error;
    }
  }

  /** True when the kernel has it. @param extension one of `EXTENSION`. @throws SyscallError, ClosedError */
  hasExtension(extension: number): boolean {
    return this.#kernel.ioctlValue(this.fd, CONTAINER_IOCTL.checkExtension, BigInt(extension)) > 0;
  }

  /**
   * Chooses the IOMMU model; a group must have been added. @param type one of `EXTENSION`.
   * @throws UnsupportedError when the kernel lacks it, SyscallError, ClosedError
   */
  setIommu(type: number): void {
    if (!this.hasExtension(type)) {
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
    explaining(
      SET_IOMMU_HINTS,
      () => this.#kernel.ioctlValue(this.fd, CONTAINER_IOCTL.setIommu, BigInt(type)),
    );
  }

  /** What the IOMMU can do; only after `setIommu`. @throws SyscallError, ProtocolError, ClosedError */
  info(): Type1Info {
    const answer = infoCall(
      this.#kernel,
      this.fd,
      CONTAINER_IOCTL.iommuGetInfo,
      iommuInfo.sizeBytes,
      (argsz) => iommuInfo.encode({ argsz }, argsz - iommuInfo.sizeBytes),
    );
    return decodeType1Info(answer, NODE);
  }

  /** Makes memory reachable at `iova`. @throws SyscallError, ClosedError */
  map(memory: MappedMemory, iova: bigint, sizeBytes: number, access: DmaAccess): void {
    const flags = (access.deviceReads ? DMA_MAP_FLAG.read : 0) |
      (access.deviceWrites ? DMA_MAP_FLAG.write : 0);
    const argument = dmaMap.encode({
      argsz: dmaMap.sizeBytes,
      flags,
      vaddr: memory.address,
      iova,
      size: BigInt(sizeBytes),
    });
    explaining(MAP_HINTS, () => this.#kernel.ioctlBuffer(this.fd, CONTAINER_IOCTL.iommuMapDma, argument));
  }

  /** Ends a mapping. @returns how many bytes the kernel unmapped. @throws SyscallError, ClosedError */
  unmap(iova: bigint, sizeBytes: number): bigint {
    const argument = dmaUnmap.encode({ argsz: dmaUnmap.sizeBytes, iova, size: BigInt(sizeBytes) });
    this.#kernel.ioctlBuffer(this.fd, CONTAINER_IOCTL.iommuUnmapDma, argument);
    return dmaUnmap.decode(argument).size;
  }

  /** Closes the descriptor; may be called again. */
  close(): void {
    this.fd.close();
  }

  /** Same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** DMA mapping through a Type1v2 container. */
export class Type1Mapper implements DmaMapper {
  readonly name: string;
  readonly iovaRanges: readonly IovaRange[];
  readonly pageSizes: bigint;
  readonly needsFile = false;
  readonly iommu = true;
  readonly #container: Container;

  /** Asks the container what it can map. @param reserved windows of the IOMMU group, for kernels that report no ranges. @throws SyscallError, ProtocolError */
  constructor(container: Container, name: string, reserved: readonly IovaRange[]) {
    const info = container.info();
    this.#container = container;
    this.name = name;
    this.iovaRanges = info.iovaRanges ?? defaultIovaRanges(reserved);
    this.pageSizes = info.pageSizes ?? BigInt(pageSizeBytes);
  }

  /** Makes `sizeBytes` of `memory` reachable at `iova`. @throws UsageError, SyscallError, ClosedError */
  mapDma(
    memory: MappedMemory,
    _file: OwnedFd | null,
    iova: bigint,
    sizeBytes: number,
    access: DmaAccess,
  ): void {
    checkDmaRange(this.name, iova, sizeBytes, memory.sizeBytes, this.pageSizes);
    this.#container.map(memory, iova, sizeBytes, access);
  }

  /** Ends exactly one earlier mapping. @throws SyscallError, RingsideError when it was another range, ClosedError */
  unmapDma(iova: bigint, sizeBytes: number): void {
    checkUnmapped(this.name, iova, sizeBytes, this.#container.unmap(iova, sizeBytes));
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
          "switch the IOMMU on (intel_iommu=on or the firmware's setting) and open without enableUnsafeNoIommuMode",
      },
    );
  }

  /** Refuses. @throws UnsupportedError always: nothing was mapped */
  unmapDma(): void {
    throw new UnsupportedError(`${this.name}: nothing is mapped in no-IOMMU mode`);
  }
}
