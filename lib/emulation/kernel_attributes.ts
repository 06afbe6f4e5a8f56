/**
 * The attributes of one PCI function in the emulated kernel's sysfs (Linux: drivers/pci/pci-sysfs.c, drivers/pci/iov.c).
 *
 * @module
 */
import type { KernelResource } from "./bus_addresses.ts";
import { hex } from "../pci/hex.ts";
import type { SriovShape } from "../pci/capability_builder.ts";
import type { MachineFunction } from "./machine_function.ts";
import type { FunctionState } from "./kernel_function.ts";
import type { Fail, SysfsTree } from "./sysfs_tree.ts";

/** Longest text that an attribute takes: a page of the kernel that is emulated, which is one of x86. */
const PAGE_BYTES = 4096;

/** Adds the attributes of a function under its directory. @param disableVfs removes the VFs of a PF */
export function addFunctionAttributes(
  tree: SysfsTree,
  path: string,
  fn: MachineFunction,
  state: FunctionState,
  disableVfs: (fail: Fail) => void,
): void {
  const { identity, address } = fn;
  const number = (name: string, value: number, digits: number) =>
    tree.constant(`${path}/${name}`, `0x${hex(value, digits)}\n`);
  number("vendor", identity.vendorId, 4);
  number("device", identity.deviceId, 4);
  number("subsystem_vendor", identity.subsystemVendorId, 4);
  number("subsystem_device", identity.subsystemId, 4);
  number("revision", identity.revision, 2);
  number("class", identity.classCode, 6);
  tree.constant(`${path}/modalias`, `${modalias(fn)}\n`);
  tree.constant(`${path}/numa_node`, `${fn.options.numaNode}\n`);
  tree.constant(`${path}/reset_method`, "flr\n");
  tree.constant(`${path}/ari_enabled`, "1\n");
  tree.attribute(`${path}/config`, { read: () => fn.device.readHardwareConfig() });
  tree.attribute(`${path}/resource`, { read: () => fn.resources().map(resourceLine).join("") });
  tree.attribute(`${path}/uevent`, { read: () => uevent(fn, state.driver) });
  addDriverOverride(tree, path, state);
  tree.attribute(`${path}/reset`, {
    write: (text, fail) => {
      if (unsigned(text) !== 1) fail("EINVAL", "write 1 to reset the function");
      fn.device.resetByHost();
    },
  });
  tree.attribute(`${path}/enable`, {
    read: () => `${state.enables + (state.driver === null || state.driver === "pci-stub" ? 0 : 1)}\n`,
    write: (text, fail) => {
      const value = unsigned(text);
      if (value === undefined) fail("EINVAL");
      if (state.driver !== null) fail("EBUSY", `${state.driver} has ${address}`);
      if (value !== 0) state.enables++;
      else if (state.enables === 0) fail("EIO", `${address} is not enabled`);
      else state.enables--;
      fn.device.setHostDriver(state.enables > 0);
    },
  });
  const { sriov } = fn.options;
  if (sriov !== undefined) addSriovAttributes(tree, path, fn, sriov, state, disableVfs);
}

/** Adds `driver_override`, which each bus has alike (driver_set_override). */
export function addDriverOverride(tree: SysfsTree, path: string, state: FunctionState): void {
  tree.attribute(`${path}/driver_override`, {
    read: () => `${state.override ?? "(null)"}\n`,
    write: (text, fail) => {
      if (text.length >= PAGE_BYTES - 1) fail("EINVAL");
      const name = text.split("\n")[0]!;
      state.override = name === "" ? null : name;
    },
  });
}

