/**
 * PCI functions of the machine: how they come, at the start or later, their VFs, and how they go.
 *
 * @module
 */
import { typedErrors } from "../errors/doors.ts";
import { NotFoundError, UsageError } from "../errors/mod.ts";
import type { SriovShape } from "../pci/capability_builder.ts";
import { busOf, PCI } from "../vfio/bus.ts";
import { BusAddresses } from "./bus_addresses.ts";
import { either } from "./device_control.ts";
import type { AssignedBar } from "./function_config.ts";
import type { FunctionTopology } from "./function_topology.ts";
import { addControls, addReports, functionControls, removeReports } from "./machine_controls.ts";
import type { MachineDeviceOptions } from "./machine_device.ts";
import {
  MachineFunction,
  type MachineFunctionOptions,
  type MachineSurroundings,
} from "./machine_function.ts";
import type { DeviceMachine } from "./machine_socket.ts";
import type { BehaviourOptions, FunctionModels, PciFunctionBehaviour } from "./pci_function.ts";
import { readFunction, vfAddress } from "./topology.ts";
import type { VirtualKernel } from "./virtual_kernel.ts";

/** What they are in. */
export interface FunctionsPlace {
  /** What stands behind them. */
  readonly models: FunctionModels;
  /** Directory of the machine's sockets; undefined: it has none. */
  readonly directory: string | undefined;
  /** The kernel above them. */
  readonly kernel: VirtualKernel;
  /** Where they say what happens to them. */
  readonly machine: DeviceMachine;
  /** How one is served. */
  serving(address: string): Pick<MachineDeviceOptions, "socketPath" | "serving">;
}

/** A PCI function as the topology describes it, with what its VFs need. */
interface Slot {
  readonly topology: FunctionTopology;
  readonly fn: MachineFunction;
  readonly bars: readonly AssignedBar[];
  /** VF BARs of VF 0; those of the others follow. */
  readonly vfBars: readonly AssignedBar[];
}

/** See the module. */
export class MachineFunctions {
  static {
    typedErrors(this);
  }

  readonly #place: FunctionsPlace;
  readonly #around: MachineSurroundings;
  readonly #addresses = new BusAddresses();
  readonly #slots = new Map<string, Slot>();
  readonly #functions = new Map<string, MachineFunction>();

