/**
 * The virtio devices that an emulated host can have, by name.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { NotFoundError, UsageError } from "../../errors/mod.ts";
import { DEVICE_ID } from "../../virtio/spec/device_id.ts";
import { FEATURE_BIT, featureBit } from "../../virtio/spec/features.ts";
import type { DeviceModel } from "../device_model.ts";
import { AdminController } from "./admin/controller.ts";
import { ADMIN_FAMILY, isAdminLie, LyingAdminController } from "./lies/admin.ts";
import { BlkModel } from "./blk/model.ts";
import { ConsoleModel } from "./console/model.ts";
import type {
  BehaviourOptions,
  FunctionModels,
  PciFunctionBehaviour,
  SwitchPortState,
} from "../pci_function.ts";
import { IsmDomains } from "./ism/domain.ts";
import { IsmModel } from "./ism/model.ts";
import { type IsmDomainState, reportDomain } from "./ism/report.ts";
import { DEVICE_FAMILY, lyingView } from "./lies/device.ts";
import { parseLie } from "./lies/lie.ts";
import { NetModel } from "./net/model.ts";
import { COUNTER, type CounterName, NetSwitch, type SwitchOptions } from "./net/switch.ts";
import { PciView, type PciViewOptions } from "./views/pci/view.ts";
import { RngModel } from "./rng/model.ts";

const KINDS = ["virtio-net", "virtio-rng", "virtio-blk", "virtio-console", "virtio-ism"] as const;
type Kind = typeof KINDS[number];
const DEVICE_IDS: Readonly<Record<Kind, number>> = {
  "virtio-net": DEVICE_ID.net,
  "virtio-rng": DEVICE_ID.entropy,
  "virtio-blk": DEVICE_ID.block,
  "virtio-console": DEVICE_ID.console,
  "virtio-ism": DEVICE_ID.ism,
};
/** How the lies begin that a kind tells itself. */
const LIES_OF_KIND: Readonly<Partial<Record<Kind, string>>> = { "virtio-blk": "blk-", "virtio-ism": "ism-" };
const DEFAULT_SWITCH = "s0";

/** The virtio models of one machine. */
export interface VirtioModels extends FunctionModels {
  /** The switch of that name; undefined when no function is a port of it. */
  switchNamed(name: string): NetSwitch | undefined;
  /** Counters of a port by name, as plain data. @throws NotFoundError when the function is no port */
  portStats(address: string): Record<CounterName, number>;
  /** Plugs the cable of a network function in or out. @throws NotFoundError when the function is no port */
  setLink(address: string, up: boolean): void;
}

/** Makes the models of one machine. `options` are those of its switches. */
export function createVirtioModels(options: SwitchOptions = {}): VirtioModels {
  return new Models(options);
}

class Models implements VirtioModels {
  static {
    typedErrors(this);
  }

  readonly kinds: readonly string[] = KINDS;
  readonly #options: SwitchOptions;
  readonly #switches = new Map<string, NetSwitch>();
  readonly #ism = new IsmDomains();
  /** Of PFs, by what the machine knows them by. */
  readonly #controllers = new WeakMap<PciFunctionBehaviour, AdminController>();

  constructor(options: SwitchOptions) {
    this.#options = options;
  }

  createBehaviour(kind: string, options: BehaviourOptions): PciFunctionBehaviour {
    const known = KINDS.find((one) => one === kind);
    if (known === undefined) {
      throw new UsageError(`there is no device of kind ${JSON.stringify(kind)}`, {
        hint: `one of ${KINDS.join(", ")}`,
      });
    }
    const featuresOff = readFeatures(options.featuresOff ?? [], known, options);
    const featuresOn = readFeatures(options.featuresOn ?? [], known, options);
    const notificationData = 1n << BigInt(FEATURE_BIT.NOTIFICATION_DATA);
    if ((featuresOn & ~notificationData) !== 0n) {
      throw new UsageError(`${options.address}: only VIRTIO_F_NOTIFICATION_DATA can be switched on`);
    }
    const { lie, physicalFunction: pf, vfIndex } = options;
    const plan = lie === undefined || isAdminLie(lie) || isLieOf(known, lie)
      ? undefined
      : parseLie(lie, DEVICE_FAMILY);
    const admin = this.#controller(options);
    const place: PciViewOptions = {
      featuresOff,
      notificationData: featuresOn !== 0n,
      profile: options.profile,
      usedBatches: options.usedBatches,
      sriov: (options.totalVfs ?? 0) > 0 && vfIndex === undefined,
      admin,
      group: pf === undefined || vfIndex === undefined
        ? undefined
        : this.#controllers.get(pf)?.place(vfIndex),
      legacy: vfIndex !== undefined && (options.admin?.legacyVfs ?? false),
    };
    const model = this.#model(known, options, featuresOff);
    const behaviour = plan === undefined ? new PciView(model, place) : lyingView(model, place, plan);
    if (admin !== undefined) this.#controllers.set(behaviour, admin);
    return behaviour;
  }