function addSriovAttributes(
  tree: SysfsTree,
  path: string,
  fn: MachineFunction,
  sriov: SriovShape,
  state: FunctionState,
  disableVfs: (fail: Fail) => void,
): void {
  const { address, vfs } = fn;
  tree.constant(`${path}/sriov_totalvfs`, `${sriov.totalVfs}\n`);
  tree.constant(`${path}/sriov_vf_device`, `${hex(sriov.vfDeviceId, 4)}\n`);
  tree.attribute(`${path}/sriov_offset`, { read: () => `${sriov.firstVfOffset}\n` });
  tree.attribute(`${path}/sriov_stride`, { read: () => `${sriov.vfStride}\n` });
  tree.attribute(`${path}/sriov_numvfs`, {
    read: () => `${vfs.length}\n`,
    write: (text, fail) => {
      const count = unsigned(text);
      if (count === undefined || count > 0xffff) {
        fail("EINVAL", `${JSON.stringify(text.trim())} is not a number of VFs`);
      }
      // sriov_numvfs_store of Linux, in its order.
      if (count! > sriov.totalVfs) fail("ERANGE", `${address} has at most ${sriov.totalVfs} VFs`);
      if (count === vfs.length) return;
      if (state.driver === null) fail("ENOENT", `${address} has no driver, so nothing can configure SR-IOV`);
      if (count === 0) return disableVfs(fail);
      if (vfs.length > 0) fail("EBUSY", `${address} has ${vfs.length} VFs: write 0 first`);
      fn.enableVfs(count!);
    },
  });
  tree.attribute(`${path}/sriov_drivers_autoprobe`, {
    read: () => `${state.autoprobe ? 1 : 0}\n`,
    write: (text, fail) => {
      const value = boolean(text);
      if (value === undefined) fail("EINVAL", "write 0 or 1");
      state.autoprobe = value!;
    },
  });
}

/** Number as the kernel's kstrtoul with base 0 takes it; undefined for anything else. */
export function unsigned(text: string): number | undefined {
  const line = text.endsWith("\n") ? text.slice(0, -1) : text;
  if (/^\+?0x[0-9a-f]+$/i.test(line)) return parseInt(line.replace("+", ""), 16);
  if (/^\+?0[0-7]*$/.test(line)) return parseInt(line, 8);
  return /^\+?[1-9][0-9]*$/.test(line) ? Number(line) : undefined;
}

/** Truth as the kernel's kstrtobool takes it; undefined for anything else. */
export function boolean(text: string): boolean | undefined {
  if (/^[yYtT1]/.test(text) || /^o[nN]/i.test(text)) return true;
  if (/^[nNfF0]/.test(text) || /^of/i.test(text)) return false;
  return undefined;
}

function modalias(fn: MachineFunction): string {
  const { vendorId, deviceId, subsystemVendorId, subsystemId, classCode } = fn.identity;
  const upper = (value: number, digits: number) => hex(value, digits).toUpperCase();
  return `pci:v${upper(vendorId, 8)}d${upper(deviceId, 8)}sv${upper(subsystemVendorId, 8)}sd${
    upper(subsystemId, 8)
  }bc${upper(classCode >> 16, 2)}sc${upper((classCode >> 8) & 0xff, 2)}i${upper(classCode & 0xff, 2)}`;
}

function uevent(fn: MachineFunction, driver: string | null): string {
  const { vendorId, deviceId, subsystemVendorId, subsystemId, classCode } = fn.identity;
  const id = (a: number, b: number) => `${hex(a, 4)}:${hex(b, 4)}`.toUpperCase();
  const lines = [
    ...(driver === null ? [] : [`DRIVER=${driver}`]),
    `PCI_CLASS=${classCode.toString(16).toUpperCase()}`,
    `PCI_ID=${id(vendorId, deviceId)}`,
    `PCI_SUBSYS_ID=${id(subsystemVendorId, subsystemId)}`,
    `PCI_SLOT_NAME=${fn.address}`,
    `MODALIAS=${modalias(fn)}`,
  ];
  return lines.map((line) => `${line}\n`).join("");
}

function resourceLine({ start, sizeBytes, flags }: KernelResource): string {
  const last = sizeBytes === 0n ? 0n : start + sizeBytes - 1n;
  return `0x${hex(sizeBytes === 0n ? 0n : start, 16)} 0x${hex(last, 16)} 0x${
    hex(sizeBytes === 0n ? 0 : flags, 16)
  }\n`;
}
