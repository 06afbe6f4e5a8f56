/**
 * A function's own character device (`/dev/vfio/devices/vfioN`).
 *
 * @module
 */
import type { OwnedFd } from "../../../ffi/mod.ts";
import {
  attachIommufdPt,
  BIND_FLAG,
  BIND_IOMMUFD_ORIGINAL_BYTES,
  bindIommufd,
  detachIommufdPt,
  DEVICE_IOCTL,
} from "./abi.ts";
import { explaining, NODE_HINTS } from "./explain.ts";
import type { Iommufd } from "./iommufd.ts";
import type { KernelCalls } from "./kernel_calls.ts";

/** Where the kernel makes the nodes. */
export const CDEV_NODES = "/dev/vfio/devices";

/** An open character device. Nothing but BIND works before it is bound; closing it unbinds and detaches. */
export class CharacterDevice implements Disposable {
  /** Descriptor that requests go to. */
  readonly fd: OwnedFd;
  readonly #kernel: KernelCalls;

  /** Opens the node. @param name `vfioN`. @throws SyscallError */
  constructor(kernel: KernelCalls, name: string) {
    this.#kernel = kernel;
    this.fd = explaining(NODE_HINTS, () => kernel.openNode(`${CDEV_NODES}/${name}`));
  }

  /**
   * Takes the function for an iommufd. Works once.
   * @param token the VF token's 16 bytes, in an ArrayBuffer of their own; only for a function that takes one.
   * @returns the function's id in the iommufd. @throws SyscallError, ClosedError
   */
  bind(iommufd: Iommufd, token?: Uint8Array<ArrayBuffer>): number {
    const values = { iommufd: iommufd.fd.number };
    if (token !== undefined) {
      const argument = bindIommufd.encode({
        ...values,
        argsz: bindIommufd.sizeBytes,
        flags: BIND_FLAG.token,
      });
      const at = bindIommufd.fields.tokenUuidPtr.offset;
      this.#kernel.ioctlPointing(this.fd, DEVICE_IOCTL.bindIommufd, argument, at, token);
      return bindIommufd.decode(argument).outDevid;
    }
    // Only the first 16 bytes are announced: a kernel from before the token takes no more.
    const argument = bindIommufd.encode({ ...values, argsz: BIND_IOMMUFD_ORIGINAL_BYTES });
    this.#kernel.ioctlBuffer(this.fd, DEVICE_IOCTL.bindIommufd, argument);
    return bindIommufd.decode(argument).outDevid;
  }

  /** Attaches to an address space. @throws SyscallError (ENOENT for an unknown id), ClosedError */
  attach(ioasId: number): void {
    const argument = attachIommufdPt.encode({ argsz: attachIommufdPt.sizeBytes, ptId: ioasId });
    this.#kernel.ioctlBuffer(this.fd, DEVICE_IOCTL.attachIommufdPt, argument);
  }

  /** Ends `attach`. @throws SyscallError, ClosedError */
  detach(): void {
    const argument = detachIommufdPt.encode({ argsz: detachIommufdPt.sizeBytes });
    this.#kernel.ioctlBuffer(this.fd, DEVICE_IOCTL.detachIommufdPt, argument);
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