  /** None yet. */
  constructor(place: FunctionsPlace) {
    this.#place = place;
    this.#around = {
      ...place.machine,
      vfsAppear: (pf, count) => this.#addVfs(pf, count),
      vfsDisappear: (pf) => this.#removeVfs(pf),
      vfTokens: (address) => place.kernel.vfTokens(address),
      vfsReset: (pf) => {
        for (const vf of this.get(pf).vfs) this.get(vf).device.resetByHost();
      },
    };
  }

  /** Those that are there now, VFs included. */
  get all(): MachineFunction[] {
    return [...this.#functions.values()];
  }

  /** One that is there. @throws NotFoundError */
  get(address: string): MachineFunction {
    const fn = this.#functions.get(address);
    if (fn === undefined) throw new NotFoundError(`the emulated machine has no function ${address}`);
    return fn;
  }

  /** A function is gone at once, whoever drives it, and its VFs with it: a user's connection ends. @throws NotFoundError */
  unplug(address: string): void {
    if (!this.#slots.has(address)) throw new NotFoundError(`there is no PCI function ${address} to pull out`);
    const fn = this.get(address);
    this.#removeVfs(address);
    this.#remove(address, fn);
    this.#addPresence(address);
  }

  /** A function that was pulled out is there again, as at the start, and is probed by the kernel. @throws NotFoundError, UsageError */
  plug(address: string): void {
    const slot = this.#slots.get(address);
    if (slot === undefined) throw new NotFoundError(`no PCI function ${address} was pulled out here`);
    if (this.#functions.has(address)) throw new UsageError(`${address} is there already`);
    this.#plug(slot.topology, slot);
  }

  /** A new PCI function comes, as a topology has it, and is probed by the kernel. @throws TopologyError, UsageError, ExhaustedError, SyscallError */
  plugNew(value: unknown): void {
    // Those that were pulled out keep their places, since they may come back; a new one may take that of the same address.
    const all = [...this.#slots.values()].map(({ topology }) => topology);
    const given = typeof value === "object" && value !== null && "address" in value
      ? value.address
      : undefined;
    const away = (one: string) => !this.#functions.has(one) && one === given;
    const topology = readFunction(
      value,
      all.filter(({ address }) => !away(address)),
      this.#place.models.kinds,
    );
    if (busOf(topology.address) !== PCI) {
      throw new UsageError(`${topology.address}: only PCI functions can be plugged in`);
    }
    this.#plug(topology);
  }

  #plug(topology: FunctionTopology, before?: Slot): void {
    const group = topology.iommuGroup ?? this.#place.kernel.freeGroup();
    const fn = this.add(topology, group, before);
    try {
      this.#place.kernel.addFunction(fn);
    } catch (error) {
      this.#remove(topology.address, fn);
      this.#addPresence(topology.address);
      throw error;
    }
  }

  /** Forgets them: they are closed. */
  clear(): void {
    this.#functions.clear();
    this.#slots.clear();
  }

  /**
   * Makes one, of which the kernel does not know yet.
   * @param before the same function, as it was: where its BARs were they are again
   */
  add(topology: FunctionTopology, iommuGroup: number, before?: Slot): MachineFunction {
    const { totalVfs, address } = topology;
    const sriov = totalVfs === 0 ? undefined : this.#sriovShape(topology);
    let bars = before?.bars ?? [], vfBars = before?.vfBars ?? [];
    const fn = this.#make(topology, (behaviour) => {
      if (before === undefined) {
        bars = this.#addresses.assign(behaviour.bars);
        if (sriov !== undefined) vfBars = this.#addresses.assign(sriov.vfBars, sriov.totalVfs);
      } else {
        // Of a new behaviour: their addresses alone are the old ones.
        bars = bars.map((one, i) => ({ ...one, bar: behaviour.bars[i]! }));
      }
      return { bars, vfBars, iommuGroup, sriov };
    });
    this.#slots.set(address, { topology, fn, bars, vfBars });
    this.#addPresence(address);
    return fn;
  }

  /** A function with its behaviour, which is closed when there is none. */
  #make(
    options: BehaviourOptions & FunctionTopology,
    shape: (
      behaviour: PciFunctionBehaviour,
    ) => Omit<MachineFunctionOptions, "address" | "behaviour" | "numaNode">,
  ): MachineFunction {
    const { kind, address, numaNode } = options;
    const behaviour = this.#place.models.createBehaviour(kind, {
      ...options,
      directory: this.#place.directory,
    });
    using opened = new DisposableStack();
    opened.defer(() => behaviour.close());
    const place = { address, behaviour, numaNode, ...this.#place.serving(address) };
    const fn = new MachineFunction({ ...place, ...shape(behaviour) }, this.#around);
    this.#functions.set(address, fn);
    addReports(this.#place.kernel.tree, fn);
    addControls(this.#place.kernel.tree, address, functionControls(fn.device));
    opened.move();
    return fn;
  }

  /** All VFs of a PF are alike, so one that is never connected shows what they will be. */
  #sriovShape(topology: FunctionTopology): SriovShape {
    const sample = this.#place.models.createBehaviour(topology.kind, {
      ...vfOptions(topology, 0),
      directory: this.#place.directory,
    });
    try {
      const { totalVfs, firstVfOffset, vfStride } = topology;
      return { totalVfs, firstVfOffset, vfStride, vfDeviceId: sample.identity.deviceId, vfBars: sample.bars };
    } finally {
      sample.close();
    }
  }

  #addVfs(address: string, count: number): void {
    const slot = this.#slots.get(address)!;
    // Removal on failure goes by this list, so it is filled first: a VF that was not reached yet is not there to be removed.
    for (let index = 0; index < count; index++) slot.fn.vfs.push(vfAddress(slot.topology, index));
    try {
      for (let index = 0; index < count; index++) this.#addVf(slot, index);
    } catch (error) {
      this.#removeVfs(address);
      throw error;
    }
  }

  #addVf({ topology, fn: pf, vfBars }: Slot, vfIndex: number): void {
    const bars = vfBars.map(({ bar, address: first }) => ({
      bar,
      address: first + BigInt(vfIndex * bar.sizeBytes),
    }));
    const options = { ...vfOptions(topology, vfIndex), physicalFunction: pf.device.behaviour };
    const shape = () => ({ bars, isVf: true, pf, vfIndex, iommuGroup: this.#place.kernel.freeGroup() });
    this.#place.kernel.addFunction(this.#make(options, shape));
  }

  #removeVfs(address: string): void {
    const { vfs } = this.get(address);
    for (let index = vfs.length - 1; index >= 0; index--) {
      const vf = vfs[index]!;
      this.#remove(vf, this.#functions.get(vf));
    }
    vfs.length = 0;
  }

  #remove(address: string, fn: MachineFunction | undefined): void {
    this.#place.kernel.removeFunction(address);
    removeReports(this.#place.kernel.tree, address);
    fn?.close();
    this.#functions.delete(address);
  }

  /** It stays while the function is away: by it that is plugged in again. */
  #addPresence(address: string): void {
    const there = () => this.#functions.has(address);
    const present = either(["yes", "no"], there, (wanted) => {
      if (wanted === there()) return;
      if (wanted) this.plug(address);
      else this.unplug(address);
    });
    addControls(this.#place.kernel.tree, address, { present });
  }
}

function vfOptions(topology: FunctionTopology, index: number): BehaviourOptions & FunctionTopology {
  return { ...topology, address: vfAddress(topology, index), vfIndex: index, totalVfs: 0 };
}
