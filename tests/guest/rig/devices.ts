import { GuestOptionsError } from "./errors.ts";
import { PATHS } from "./paths.ts";

/** Ring features that a virtio function offers; what is not given is as QEMU has it. A driver can still decline each. */
export interface RingFeatures {
  /** RING_PACKED; off unless given. */
  readonly packed?: boolean;
  /** IN_ORDER; off unless given. */
  readonly inOrder?: boolean;
  /** EVENT_IDX; on unless given. */
  readonly eventIndex?: boolean;
  /** INDIRECT_DESC; on unless given. */
  readonly indirect?: boolean;
  /** RING_RESET; on unless given. */
  readonly ringReset?: boolean;
}

/** A disk's file on the host. It is the caller's, and stays when the guest has gone. */
export interface DiskImage {
  readonly path: string;
  readonly format: "raw" | "qcow2";
}

/**
 * A function of the guest. `hub` names the Ethernet hub its link is plugged into: every frame sent into a hub
 * comes out of all its other links. Functions with no hub named are on hub 0.
 */
export type GuestDevice =
  /** A virtio-net PF with VFs (device ids 1041h); the VFs' functions are numbered from 1. */
  | { readonly kind: "virtio-net-sriov"; readonly vfs?: number; readonly hub?: number }
  | {
    readonly kind: "virtio-net";
    readonly hub?: number;
    readonly vectors?: number;
    readonly rings?: RingFeatures;
    readonly transitional?: boolean;
  }
  /**
   * A network function with several queue pairs, whose link is a TAP device of the host's kernel: hubs have one queue. Only in a guest with
   * `ownNetwork`. `script` is shell text that sets the device up; its name is `$1`.
   */
  | {
    readonly kind: "virtio-net-multiqueue";
    readonly queuePairs: number;
    readonly script: string;
    readonly rings?: RingFeatures;
  }
  /** An Intel 82576 with SR-IOV (7 VFs under its kernel driver). */
  | { readonly kind: "igb"; readonly hub?: number }
  | { readonly kind: "e1000e"; readonly hub?: number }
  /** `vectors: 0` leaves out MSI-X, so that INTx is its only interrupt. */
  | { readonly kind: "virtio-rng"; readonly vectors?: number; readonly rings?: RingFeatures }
  /**
   * A disk: `image`, or one of `sizeBytes` zeros whose writes last for the run. `queues` is one for each of the guest's processors unless given.
   * A `transitional` function has the legacy interface, too, in I/O BAR 0 (device ids 1000h and 1001h).
   */
  | {
    readonly kind: "virtio-blk";
    readonly sizeBytes?: number;
    readonly image?: DiskImage;
    readonly serial?: string;
    readonly queues?: number;
    readonly vectors?: number;
    readonly rings?: RingFeatures;
    readonly transitional?: boolean;
  }
  /** QEMU's teaching device (1234:11e8): one BAR, MSI but no MSI-X, and DMA both ways on command. */
  | { readonly kind: "edu" }
  /** A disk by NVMe, with one namespace of `nvmeBlocks()`. */
  | { readonly kind: "nvme" }
  /** A function served over the vfio-user protocol by a process on the host, which must be listening already. */
  | { readonly kind: "vfio-user"; readonly socket: string };

/** Arguments for devices, and what they demand of the machine. */
export interface DeviceArguments {
  readonly args: readonly string[];
  /** RAM must be shared memory, so that a device process can map it. */
  readonly sharedMemory: boolean;
}

/** Everything of QEMU's rings. */
export const ALL_RING_FEATURES: RingFeatures = { packed: true, inOrder: true };

/**
 * The devices tests get unless they ask for others: two ways to SR-IOV, one for each kind of interrupt, and for each class of device one with
 * all ring features beside one as QEMU has it, and at last some that have the legacy interface, too. The last two network functions of either
 * sort have a hub to themselves.
 */
