/**
 * How many VFs a PF has.
 *
 * @module
 */
import { pageSizeBytes, SyscallError } from "../../../ffi/mod.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { PciAddress } from "../../pci/address.ts";
import { walkCapabilities } from "../../pci/capabilities.ts";
import { findCapability } from "../../pci/capability_walk.ts";
import { ConfigSpace } from "../../pci/config_space.ts";
import { HEADER_BYTES } from "../../pci/header.ts";
import { busOf, PCI, sysfsDirectory } from "../../vfio/bus.ts";
import type { KernelLog } from "../functions/kernel_log.ts";
import type { Change } from "../journal/journal.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";
import { logText, sriovRefusal } from "./sriov_refusal.ts";

/** Pages for which VF BARs of any device are large enough: a VF BAR has no less (SR-IOV 3.3.14). */
const LEAST_PAGE_BYTES = 4096;

/**
 * Looks before anything is changed whether a PF can have so many VFs.
 * @param pageBytes of the kernel
 * @throws UnsupportedError (not a PF, not on PCI, no driver that can), UsageError (no count, or more than TotalVFs)
 */
export function checkVfCount(
  attributes: FunctionAttributes,
  address: string,
  count: number,
  pageBytes: number = pageSizeBytes,
): void {
  const bus = busOf(address);
  if (bus !== PCI) throw new UnsupportedError(`${address} is a ${bus.kind}, which has no VFs`);
  const total = attributes.totalVfs(address);
  if (total === undefined) {
    const pf = attributes.physicalFunction(address);
    throw new UnsupportedError(`${address} is not an SR-IOV physical function`, {
      hint: pf === undefined ? whyNoVfs(attributes, address, pageBytes) : `it is a VF; its PF is ${pf}`,
    });
  }
  if (!Number.isInteger(count) || count < 0) throw new UsageError(`${count} is not a number of VFs`);
  if (count > total) {
    throw new UsageError(`${address} cannot have ${count} VFs: its TotalVFs is ${total}`, {
      hint: `ask for 0 to ${total}`,
    });
  }
  if (attributes.driver(address) === "" && count !== attributes.numVfs(address)) {
    throw new UnsupportedError(
      `${address} has no driver, and the kernel sets the VF count through the PF's driver`,
      {
        hint: `ringside bind ${address}`,
      },
    );
  }
}

/** A kernel that cannot make VFs of a function says so at boot alone, and then shows it like one without SR-IOV (drivers/pci/iov.c, sriov_init). */
function whyNoVfs(attributes: FunctionAttributes, address: string, pageBytes: number): string {
  const config = attributes.sysfs.readBytes(`${sysfsDirectory(address)}/config`);
  const has = config.length > HEADER_BYTES &&
    findCapability(walkCapabilities(new ConfigSpace(config)), "sr-iov") !== undefined;
  if (!has) return "ringside list shows which functions have VFs";
  return pageBytes > LEAST_PAGE_BYTES
    ? `it has SR-IOV, and this kernel does not take it: one with pages of ${
      pageBytes >> 10
    } KiB makes no VFs whose BARs are smaller than a page; ` +
      "boot a kernel with pages of 4 KiB"
    : "it has SR-IOV, and this kernel does not take it: the kernel's log says why (dmesg), and CONFIG_PCI_IOV has to be on";
}

/**
 * Sets the VF count and waits till the VFs are there. The kernel takes a new count only when there are no VFs (else EBUSY), so
 * existing ones are removed first.
 * @param listen opens the kernel's log, which says more than an errno
 * @returns addresses of the VFs.
 * @throws UnsupportedError, ExhaustedError, TimeoutError, RingsideError, SyscallError
 */
export function writeVfCount(
  attributes: FunctionAttributes,
  address: string,
  count: number,
  listen: () => KernelLog | undefined = () => undefined,
): string[] {
  const current = attributes.numVfs(address);
  using log = current === count ? undefined : listen();
  if (current !== count) {
    let asked = 0;
    try {
      if (current > 0) attributes.setNumVfs(address, 0);
      asked = count;
      if (count > 0) attributes.setNumVfs(address, count);
    } catch (error) {
      if (!(error instanceof SyscallError)) throw error;
      const refused = { address, driver: attributes.driver(address), count: asked };
      throw sriovRefusal(error, { ...refused, log: log?.linesAbout(address) });
    }
  }
  // A driver may enable fewer than it was asked for, and the write succeeds.
  const got = attributes.numVfs(address);
  if (got !== count) {
    throw new UnsupportedError(`${address}: the driver enabled ${got} of ${count} VFs`, {
      hint: logText({ address, log: log?.linesAbout(address) }),
    });
  }
  return attributes.awaitVfs(address, count);
}

/** Addresses that the VFs of a PF would have (SR-IOV 3.3.9, 3.3.10: First VF Offset and VF Stride); none where the kernel does not say. */
export function expectedVfs(attributes: FunctionAttributes, address: string, count: number): string[] {
  const directory = sysfsDirectory(address);
  const number = (name: string) => Number(attributes.optional(`${directory}/${name}`) ?? NaN);
  const firstVfOffset = number("sriov_offset"), vfStride = number("sriov_stride");
  if (!(firstVfOffset > 0) || !(vfStride >= 0)) return [];
  const pf = PciAddress.parse(address);
  return Array.from({ length: count }, (_, index) => pf.vf(index, { firstVfOffset, vfStride }).toString());
}

/** Driver and `driver_override` of VFs that are about to be removed with the count, so that they can come back as they were. Which device a VF is, its PF says. */
export function vfStates(attributes: FunctionAttributes, address: string): Change[] {
  return attributes.vfs(address).flatMap((vf) =>
    (["driver", "driver_override"] as const).map((attribute) => ({
      function: vf,
      attribute,
      before: attributes.read(vf, attribute) ?? "",
      after: "",
      physicalFunction: address,
    }))
  );
}
