/**
 * The emulated machine: functions, their VFs, the kernel above them and the loop that keeps them going.
 *
 * @module
 */
import { processId } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { NotFoundError, UsageError } from "../errors/mod.ts";
import { busOf, PLATFORM, unitAddress } from "../vfio/bus.ts";
import type { EmulatedFunction } from "./emulated_function.ts";
import { EventDispatcher } from "./event_dispatcher.ts";
import { AnswerBudget } from "../sockets/answer_budget.ts";
import type { UnsealedFiles } from "../sockets/passed_memory.ts";
import type { MachineDeviceOptions } from "./machine_device.ts";
import { addReports, refusing } from "./machine_controls.ts";
import { MachineFunctions } from "./machine_functions.ts";
import { MachineLoop } from "./machine_loop.ts";
import { MachinePlatformDevice } from "./machine_platform_device.ts";
import type { DeviceMachine, MachineSocket } from "./machine_socket.ts";
import { MachineVhostUserDevice } from "./machine_vhost_user_device.ts";
import type { VhostUserBehaviour } from "./vhost_user_behaviour.ts";
import type { EmulatedPlatformDevice } from "./platform_device.ts";
import type { FunctionModels } from "./pci_function.ts";
import { SysfsServer } from "./sysfs_server.ts";
import { CONTROL_PROTOCOL_VERSION, CONTROL_SOCKET } from "../host/sysfs/control.ts";
import type { FunctionCounters } from "../virtio/view/queue_view.ts";
import type { FunctionTopology, Topology, VhostUserTopology } from "./function_topology.ts";
import { ViolationLog } from "./violation_log.ts";
import type { Violation } from "./device_model.ts";
import { VirtualKernel } from "./virtual_kernel.ts";

/** What a machine is made from. */
export interface MachineOptions {
  /** Its functions. */
  readonly topology: Topology;
  /** What stands behind them. */
  readonly models: FunctionModels;
  /** Directory of its sockets, which must exist; without it the machine has none, and is driven through its objects. */
  readonly directory?: string;
  /** What becomes of memory of users that they could truncate; default `copy`. */
  readonly clientMemory?: UnsealedFiles;
  /** How long all functions together wait for answers of their users; default: 500 ms, and half of the time. */
  readonly answers?: AnswerBudget;
  /** Told of each violation at once. */
  readonly onViolation?: (violation: Violation) => void;
}

/** The machine. `run` serves until `stop`; `step` does one round, for tests in one process. */
export class EmulatedMachine implements Disposable {
  static {
    typedErrors(this);
  }

  /** The kernel above the functions. */
  readonly kernel: VirtualKernel = new VirtualKernel();
  /** What drivers did against the standard. */
  readonly violations: ViolationLog;
  readonly #options: MachineOptions;
  readonly #events: EventDispatcher;
  readonly #answers: AnswerBudget;
  readonly #functions: MachineFunctions;
  readonly #platform = new Map<string, MachinePlatformDevice>();
  readonly #vhostUser = new Map<string, MachineVhostUserDevice>();
  readonly #loop: MachineLoop;
  readonly #around: DeviceMachine;
  #control: SysfsServer | null = null;
  #closed = false;

