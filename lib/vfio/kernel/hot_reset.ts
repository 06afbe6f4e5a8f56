/**
 * Hot reset: the bus or slot that a function is on, with everything else there.
 *
 * @module
 */
import { isErrno, type OwnedFd } from "../../../ffi/mod.ts";
import { ProtocolError, RefusedError } from "../../errors/mod.ts";
import { PciAddress } from "../../pci/address.ts";
import type { HotResetDependent, HotResetInfo } from "../pci_device.ts";
import {
  dependentDevice,
  DEVICE_IOCTL,
  HOT_RESET_DEVICE_ID,
  HOT_RESET_FLAG,
  hotReset,
  hotResetInfo,
} from "./abi.ts";
import type { IommuBinding } from "./binding.ts";
import type { KernelCalls } from "./kernel_calls.ts";

const MAX_DEPENDENTS = 1 << 16;
const MAX_TRIES = 8;

/**
 * Decodes `vfio_pci_hot_reset_info` with its array.
 * @param ownsGroup whether this process has the group open (group path).
 * @throws ProtocolError when the count leaves the buffer.
 */
export function decodeHotResetInfo(
  bytes: Uint8Array,
  ownsGroup: (group: number) => boolean,
  what: string,
): HotResetInfo {
  const { flags, count } = hotResetInfo.decode(bytes);
  if (hotResetInfo.sizeBytes + count * dependentDevice.sizeBytes > bytes.byteLength) {
    throw new ProtocolError(
      `${what}: ${count} hot reset dependents do not fit the answer's ${bytes.byteLength} bytes`,
    );
  }
  const byDeviceId = (flags & HOT_RESET_FLAG.deviceId) !== 0;
  const dependents: HotResetDependent[] = [];
  for (let i = 0; i < count; i++) {
    const one = dependentDevice.decode(bytes, hotResetInfo.sizeBytes + i * dependentDevice.sizeBytes);
    const address = PciAddress.fromRoutingId((one.bus << 8) | one.devfn, one.segment).toString();
    if (!byDeviceId) {
      dependents.push({ function: address, group: one.id, owned: ownsGroup(one.id) });
    } else if (one.id === HOT_RESET_DEVICE_ID.owned || one.id === HOT_RESET_DEVICE_ID.notOwned) {
      dependents.push({ function: address, owned: one.id === HOT_RESET_DEVICE_ID.owned });
    } else {
      dependents.push({ function: address, deviceId: one.id, owned: true });
    }
  }
  const possible = byDeviceId
    ? (flags & HOT_RESET_FLAG.deviceIdOwned) !== 0
    : dependents.every((one) => one.owned);
  return { dependents, possible };
}

/** Asks which functions a hot reset would reset. @throws SyscallError (ENODEV: no hot reset here), ProtocolError */
export function queryHotReset(
  kernel: KernelCalls,
  fd: OwnedFd,
  binding: IommuBinding,
  what: string,
): HotResetInfo {
  let room = 0;
  for (let i = 0; i < MAX_TRIES; i++) {
    const tail = room * dependentDevice.sizeBytes;
    const bytes = hotResetInfo.encode({ argsz: hotResetInfo.sizeBytes + tail }, tail);
    try {
      kernel.ioctlBuffer(fd, DEVICE_IOCTL.getPciHotResetInfo, bytes);
    } catch (error) {
      // Unlike the requests with capabilities, this one fails for a small buffer, after writing the count.
      if (!isErrno(error, "ENOSPC")) throw error;
      room = hotResetInfo.decode(bytes).count;
      if (room > MAX_DEPENDENTS) throw new ProtocolError(`${what}: ${room} hot reset dependents`);
      continue;
    }
    return decodeHotResetInfo(bytes, (group) => binding.groupFd(group) !== undefined, what);
  }
  throw new ProtocolError(`${what}: the number of hot reset dependents never settled`);
}

/**
 * Resets the bus or slot.
 * @throws RefusedError naming the dependents that are not ours, SyscallError
 */
export function performHotReset(kernel: KernelCalls, fd: OwnedFd, binding: IommuBinding, what: string): void {
  const info = queryHotReset(kernel, fd, binding, what);
  if (!info.possible) {
    const others = info.dependents.filter((one) => !one.owned).map((one) =>
      one.group === undefined ? one.function : `${one.function} (IOMMU group ${one.group})`
    );
    throw new RefusedError(
      `${what}: a hot reset would also reset ${others.join(", ") || "a function"}, not ours`,
      {
        hint: "bind these functions to vfio-pci and open them here by the same path first",
      },
    );
  }
  const groups = new Set(info.dependents.flatMap((one) => one.group ?? []));
  // On the character device path no dependent has a group: the kernel knows the owner from the iommufd, and takes none.
  const fds = Int32Array.from(groups, (group) => binding.groupFd(group)!);
  const values = { argsz: hotReset.sizeBytes + fds.byteLength, count: fds.length };
  kernel.ioctlBuffer(fd, DEVICE_IOCTL.pciHotReset, hotReset.encode(values, new Uint8Array(fds.buffer)));
}