export const STANDARD_DEVICES: readonly GuestDevice[] = [
  { kind: "virtio-net-sriov", vfs: 3 },
  { kind: "igb" },
  { kind: "virtio-rng" },
  { kind: "virtio-rng", vectors: 0 },
  { kind: "edu" },
  { kind: "virtio-blk" },
  { kind: "virtio-net", hub: 1, rings: ALL_RING_FEATURES },
  { kind: "virtio-net", hub: 1, rings: ALL_RING_FEATURES },
  { kind: "virtio-rng", rings: ALL_RING_FEATURES },
  { kind: "virtio-blk", queues: 4, serial: "ringside-rings", rings: ALL_RING_FEATURES },
  { kind: "virtio-net", hub: 2, transitional: true },
  { kind: "virtio-net", hub: 2, transitional: true },
  { kind: "virtio-blk", serial: "ringside-legacy", transitional: true },
  { kind: "nvme" },
];

const NVME_BYTES = 1 << 20;

/** What is on an NVMe disk: each 32-bit word is another. */
export function nvmeBlocks(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(
    Uint32Array.from({ length: NVME_BYTES / 4 }, (_, at) => Math.imul(at + 1, 0x9e37_79b1)).buffer,
  );
}

/** A virtio function without the I/O-port interface and behind the IOMMU, as hardware would be. */
const VIRTIO = "iommu_platform=on,disable-legacy=on,ats=on";
/** The same with the I/O-port interface. Such a function is not behind the IOMMU: a legacy driver cannot say that it knows of one, so QEMU forbids it. */
const TRANSITIONAL = "disable-legacy=off,disable-modern=off";

/**
 * Turns a list of devices into QEMU arguments.
 *
 * Every device gets an id: QEMU 11.1 crashes on an SR-IOV device without one that follows a `sriov-pf` group.
 */
