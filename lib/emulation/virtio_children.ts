/**
 * What the emulated kernel's virtio drivers make of a function: a virtio device, and a network interface when it is one.
 *
 * @module
 */
import { VIRTIO_VENDOR_ID, virtioTypeOf } from "../pci/virtio_ids.ts";
import { FreeNumbers } from "./free_numbers.ts";
import type { KernelPlatformDevice } from "./kernel_function.ts";
import type { MachineFunction } from "./machine_function.ts";
import type { SysfsTree } from "./sysfs_tree.ts";

type Parent = MachineFunction | KernelPlatformDevice;

/** The children of all functions: their numbers are the kernel's, not a bus's. */
export class VirtioChildren {
  readonly #tree: SysfsTree;
  readonly #virtioNumbers = new FreeNumbers();
  readonly #netNumbers = new FreeNumbers();
  readonly #of = new Map<Parent, { readonly virtio: number; readonly net?: number }>();

  /** There are none yet. */
  constructor(tree: SysfsTree) {
    this.#tree = tree;
  }

  /** A driver has taken a function, whose directory is `path`. */
  add(fn: Parent, path: string): void {
    const virtio = this.#virtioNumbers.take();
    const device = `${path}/virtio${virtio}`;
    const { vendor, type } = idsOf(fn);
    this.#tree.constant(`${device}/vendor`, `0x${vendor.toString(16)}\n`);
    this.#tree.constant(`${device}/device`, `0x${type.toString(16).padStart(4, "0")}\n`);
    const { netInterface } = fn.device.behaviour;
    if (netInterface === undefined) {
      this.#of.set(fn, { virtio });
      return;
    }
    const net = this.#netNumbers.take();
    this.#of.set(fn, { virtio, net });
    const at = `${device}/net/eth${net}`;
    this.#tree.constant(`${at}/address`, `${netInterface.mac}\n`);
    this.#tree.constant(`${at}/mtu`, `${netInterface.mtu}\n`);
    this.#tree.constant(`${at}/operstate`, "down\n");
    this.#tree.constant(`${at}/flags`, "0x1002\n");
    this.#tree.constant(`${at}/type`, "1\n");
    this.#tree.constant(`${at}/ifindex`, `${net + 2}\n`);
    const { hostUse = [] } = netInterface;
    if (hostUse.length > 0) this.#tree.constant(`${at}/host_use`, `${hostUse.join("\n")}\n`);
    this.#tree.link(`${at}/device`, `../../../virtio${virtio}`);
    this.#tree.link(`/sys/class/net/eth${net}`, `../..${at.slice("/sys".length)}`);
  }

  /** Its driver has left it. One without children is fine. */
  remove(fn: Parent, path: string): void {
    const children = this.#of.get(fn);
    if (children === undefined) return;
    const { virtio, net } = children;
    this.#of.delete(fn);
    this.#tree.remove(`${path}/virtio${virtio}`);
    this.#virtioNumbers.release(virtio);
    if (net === undefined) return;
    this.#tree.remove(`/sys/class/net/eth${net}`);
    this.#netNumbers.release(net);
  }
}

function idsOf(fn: Parent): { readonly vendor: number; readonly type: number } {
  if (!("identity" in fn)) return { vendor: VIRTIO_VENDOR_ID, type: fn.device.behaviour.deviceId };
  const { identity } = fn;
  return { vendor: identity.vendorId, type: virtioTypeOf(identity) ?? identity.subsystemId };
}
