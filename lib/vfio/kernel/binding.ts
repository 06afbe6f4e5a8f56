/**
 * How an open function hangs on its IOMMU: by group and container, or by character device and iommufd.
 *
 * @module
 */
import { OwnedFd } from "../../../ffi/mod.ts";
import type { AddressSpaces, DmaSpace } from "../../memory/mod.ts";
import {
  attachIommufdPt,
  BIND_FLAG,
  BIND_IOMMUFD_ORIGINAL_BYTES,
  bindIommufd,
  DEVICE_IOCTL,
  GROUP_IOCTL,
} from "./abi.ts";
import { explaining, NODE_HINTS } from "./explain.ts";
import { type Group, openGroup } from "./group.ts";
import { AddressSpace } from "./iommufd.ts";
import { ioctlStruct, type KernelCalls } from "./kernel_calls.ts";
import { PasidSpaces } from "./pasid_spaces.ts";
import { Shared } from "./shared.ts";

/** Where the kernel makes the nodes of functions' own character devices, `vfioN`. */
export const CDEV_NODES = "/dev/vfio/devices";

const groups = new Shared<Group>();
const spaces = new Shared<AddressSpace>();

/** What differs between the two kernel paths, after opening. */
export interface IommuBinding {
  /** Path that it was opened by. */
  readonly path: "group" | "cdev";
  /** Device requests go here. */
  readonly fd: OwnedFd;
  /** DMA memory that the function reaches. */
  readonly dma: DmaSpace;
  /** Others that it can be told to use; absent on the group path. */
  readonly addressSpaces?: AddressSpaces;
  /** Descriptor number of an open group that shows ownership in a hot reset; undefined when it is not open here. */
  groupFd(group: number): number | undefined;
  /** Closes the function, then lets go of the address space that it shared. */
  close(): void;
}

/**
 * Opens a function by its group.
 * @param deviceName address, with ` vf_token=<uuid>` behind it when one is sent. @throws SyscallError, and as `openGroup`
 */
export function bindByGroup(
  kernel: KernelCalls,
  group: number,
  deviceName: string,
  address: string,
  noIommu: boolean,
): IommuBinding {
  using opened = new DisposableStack();
  const context = groups.acquire(kernel, group, () => openGroup(kernel, group, noIommu));
  opened.defer(() => groups.release(kernel, group));
  const argument = new TextEncoder().encode(`${deviceName}\0`) as Uint8Array<ArrayBuffer>;
  const number = kernel.ioctlBuffer(context.fd, GROUP_IOCTL.getDeviceFd, argument);
  // It goes first: closing it stops its DMA, which must be over before its memory is unmapped.
  const fd = opened.use(new OwnedFd(number, `function ${address}`));
  const all = opened.move();
  return {
    path: "group",
    fd,
    dma: context.dma,
    groupFd: (other) => groups.find(kernel, other)?.fd.number,
    close: () => all.dispose(),
  };
}

/**
 * Opens a function by its character device.
 * @param cdev `vfioN`. @param address for messages. @param token 16 bytes when one is sent. @throws SyscallError, ProtocolError
 */
export function bindByCdev(
  kernel: KernelCalls,
  cdev: string,
  group: number,
  address: string,
  token: Uint8Array<ArrayBuffer> | undefined,
): IommuBinding {
  using opened = new DisposableStack();
  const space = spaces.acquire(kernel, group, () => new AddressSpace(kernel, `IOMMU group ${group}`));
  opened.defer(() => spaces.release(kernel, group));
  const afterwards = opened.use(new DisposableStack());
  // It goes first: closing it stops its DMA and detaches it; an address space with a function attached cannot be destroyed.
  const fd = opened.use(explaining(NODE_HINTS, () => kernel.openNode(`${CDEV_NODES}/${cdev}`)));
  const id = takeForIommufd(kernel, fd, space.iommufd, token);
  ioctlStruct(kernel, fd, DEVICE_IOCTL.attachIommufdPt, attachIommufdPt, { ptId: space.id });
  const { dma } = space;
  const addressSpaces = new PasidSpaces(kernel, { name: address, fd, id, space }, afterwards);
  const all = opened.move();
  return { path: "cdev", fd, dma, addressSpaces, groupFd: () => undefined, close: () => all.dispose() };
}

/**
 * BIND: nothing else works on a character device before. It works once; closing the device unbinds and detaches.
 * @param token the VF token's 16 bytes, in an ArrayBuffer of their own; only for a function that takes one.
 * @returns its id in the iommufd
 */
function takeForIommufd(
  kernel: KernelCalls,
  fd: OwnedFd,
  iommufd: OwnedFd,
  token: Uint8Array<ArrayBuffer> | undefined,
): number {
  if (token !== undefined) {
    const values = { argsz: bindIommufd.sizeBytes, flags: BIND_FLAG.token, iommufd: iommufd.number };
    const argument = bindIommufd.encode(values);
    const at = bindIommufd.fields.tokenUuidPtr.offset;
    kernel.ioctlPointing(fd, DEVICE_IOCTL.bindIommufd, argument, at, token);
    return bindIommufd.decode(argument).outDevid;
  }
  // Only the first 16 bytes are announced: a kernel from before the token takes no more.
  const argument = bindIommufd.encode({ argsz: BIND_IOMMUFD_ORIGINAL_BYTES, iommufd: iommufd.number });
  kernel.ioctlBuffer(fd, DEVICE_IOCTL.bindIommufd, argument);
  return bindIommufd.decode(argument).outDevid;
}
