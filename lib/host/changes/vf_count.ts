/**
 * How many VFs a PF has.
 *
 * @module
 */
import { isErrno } from "../../../ffi/mod.ts";
import { ExhaustedError, RingsideError, UnsupportedError, UsageError } from "../../errors/mod.ts";
import { busOf, PCI } from "../../vfio/bus.ts";
import type { Change } from "../journal/journal.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";
import { isVfioDriver } from "./driver_binding.ts";

/**
 * Looks before anything is changed whether a PF can have so many VFs.
 * @throws UnsupportedError (not a PF, not on PCI, no driver that can), UsageError (no count, or more than TotalVFs)
 */
export function checkVfCount(attributes: FunctionAttributes, address: string, count: number): void {
  const bus = busOf(address);
  if (bus !== PCI) throw new UnsupportedError(`${address} is a ${bus.kind}, which has no VFs`);
  const total = attributes.totalVfs(address);
  if (total === undefined) {
    const pf = attributes.physicalFunction(address);
    throw new UnsupportedError(`${address} is not an SR-IOV physical function`, {
      hint: pf === undefined ? "ringside list shows which functions have VFs" : `it is a VF; its PF is ${pf}`,
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

/**
 * Sets the VF count and waits till the VFs are there. The kernel takes a new count only when there are no VFs (else EBUSY), so
 * existing ones are removed first.
 * @returns addresses of the VFs.
 * @throws UnsupportedError, ExhaustedError, TimeoutError, SyscallError
 */
export function writeVfCount(attributes: FunctionAttributes, address: string, count: number): string[] {
  const current = attributes.numVfs(address);
  if (current !== count) {
    try {
      if (current > 0) attributes.setNumVfs(address, 0);
      if (count > 0) attributes.setNumVfs(address, count);
    } catch (error) {
      throw explain(error, attributes, address, count);
    }
  }
  // A driver may enable fewer than it was asked for, and the write succeeds.
  const got = attributes.numVfs(address);
  if (got !== count) {
    throw new UnsupportedError(`${address}: the driver enabled ${got} of ${count} VFs`, {
      hint: "the kernel's log (dmesg) says why",
    });
  }
  return attributes.awaitVfs(address, count);
}

function explain(error: unknown, attributes: FunctionAttributes, address: string, count: number): unknown {
  if (isErrno(error, "ENOENT")) {
    const driver = attributes.driver(address);
    return new UnsupportedError(`${address}: its driver ${driver} does not let the VF count be set`, {
      hint: isVfioDriver(driver)
        ? "allow it: echo 1 > /sys/module/vfio_pci/parameters/enable_sriov"
        : "bind it to its own driver or to vfio-pci first",
      cause: error,
    });
  }
  if (isErrno(error, "ENOMEM", "ENOSPC")) {
    return new UnsupportedError(
      `${address}: no room for ${count} VFs in the bus numbers or memory windows above it`,
      {
        hint: "boot with pci=realloc,assign-busses, or turn SR-IOV on in the firmware",
        cause: error,
      },
    );
  }
  if (isErrno(error, "EMFILE", "ENFILE")) {
    return new ExhaustedError(`${address}: ${count} VFs are more than the emulated host can serve`, {
      hint: error.hint,
      cause: error,
    });
  }
  if (isErrno(error, "EPERM", "EBUSY")) {
    return new RingsideError(`${address}: the kernel refuses the VF count: ${error.message}`, {
      hint: "a VF is in use: by a virtual machine, a container or another process",
      cause: error,
    });
  }
  return error;
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
