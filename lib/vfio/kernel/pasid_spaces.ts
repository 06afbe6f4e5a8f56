/**
 * Address spaces of a function beside its own, each with a PASID: an IOAS of its own, attached by VFIO_DEVICE_ATTACH_IOMMUFD_PT (Linux 6.16).
 *
 * iommufd attaches a PASID only to a page table that was allocated for that, and only while the function's own page table was, too
 * (IOMMU_HWPT_ALLOC_PASID in linux/iommufd.h). So the function's own address space gets such a table first. Whether kernel and IOMMU can do all that
 * is found by trying; but they also attach PASIDs to a function that can send none, so the function is asked about before.
 *
 * @module
 */
import { isErrno, type OwnedFd } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { typedErrors } from "../../errors/doors.ts";
import type { AddressSpaces, DmaSpace } from "../../memory/mod.ts";
import { ATTACH_FLAG, attachIommufdPt, attachPasid, DEVICE_IOCTL } from "./abi.ts";
import { AddressSpace } from "./iommufd.ts";
import { destroy, hwInfo, HWPT_FLAG, hwptAlloc, IOMMUFD_IOCTL } from "./iommufd_abi.ts";
import { ioctlStruct, type KernelCalls } from "./kernel_calls.ts";

/** PASIDs have 20 bits; 0 stands for requests without one. */
const LAST_PASID = (1 << 20) - 1;
/** ENOTTY: a kernel without such page tables; EINVAL: without PASIDs in VFIO, or a PASID beyond what function and IOMMU have. */
const LACKS = ["ENOTSUP", "ENOTTY", "EINVAL"] as const;

const WHAT_IT_TAKES =
  "this takes Linux 6.16, an IOMMU that translates by PASID, and a function with the PASID capability";

/** What the function is bound to. */
export interface PasidFunction {
  /** For messages. */
  readonly name: string;
  /** Its character device. */
  readonly fd: OwnedFd;
  /** Its id in the iommufd. */
  readonly id: number;
  /** Its own address space. */
  readonly space: AddressSpace;
}

/** See the module's text. */
export class PasidSpaces implements AddressSpaces {
  static {
    typedErrors(this);
  }

  readonly #kernel: KernelCalls;
  readonly #fn: PasidFunction;
  /** What is let go of when the function is closed, and so detached. */
  readonly #afterwards: DisposableStack;
  readonly #made = new Map<number, DmaSpace>();
  #ready = false;

  /** Asks the kernel for nothing. @param afterwards is disposed of when the function is closed, and before its own address space is let go of */
  constructor(kernel: KernelCalls, fn: PasidFunction, afterwards: DisposableStack) {
    this.#kernel = kernel;
    this.#fn = fn;
    this.#afterwards = afterwards;
  }

  addressSpace(pasid: number): DmaSpace {
    const { name, space: own } = this.#fn;
    if (!Number.isInteger(pasid) || pasid < 1 || pasid > LAST_PASID) {
      throw new UsageError(`${name}: address space ${pasid} is no PASID, 1 to ${LAST_PASID}`);
    }
    const known = this.#made.get(pasid);
    if (known !== undefined) return known;
    try {
      if (!this.#ready) this.#requirePasids();
      if (!this.#ready) this.#keep((opened) => this.#attach(own, opened));
      this.#ready = true;
      const dma = this.#keep((opened) => {
        const space = new AddressSpace(this.#kernel, `${name}, PASID ${pasid}`);
        opened.defer(() => space.close());
        this.#attach(space, opened, pasid);
        return space.dma;
      });
      this.#made.set(pasid, dma);
      return dma;
    } catch (error) {
      if (!isErrno(error, ...LACKS)) throw error;
      throw new UnsupportedError(
        `${name} has no address space ${pasid}: ${error.call} fails with ${error.code}`,
        { hint: WHAT_IT_TAKES, cause: error },
      );
    }
  }

  #requirePasids(): void {
    const { name, id: devId, space: { iommufd } } = this.#fn;
    const { outMaxPasidLog2 } = ioctlStruct(this.#kernel, iommufd, IOMMUFD_IOCTL.hwInfo, hwInfo, { devId });
    if (outMaxPasidLog2 > 0) return;
    throw new UnsupportedError(`${name} has no address space beside 0: the kernel knows of no PASIDs of it`, {
      hint: WHAT_IT_TAKES,
    });
  }

  /** What `open` opens is let go of when it throws, else afterwards. */
  #keep<T>(open: (opened: DisposableStack) => T): T {
    using opened = new DisposableStack();
    const made = open(opened);
    this.#afterwards.use(opened.move());
    return made;
  }

  /** Attaches a page table of the space that goes with PASIDs: to one, or to what the function does without. */
  #attach(space: AddressSpace, opened: DisposableStack, pasid?: number): void {
    const { fd, id: devId } = this.#fn;
    const table = { flags: HWPT_FLAG.pasid, devId, ptId: space.id };
    const { outHwptId: ptId } = ioctlStruct(
      this.#kernel,
      space.iommufd,
      IOMMUFD_IOCTL.hwptAlloc,
      hwptAlloc,
      table,
    );
    opened.defer(() =>
      ioctlStruct(this.#kernel, space.iommufd, IOMMUFD_IOCTL.destroy, destroy, { id: ptId })
    );
    if (pasid === undefined) {
      ioctlStruct(this.#kernel, fd, DEVICE_IOCTL.attachIommufdPt, attachIommufdPt, { ptId });
    } else {
      const values = { flags: ATTACH_FLAG.pasid, ptId, pasid };
      ioctlStruct(this.#kernel, fd, DEVICE_IOCTL.attachIommufdPt, attachPasid, values);
    }
  }
}
