/**
 * What it can mean that the kernel does not make VFs. The errno comes from the PCI core or from the PF's driver, and each driver has meanings of
 * its own; those here are what the drivers of Linux 6 do.
 *
 * @module
 */
import type { SyscallError } from "../../../ffi/mod.ts";
import { ExhaustedError, RingsideError, UnsupportedError } from "../../errors/mod.ts";
import { isVfioDriver } from "./driver_binding.ts";

/** What is known when a VF count was not taken. */
export interface Refusal {
  /** Full address of the PF. */
  readonly address: string;
  /** Its driver. */
  readonly driver: string;
  /** VFs that were asked for. */
  readonly count: number;
  /** What the kernel logged of the PF meanwhile; undefined when that cannot be read. */
  readonly log: readonly string[] | undefined;
}

interface Meaning {
  readonly what: string;
  readonly mend: string;
}

const ASSIGNED: Meaning = {
  what: "VFs are assigned to virtual machines",
  mend: "take them from the virtual machines first",
};
const NO_WINDOW: Meaning = {
  what: "no room for the VFs in the bus numbers or memory windows above it",
  mend: "boot with pci=realloc,assign-busses, or turn SR-IOV and decoding above 4 GiB on in the firmware",
};

/** By errno: what the driver means by it (`""`: any other driver, and the PCI core). */
const MEANINGS: Readonly<Record<string, Readonly<Record<string, Meaning>>>> = {
  ENOENT: {
    "": {
      what: "the driver has no way to set the VF count",
      mend: "give the PF to a driver that has, such as vfio-pci: ringside bind",
    },
  },
  ENOMEM: { "": NO_WINDOW },
  ENOSPC: {
    ice: {
      what: "the device has too few MSI-X vectors or queue pairs left for so many VFs",
      mend: "ask for fewer VFs, or give the PF fewer queues: ethtool -L",
    },
    "": {
      what: "something of the device has run out: vectors, queues, memory windows or bus numbers",
      mend: "ask for fewer VFs",
    },
  },
  EPERM: {
    i40e: {
      what: "the device has no resources for so many VFs, or is in its diagnostic test",
      mend: "ask for fewer VFs",
    },
    ixgbe: {
      what:
        "the driver takes 63 VFs at most (31 with traffic classes, 15 with more than four of them), or VFs are assigned to virtual machines",
      mend: "ask for fewer VFs",
    },
    igb: { what: "the driver takes 7 VFs at most, or VFs are assigned", mend: "ask for fewer VFs" },
    "": ASSIGNED,
  },
  EBUSY: {
    ice: { what: "the device is not ready", mend: "wait until its link is up, and ask again" },
    "virtio-pci": {
      what: "the driver of the PF's device is not up",
      mend: "load the driver of its device type, such as virtio_net",
    },
    "": { what: "a VF, or the PF, is in use by another process", mend: "end that one first" },
  },
  EAGAIN: {
    "": { what: "the driver is in the middle of another operation", mend: "ask again" },
  },
  EINVAL: {
    "virtio-pci": {
      what: "the device did not offer VIRTIO_F_SR_IOV to its driver",
      mend: "bind it to vfio-pci, and set the count there",
    },
    i40e: ASSIGNED,
    "": { what: "the driver does not take this count now", mend: "ask for 0 VFs first, or for fewer" },
  },
  ENOTSUP: {
    ice: {
      what: "the device takes fewer VFs, or is in safe or recovery mode (its DDP package is not loaded)",
      mend: "ask for fewer VFs, or load the package: linux-firmware, intel/ice/ddp",
    },
    "": {
      what: "the driver or its firmware has SR-IOV turned off",
      mend: "turn it on in the device's firmware",
    },
  },
  EIO: {
    "": {
      what: "the device did not do what SR-IOV asks of it, or its driver had too few vectors or queues",
      mend: "ask for fewer VFs",
    },
  },
};

/** The error for a failed write of the VF count: what the errno can mean for this driver, and what the kernel says. */
export function sriovRefusal(error: SyscallError, refusal: Refusal): Error {
  const { address, driver, count } = refusal;
  if (["EMFILE", "ENFILE"].includes(error.code)) {
    return new ExhaustedError(`${address}: ${count} VFs are more than the emulated host can serve`, {
      hint: error.hint,
      cause: error,
    });
  }
  const forDrivers = MEANINGS[error.code];
  if (forDrivers === undefined) return error;
  const meaning = meaningOf(error.code, forDrivers, refusal);
  const work = count === 0 ? "remove its VFs" : `make ${count} VF${count === 1 ? "" : "s"}`;
  const message = `${address}: ${driver} did not ${work} (${error.code}): ${meaning.what}`;
  const options = { hint: `${meaning.mend}; ${logText(refusal)}`, cause: error };
  const isForNow = ["EPERM", "EBUSY", "EAGAIN"].includes(error.code);
  return isForNow ? new RingsideError(message, options) : new UnsupportedError(message, options);
}

function meaningOf(
  code: string,
  forDrivers: Readonly<Record<string, Meaning>>,
  { driver }: Refusal,
): Meaning {
  if (code === "ENOENT" && isVfioDriver(driver)) {
    return {
      what: "it does so only when it is told to",
      mend: "allow it: echo 1 > /sys/module/vfio_pci/parameters/enable_sriov",
    };
  }
  return (Object.hasOwn(forDrivers, driver) ? forDrivers[driver] : undefined) ?? forDrivers[""]!;
}

/** What the kernel says, or how to see it. */
export function logText({ address, log }: Pick<Refusal, "address" | "log">): string {
  if (log === undefined || log.length === 0) return `the kernel may say more: dmesg | grep ${address}`;
  return `the kernel says: ${log.join("; ")}`;
}