  /** What answers the administration queues of a PF; undefined for one without, and for VFs. */
  #controller({ address, admin, lie, totalVfs, vfIndex }: BehaviourOptions): AdminController | undefined {
    if (vfIndex !== undefined) return undefined;
    const plan = lie !== undefined && isAdminLie(lie) ? parseLie(lie, ADMIN_FAMILY) : undefined;
    if (admin === undefined || admin.queues === 0) {
      if (plan === undefined) return undefined;
      throw new UsageError(`${address}: ${plan.lie} is a lie of administration queues, it has none`, {
        hint: "set adminQueues",
      });
    }
    const { queues, legacyVfs, legacyNotify } = admin;
    const of = { queues, totalVfs: totalVfs ?? 0, legacyVfs, legacyNotify };
    return plan === undefined ? new AdminController(of) : new LyingAdminController(of, plan);
  }

  #model(kind: Kind, options: BehaviourOptions, featuresOff: bigint): DeviceModel {
    const { address, queueSize, lie, directory, mac, mtu, queuePairs } = options;
    const all = { queueSize, featuresOff };
    const own = { ...all, lie: isLieOf(kind, lie) ? lie : undefined };
    switch (kind) {
      case "virtio-rng":
        return new RngModel(all);
      case "virtio-blk":
        return new BlkModel({ ...options.block, ...own });
      case "virtio-console":
        return new ConsoleModel({ ...options.console, ...all, directory });
      case "virtio-ism":
        return new IsmModel(this.#ism, { ...options.ism, ...own });
    }
    if (mac === undefined) throw new UsageError(`${address}: a virtio-net function needs a MAC address`);
    return new NetModel(this.#switch(options.switch ?? DEFAULT_SWITCH), { mac, mtu, queuePairs, ...all });
  }

  #switch(name: string): NetSwitch {
    let found = this.#switches.get(name);
    if (found === undefined) {
      found = new NetSwitch(name, this.#options);
      this.#switches.set(name, found);
    }
    return found;
  }

  switchNamed(name: string): NetSwitch | undefined {
    return this.#switches.get(name);
  }

  switchPorts(): readonly SwitchPortState[] {
    const states = [...this.#switches.values()].flatMap((one) =>
      one.ports.map((port) => portState(one, port as NetModel))
    );
    return states.sort((a, b) => a.function < b.function ? -1 : a.function > b.function ? 1 : 0);
  }

  ismDomains(): readonly IsmDomainState[] {
    return this.#ism.list.map(reportDomain);
  }

  portStats(address: string): Record<CounterName, number> {
    return this.#port(address).stats();
  }

  setLink(address: string, up: boolean): void {
    this.#port(address).setLink(up);
  }

  #port(address: string): NetModel {
    for (const one of this.#switches.values()) {
      for (const port of one.ports) if (port.name === address) return port as NetModel;
    }
    throw new NotFoundError(`${address} is no port of an embedded switch`);
  }
}

/** A lie that the kind's model tells. */
function isLieOf(kind: Kind, lie: string | undefined): boolean {
  const prefix = LIES_OF_KIND[kind];
  return prefix !== undefined && lie !== undefined && lie.startsWith(prefix);
}

function portState(net: NetSwitch, port: NetModel): SwitchPortState {
  const { counters } = port;
  return {
    switch: net.name,
    function: port.name,
    mac: port.mac,
    framesIn: counters[COUNTER.framesIn]!,
    framesOut: counters[COUNTER.framesOut]!,
    bytesIn: counters[COUNTER.bytesIn]!,
    bytesOut: counters[COUNTER.bytesOut]!,
    dropped: counters[COUNTER.noRoom]! + counters[COUNTER.tooLong]! + counters[COUNTER.notReceiving]!,
  };
}

function readFeatures(
  names: readonly string[],
  kind: Kind,
  { address, profile }: Pick<BehaviourOptions, "address" | "profile">,
): bigint {
  let features = 0n;
  for (const name of names) {
    const bit = featureBit(name, DEVICE_IDS[kind], profile);
    if (bit === undefined) throw new UsageError(`${address}: a ${kind} function has no feature ${name}`);
    features |= 1n << BigInt(bit);
  }
  return features;
}
