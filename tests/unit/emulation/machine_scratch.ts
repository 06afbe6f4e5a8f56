/**
 * A function for tests of the machine: a register file, a doorbell, four vectors, and a record of everything that happens to it.
 */
import { EventFd } from "../../../ffi/mod.ts";
import {
  type BarDeclaration,
  type BehaviourOptions,
  type FunctionModels,
  type MsixShape,
  type NetFields,
  type NetInterface,
  type PciFunctionBehaviour,
  type PciFunctionPort,
  type PciIdentity,
  readTopology,
  type ResetKind,
  type VendorCapability,
} from "../../../lib/emulation/mod.ts";
import { vfMac } from "../../../lib/emulation/virtio/net/mac_address.ts";
import { EmulatedMachine } from "../../../lib/emulation/machine.ts";
import type { ServedDoorbell } from "../../../lib/sockets/vfio_user/server/served_device.ts";

/** Where the doorbell of a scratch function is in BAR 0. */
export const DOORBELL_OFFSET = 0x100;
/** Writing here raises the vector that is written. */
export const RAISE_OFFSET = 0x200;
/** How often the doorbell was seen, in one byte. */
export const RINGS_OFFSET = 0x300;
/** Offset of `virtio_pci_cfg_cap` that the builder arrives at: after PM (8), MSI-X (12) and PCIe (60). */
export const WINDOW_CAPABILITY = 0x90;

export class ScratchBehaviour implements PciFunctionBehaviour {
  readonly identity: PciIdentity;
  readonly bars: readonly BarDeclaration[] = [
    { index: 0, sizeBytes: 4096, kind: "mem32", prefetchable: false },
    { index: 2, sizeBytes: 8192, kind: "mem64", prefetchable: true },
  ];
  readonly msix: MsixShape = {
    vectors: 4,
    table: { bar: 2, offset: 0x10 },
    pendingBits: { bar: 2, offset: 0x800 },
  };
  readonly interruptPin = 1;
  readonly vendorCapabilities: readonly VendorCapability[] = [
    { kind: "virtio", structure: "pciCfg" },
  ];
  readonly netInterface?: NetInterface;
  readonly options: BehaviourOptions;
  /** Everything that happened, in order. */
  readonly log: string[] = [];
  readonly registers: Record<number, Uint8Array> = { 0: new Uint8Array(4096), 2: new Uint8Array(8192) };
  port: PciFunctionPort | null = null;
  #doorbell: EventFd | null = null;
  work = 0;

  constructor(kind: string, options: BehaviourOptions) {
    this.options = options;
    const deviceId = kind === "virtio-rng" ? 0x1044 : 0x1041;
    this.identity = {
      vendorId: 0x1af4,
      deviceId,
      subsystemVendorId: 0x1af4,
      subsystemId: 0x1100,
      revision: 1,
      classCode: kind === "virtio-rng" ? 0x00ff00 : 0x020000,
    };
    const { mac, mtu = 1500, hostUse, vfIndex } = options as BehaviourOptions & NetFields;
    if (mac === undefined) return;
    this.netInterface = vfIndex === undefined
      ? { mac, mtu, ...(hostUse && { hostUse }) }
      : { mac: vfMac(mac, vfIndex), mtu };
  }

  connect(port: PciFunctionPort): void {
    this.port = port;
    this.#doorbell = new EventFd();
    this.log.push("connect");
  }

  close(): void {
    this.#doorbell?.close();
    this.#doorbell = null;
    this.log.push("close");
  }

  readBar(bar: number, offset: number, into: Uint8Array): void {
    into.set(this.registers[bar]!.subarray(offset, offset + into.byteLength));
  }

  writeBar(bar: number, offset: number, from: Uint8Array): void {
    this.registers[bar]!.set(from, offset);
    if (bar === 0 && offset === RAISE_OFFSET) this.port!.raiseMsix(from[0]!);
    if (bar === 0 && offset === DOORBELL_OFFSET) this.rang(0, DOORBELL_OFFSET);
  }

  doorbells(bar: number): readonly ServedDoorbell[] {
    return bar === 0 && this.#doorbell !== null
      ? [{ offset: DOORBELL_OFFSET, sizeBytes: 2, fd: this.#doorbell }]
      : [];
  }

  rang(bar: number, offset: number): void {
    this.log.push(`rang ${bar}:${offset}`);
    this.work++;
    this.registers[0]![RINGS_OFFSET]!++;
  }

  attached(): void {
    this.log.push(`attached dma=${this.port!.dma !== null}`);
  }

  dmaWillUnmap(iova: bigint, sizeBytes: number): void {
    this.log.push(`unmap ${iova}+${sizeBytes}`);
  }

  reset(kind: ResetKind): void {
    this.log.push(`reset ${kind}`);
    this.work = 0;
  }

  detached(): void {
    this.log.push(`detached dma=${this.port!.dma !== null}`);
  }

  busMasterChanged(enabled: boolean): void {
    this.log.push(`bus master ${enabled}`);
  }

  vfsEnabled(count: number): void {
    this.log.push(`vfs ${count}`);
  }

  poll(): number {
    const done = this.work;
    this.work = 0;
    if (done > 0) this.log.push(`poll ${done}`);
    return done;
  }

  arm(): boolean {
    return false;
  }
}

/** Makes scratch functions, whatever the kind, and keeps them by address. */
export class ScratchModels implements FunctionModels {
  readonly reports = {};
  readonly made = new Map<string, ScratchBehaviour>();

  createBehaviour(kind: string, options: BehaviourOptions): PciFunctionBehaviour {
    const behaviour = new ScratchBehaviour(kind, options);
    this.made.set(options.address, behaviour);
    return behaviour;
  }
}

/** A machine without sockets: PF 01:00.0 with four VFs and 02:00.0 without, both on virtio-pci unless said otherwise. */
export function scratchMachine(functions?: unknown[]): { machine: EmulatedMachine; models: ScratchModels } {
  const models = new ScratchModels();
  const topology = readTopology({
    functions: functions ?? [
      { address: "01:00.0", kind: "virtio-net", totalVfs: 4 },
      { address: "02:00.0", kind: "virtio-rng" },
    ],
  });
  return { machine: new EmulatedMachine({ topology, models }), models };
}