export function deviceArguments(devices: readonly GuestDevice[], runFolder: string): DeviceArguments {
  const args: string[] = [];
  let sharedMemory = false;
  const port = (name: string, hub: number): string => {
    args.push("-netdev", `hubport,id=${name}-net,hubid=${hub}`);
    return `netdev=${name}-net`;
  };
  devices.forEach((device, index) => {
    const id = `d${index}`;
    const bus = `rp${index}`;
    // Fixed slots keep bus numbers in the order of the list: the first device is on bus 1, and so on.
    args.push(
      "-device",
      `pcie-root-port,id=${bus},chassis=${index + 1},slot=${index + 1},addr=0x${slot(index)}`,
    );
    const mac = (n: number): string => `mac=52:54:00:00:${hex2(index)}:${hex2(n)}`;
    const vectors = "vectors" in device && device.vectors !== undefined ? `,vectors=${device.vectors}` : "";
    const virtio = "transitional" in device && device.transitional ? TRANSITIONAL : VIRTIO;
    const rings = "rings" in device && device.rings !== undefined ? ringProperties(device.rings) : "";
    switch (device.kind) {
      case "virtio-net-sriov": {
        const { vfs = 3, hub = 0 } = device;
        if (!Number.isInteger(vfs) || vfs < 1 || vfs > 7) {
          throw new GuestOptionsError(
            `virtio-net-sriov: vfs is ${vfs}, but the functions of a slot allow 1 to 7`,
          );
        }
        // VFs come before their PF, which counts those it finds.
        for (let vf = vfs; vf >= 0; vf--) {
          const name = vf === 0 ? `${id}pf` : `${id}vf${vf}`;
          const owner = vf === 0 ? "" : `,sriov-pf=${id}pf`;
          args.push(
            "-device",
            `virtio-net-pci,id=${name},bus=${bus},addr=0x0.0x${vf},${port(name, hub)},${
              mac(vf)
            }${owner},${VIRTIO}`,
          );
        }
        break;
      }
      case "virtio-net":
        args.push(
          "-device",
          `virtio-net-pci,id=${id},bus=${bus},${port(id, device.hub ?? 0)},${
            mac(0)
          }${vectors}${rings},${virtio}`,
        );
        break;
      case "virtio-net-multiqueue": {
        const { queuePairs, script } = device;
        const file = `${runFolder}/${id}-up`;
        Deno.writeTextFileSync(file, `#!/bin/sh\nPATH=${PATHS.bin}:$PATH\n${script}\n`, { mode: 0o755 });
        args.push(
          "-netdev",
          `tap,id=${id}-net,ifname=ringside${index},queues=${queuePairs},vhost=off,script=${file},downscript=no`,
          "-device",
          `virtio-net-pci,id=${id},bus=${bus},netdev=${id}-net,mq=on,vectors=${2 * queuePairs + 2},${
            mac(0)
          }${rings},${VIRTIO}`,
        );
        break;
      }
      case "igb":
      case "e1000e":
        args.push("-device", `${device.kind},id=${id},bus=${bus},${port(id, device.hub ?? 0)},${mac(0)}`);
        break;
      case "virtio-rng":
        args.push("-object", `rng-builtin,id=${id}-source`);
        // With a quota a driver that asks for more has to wait: otherwise the bytes are there before it can sleep.
        args.push(
          "-device",
          `virtio-rng-pci,id=${id},bus=${bus},rng=${id}-source,max-bytes=1024,period=50${vectors}${rings},${VIRTIO}`,
        );
        break;
      case "virtio-blk": {
        const { image, queues, serial } = device;
        const path = image?.path ?? `${runFolder}/${id}.img`;
        if (image === undefined) {
          Deno.writeFileSync(path, new Uint8Array());
          Deno.truncateSync(path, device.sizeBytes ?? 64 * 1024 * 1024);
        }
        const file = { driver: "file", "node-name": `${id}-file`, filename: path };
        const format = { driver: image?.format ?? "raw", "node-name": `${id}-disk`, file: `${id}-file` };
        args.push("-blockdev", JSON.stringify(file), "-blockdev", JSON.stringify(format));
        const more = [
          ...(queues === undefined ? [] : [`num-queues=${queues}`]),
          ...(serial === undefined ? [] : [`serial=${serial}`]),
        ].map((property) => `,${property}`).join("");
        args.push(
          "-device",
          `virtio-blk-pci,id=${id},bus=${bus},drive=${id}-disk${more}${vectors}${rings},${virtio}`,
        );
        break;
      }
      case "edu":
        // Its DMA mask has 28 bits: a driver that forgets it reaches other memory.
        args.push("-device", `edu,id=${id},bus=${bus}`);
        break;
      case "nvme": {
        const path = `${runFolder}/${id}.img`;
        Deno.writeFileSync(path, nvmeBlocks());
        const file = { driver: "file", "node-name": `${id}-file`, filename: path };
        args.push("-blockdev", JSON.stringify(file));
        args.push("-device", `nvme,id=${id},bus=${bus},drive=${id}-file,serial=ringside-nvme`);
        break;
      }
      case "vfio-user":
        sharedMemory = true;
        args.push(
          "-device",
          JSON.stringify({ driver: "vfio-user-pci", id, bus, socket: { type: "unix", path: device.socket } }),
        );
        break;
    }
  });
  return { args, sharedMemory };
}

function ringProperties(rings: RingFeatures): string {
  const names = {
    packed: "packed",
    inOrder: "in_order",
    eventIndex: "event_idx",
    indirect: "indirect_desc",
    ringReset: "queue_reset",
  } as const;
  return (Object.keys(names) as (keyof RingFeatures)[])
    .filter((feature) => rings[feature] !== undefined)
    .map((feature) => `,${names[feature]}=${rings[feature] ? "on" : "off"}`)
    .join("");
}

function slot(index: number): string {
  // The slots below are taken by what QEMU places itself (the two file shares), slot 31 is the chipset's.
  const number = index + 8;
  if (number > 30) throw new GuestOptionsError("a guest has room for 23 devices");
  return number.toString(16);
}

function hex2(value: number): string {
  return value.toString(16).padStart(2, "0");
}