  /** Builds the functions, binds their drivers and opens the sockets. @throws what any of that throws, with nothing left behind */
  constructor(options: MachineOptions) {
    requireType(options, "object", "new EmulatedMachine: options", "topology", "models");
    requireType(options.topology, "object", "new EmulatedMachine: topology", "functions");
    requireType(options.topology.functions, "array", "new EmulatedMachine: topology.functions");
    requireType(options.models, "object", "new EmulatedMachine: models", "createBehaviour", "reports");
    this.#options = options;
    this.#answers = options.answers ?? new AnswerBudget(500);
    this.violations = new ViolationLog(options.onViolation);
    this.#events = new EventDispatcher();
    this.#loop = new MachineLoop(this.#events, this.violations, (nowMs) => {
      for (const fn of this.#all) fn.expire(nowMs);
    });
    this.#around = {
      events: this.#events,
      turns: this.#loop.turns,
      violation: (violation) => this.violations.add(violation),
    };
    this.#functions = new MachineFunctions({
      models: options.models,
      directory: options.directory,
      kernel: this.kernel,
      machine: this.#around,
      serving: (address) => this.#serving(address),
    });
    try {
      this.#addMachineAttributes();
      const groups = assignGroups(options.topology);
      for (const one of options.topology.functions) {
        const group = groups.get(one.address)!;
        if (busOf(one.address) === PLATFORM) this.#addPlatformDevice(one, group);
        else this.#functions.add(one, group);
      }
      for (const { address, driver } of options.topology.functions) {
        this.kernel.addFunction(this.#platform.get(address) ?? this.#functions.get(address), driver);
      }
      for (const one of options.topology.vhostUser ?? []) this.#addVhostUserDevice(one);
      if (options.directory !== undefined) {
        this.#control = new SysfsServer(
          `${options.directory}/${CONTROL_SOCKET}`,
          this.kernel.tree,
          this.#events,
        );
      }
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Addresses of all functions that are there now, VFs included. */
  get addresses(): string[] {
    return this.kernel.addresses;
  }

  /** A PCI function's registers and interrupts, by full address. @throws NotFoundError */
  device(address: string): EmulatedFunction {
    return this.#functions.get(address).device;
  }

  /** A platform device's registers and interrupts, by its name. @throws NotFoundError */
  platformDevice(name: string): EmulatedPlatformDevice {
    const found = this.#platform.get(name);
    if (found === undefined) throw new NotFoundError(`the emulated machine has no platform device ${name}`);
    return found.device;
  }

  /** A vhost-user device's behaviour, by what the machine calls it: `vhost-user:net0`. @throws NotFoundError */
  vhostUserDevice(address: string): VhostUserBehaviour {
    const found = this.#vhostUser.get(address);
    if (found === undefined) throw new NotFoundError(`the emulated machine has no device ${address}`);
    return found.device.behaviour;
  }

  /** A PCI function is gone at once, whoever drives it, and its VFs with it: a user's connection ends. @throws NotFoundError */
  unplug(address: string): void {
    this.#functions.unplug(address);
  }

  /** A PCI function that was pulled out is there again, as at the start, and is probed by the kernel. @throws NotFoundError, UsageError */
  plug(address: string): void {
    this.#functions.plug(address);
  }

  /** Whether a user could open the function now, on whatever bus it is. @throws NotFoundError */
  offered(address: string): boolean {
    return (this.#platform.get(address) ?? this.#functions.get(address)).offered;
  }

  /** One round without waiting: what is ready is served, what is pending is done. @returns how much that was; 0: idle */
  step(): number {
    return this.#loop.step();
  }

  /** Serves until `stop`, then closes. */
  async run(): Promise<void> {
    try {
      await this.#loop.run();
    } finally {
      this.close();
      await this.#events.settled;
    }
  }

  /** Ends `run` in an orderly way. May be called from anywhere, any number of times. */
  stop(): void {
    this.#loop.stop();
  }

  /** Lets all clients go, removes the sockets, takes everything down. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#loop.stop();
    this.#control?.close();
    for (const fn of this.#all.reverse()) fn.close();
    this.#functions.clear();
    this.#platform.clear();
    this.#vhostUser.clear();
    this.#events.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  get #all(): MachineSocket[] {
    return [...this.#functions.all, ...this.#platform.values(), ...this.#vhostUser.values()];
  }

  #addPlatformDevice(topology: FunctionTopology, iommuGroup: number): void {
    const { kind, address, numaNode } = topology;
    const { models, directory } = this.#options;
    if (models.createPlatformBehaviour === undefined) {
      throw new UsageError(`${address}: the models of this machine make no platform devices`);
    }
    const behaviour = models.createPlatformBehaviour(kind, { ...topology, directory });
    using opened = new DisposableStack();
    opened.defer(() => behaviour.close());
    const windowAddress = unitAddress(address) ?? 0n;
    if (windowAddress + BigInt(behaviour.windowBytes) > 1n << 64n) {
      throw new UsageError(
        `${address}: its ${behaviour.windowBytes} bytes of registers would end past address 2^64`,
        {
          hint: "name it after a lower address",
        },
      );
    }
    const place = { address, behaviour, iommuGroup, numaNode, windowAddress };
    const fn = new MachinePlatformDevice({ ...place, ...this.#serving(address) }, this.#around);
    this.#platform.set(address, fn);
    addReports(this.kernel.tree, fn);
    opened.move();
  }

  #addVhostUserDevice({ address, kind, socket, connect, ...own }: VhostUserTopology): void {
    const { models, directory, clientMemory: unsealed } = this.#options;
    if (models.createVhostUserBehaviour === undefined) {
      throw new UsageError(`${address}: the models of this machine make no vhost-user devices`);
    }
    const behaviour = models.createVhostUserBehaviour(kind, { ...own, address, directory });
    using opened = new DisposableStack();
    opened.defer(() => behaviour.close());
    // A machine without a directory is driven through its objects.
    const socketPath = directory === undefined ? undefined : socket;
    const place = { address, socketPath, connects: connect };
    const device = new MachineVhostUserDevice({ ...place, behaviour, unsealed }, this.#around);
    this.#vhostUser.set(address, device);
    opened.move();
    addReports(this.kernel.tree, device);
    device.offer();
  }

  #counters(): FunctionCounters[] {
    const devices = [...this.#functions.all, ...this.#platform.values()].map((one) => one.device);
    const served = devices.map(({ name, behaviour, interrupts }) => ({
      function: name,
      queues: behaviour.queueCounters?.() ?? [],
      vectors: Object.fromEntries(Array.from(interrupts.signals).entries().filter(([, count]) => count > 0)),
      line: interrupts.line.signals,
    }));
    const others = [...this.#vhostUser.values()].map(({ address, device: { behaviour } }) => ({
      function: address,
      queues: behaviour.queueCounters?.() ?? [],
      vectors: {},
      line: 0,
    }));
    return [...served, ...others];
  }

  #serving(address: string): Pick<MachineDeviceOptions, "socketPath" | "serving"> {
    const { directory, clientMemory } = this.#options;
    if (directory === undefined) return {};
    const socketPath = `${directory}/${address}.sock`;
    return { socketPath, serving: { answers: this.#answers, unsealed: clientMemory } };
  }

  #addMachineAttributes(): void {
    const { tree } = this.kernel;
    tree.constant("/ringside/version", `${CONTROL_PROTOCOL_VERSION}\n`);
    tree.constant("/ringside/pid", `${processId()}\n`);
    tree.attribute("/ringside/violations", {
      read: () => this.violations.toText(),
      write: (text, fail) => {
        if (text.trim() !== "clear") fail("EINVAL", 'write "clear" to forget them');
        this.violations.clear();
      },
    });
    for (const [name, report] of Object.entries(this.#options.models.reports)) {
      tree.attribute(`/ringside/${name}`, {
        read: () => report().map((one) => `${JSON.stringify(one)}\n`).join(""),
      });
    }
    tree.attribute("/ringside/plug", {
      write: (text, fail) => {
        let value: unknown;
        try {
          value = JSON.parse(text);
        } catch {
          return fail("EINVAL", "write a function as JSON, as a topology has it");
        }
        refusing(fail, () => this.#functions.plugNew(value));
      },
    });
    tree.attribute("/ringside/counters", {
      read: () => this.#counters().map((one) => `${JSON.stringify(one)}\n`).join(""),
    });
    tree.attribute("/ringside/stop", { write: () => this.stop() });
  }
}

/** Groups that the topology names, and for the other functions the lowest that nobody names. */
function assignGroups(topology: Topology): Map<string, number> {
  const groups = new Map<string, number>();
  const taken = new Set(topology.functions.flatMap((one) => one.iommuGroup ?? []));
  let next = 0;
  for (const one of topology.functions) {
    let group = one.iommuGroup;
    if (group === undefined) {
      while (taken.has(next)) next++;
      group = next;
      taken.add(group);
    }
    groups.set(one.address, group);
  }
  return groups;
}
