/**
 * How an open function hangs on its IOMMU: by group and container, or by character device and iommufd.
 *
 * @module
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import type { DmaSpace } from "../../memory/mod.ts";
import { CharacterDevice } from "./cdev.ts";
import { type GroupContext, GroupRegistry } from "./group.ts";
import { type AddressSpace, AddressSpaceRegistry } from "./iommufd.ts";
import type { KernelCalls } from "./kernel_calls.ts";

/** What differs between the two kernel paths, after opening. */
export interface IommuBinding {
  /** Path that it was opened by. */
  readonly path: "group" | "cdev";
  /** Device requests go here. */
  readonly fd: OwnedFd;
  /** DMA memory that the function reaches. */
  readonly dma: DmaSpace;
  /** Descriptor number of an open group that shows ownership in a hot reset; undefined when it is not open here. */
  groupFd(group: number): number | undefined;
  /** Closes the function, then lets go of the address space that it shared. */
  close(): void;
}

/**
 * Opens a function by its group.
 * @param deviceName address, with the VF token behind it when one is sent. @throws as `GroupContext.open`
 */
export function bindByGroup(
  kernel: KernelCalls,
  group: number,
  deviceName: string,
  address: string,
  noIommu: boolean,
): IommuBinding {
  const registry = GroupRegistry.of(kernel);
  const context = registry.acquire(kernel, group, noIommu);
  try {
    return new GroupBinding(registry, context, context.openFunction(kernel, deviceName, address));
  } catch (error) {
    registry.release(context);
    throw error;
  }
}

class GroupBinding implements IommuBinding {
  readonly path = "group";
  readonly fd: OwnedFd;
  readonly #registry: GroupRegistry;
  readonly #context: GroupContext;

  constructor(registry: GroupRegistry, context: GroupContext, fd: OwnedFd) {
    this.#registry = registry;
    this.#context = context;
    this.fd = fd;
  }

  get dma(): DmaSpace {
    return this.#context.dma;
  }

  groupFd(group: number): number | undefined {
    return this.#registry.find(group)?.fd.number;
  }

  close(): void {
    // The function first: closing it stops its DMA, which must be over before its memory is unmapped.
    this.fd.close();
    this.#registry.release(this.#context);
  }
}

/**
 * Opens a function by its character device.
 * @param cdev `vfioN`. @param token 16 bytes when one is sent. @throws SyscallError, ProtocolError
 */
export function bindByCdev(
  kernel: KernelCalls,
  cdev: string,
  group: number,
  token: Uint8Array<ArrayBuffer> | undefined,
): IommuBinding {
  const registry = AddressSpaceRegistry.of(kernel);
  const space = registry.acquire(kernel, group);
  let device: CharacterDevice | undefined;
  try {
    device = new CharacterDevice(kernel, cdev);
    device.bind(space.iommufd, token);
    device.attach(space.id);
    return new CdevBinding(registry, space, device, space.dma);
  } catch (error) {
    device?.close();
    registry.release(space);
    throw error;
  }
}

class CdevBinding implements IommuBinding {
  readonly path = "cdev";
  readonly dma: DmaSpace;
  readonly #registry: AddressSpaceRegistry;
  readonly #space: AddressSpace;
  readonly #device: CharacterDevice;

  constructor(registry: AddressSpaceRegistry, space: AddressSpace, device: CharacterDevice, dma: DmaSpace) {
    this.#registry = registry;
    this.#space = space;
    this.#device = device;
    this.dma = dma;
  }

  get fd(): OwnedFd {
    return this.#device.fd;
  }

  groupFd(_group: number): undefined {
    return undefined;
  }

  close(): void {
    // Closing the function stops its DMA and detaches it; an address space with a function attached cannot be destroyed.
    this.#device.close();
    this.#registry.release(this.#space);
  }
}
