/**
 * The virtio devices that an emulated host can have, by name.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { NotFoundError, UsageError } from "../../errors/mod.ts";
import { registerDeviceType } from "../../virtio/spec/device_types.ts";
import { FEATURE, featureBit, type Profile } from "../../virtio/spec/features.ts";
import { type DeviceControls, either } from "../device_control.ts";
import type { DeviceKind, KindDevices, MachineModels, ManagedWish, ModelPlace } from "../device_kind.ts";
import type { DeviceModel } from "../device_model.ts";
import type { BehaviourOptions, FunctionModels, PciFunctionBehaviour } from "../pci_function.ts";
import type { PlatformBehaviour } from "../platform_behaviour.ts";
import type { VhostUserBehaviour } from "../vhost_user_behaviour.ts";
import { modelFields } from "../topology.ts";
import { type FieldSchemas, read, record } from "../topology_fields.ts";
import { AdminController } from "./admin/controller.ts";
import { VIRTIO_KINDS } from "./kinds.ts";
import { ADMIN_FAMILY, LyingAdminController } from "./lies/admin.ts";
import { DEVICE_FAMILY, lyingView } from "./lies/device.ts";
import { type LieFamily, LieSwitch, parseLie } from "./lies/lie.ts";
import { lyingMmioView, MMIO_FAMILY } from "./lies/mmio.ts";
import { MMIO_PROFILES, type MmioViewOptions } from "./views/mmio/options.ts";
import { MmioView } from "./views/mmio/view.ts";
import { PciView, type PciViewOptions } from "./views/pci/view.ts";
import { VhostUserView } from "./views/vhost_user/view.ts";

/** The virtio models of one machine. */
export interface VirtioModels extends FunctionModels {
  /** Kinds that `createBehaviour` knows. */
  readonly kinds: readonly DeviceKind[];
  /** What the machine's devices of one kind share. @throws NotFoundError for a kind that was not given to `createVirtioModels` */
  of<Devices>(kind: { readonly name: string; devices(models: MachineModels): Devices }): Devices;
}

/** Makes the models of one machine. `kinds` are known by their names in this process from then on, as `registerDeviceType` has it. */
export function createVirtioModels(kinds: readonly DeviceKind[] = VIRTIO_KINDS): VirtioModels {
  return new Models(kinds);
}

class Models implements VirtioModels, MachineModels {
  static {
    typedErrors(this);
  }

  readonly kinds: readonly DeviceKind[];
  readonly reports: Readonly<Record<string, () => readonly object[]>>;
  readonly #devices: ReadonlyMap<string, KindDevices<object>>;
  /** Of PFs, by what the machine knows them by. */
  readonly #controllers = new WeakMap<PciFunctionBehaviour, AdminController>();

  constructor(kinds: readonly DeviceKind[]) {
    this.kinds = kinds;
    for (const { type } of kinds) registerDeviceType(type);
    this.#devices = new Map(kinds.map((kind) => [kind.name, kind.devices(this)]));
    this.reports = Object.assign({}, ...[...this.#devices.values()].map(({ reports }) => reports));
  }

  of<Devices>({ name }: { readonly name: string; devices(models: MachineModels): Devices }): Devices {
    const found = this.#devices.get(name);
    if (found === undefined) throw new NotFoundError(`there are no devices of kind ${name}`);
    return found as Devices;
  }

  createBehaviour(name: string, options: BehaviourOptions): PciFunctionBehaviour {
    const kind = this.#kind(name);
    const { lie, physicalFunction: pf, vfIndex } = options;
    const profile = options.profile ?? kind.profile;
    const offers = readOffers(options, kind, profile);
    const liar = liarOf(lie, [kind.lies, ADMIN_FAMILY, DEVICE_FAMILY]);
    const told = switchOf(lie, liar);
    const admin = this.#controller(options, liar === ADMIN_FAMILY ? lie : undefined, told);
    const view: PciViewOptions = {
      ...offers,
      controls: lieControls(told),
      profile,
      usedBatches: options.usedBatches,
      quirks: options.quirks,
      sriov: (options.totalVfs ?? 0) > 0 && vfIndex === undefined,
      admin,
      group: pf === undefined || vfIndex === undefined
        ? undefined
        : this.#controllers.get(pf)?.place(vfIndex),
      legacy: vfIndex !== undefined && (options.admin?.legacyVfs ?? false),
    };
    const model = this.#model(kind, options, { ...offers, lie: liar === kind.lies ? lie : undefined, told });
    const behaviour = liar === DEVICE_FAMILY
      ? lyingView(model, view, parseLie(lie!, DEVICE_FAMILY, told))
      : new PciView(model, view);
    if (admin !== undefined) this.#controllers.set(behaviour, admin);
    return behaviour;
  }

  createPlatformBehaviour(name: string, options: BehaviourOptions): PlatformBehaviour {
    const kind = this.#kind(name);
    const { address, lie, usedBatches, quirks, mmio = { form: "modern" } } = options;
    if (kind.pciOnly !== undefined) {
      throw new UsageError(`${address}: a ${name} cannot be a platform device: ${kind.pciOnly}`);
    }
    const offers = readOffers(options, kind, MMIO_PROFILES[mmio.form]);
    const liar = liarOf(lie, [kind.lies, MMIO_FAMILY, DEVICE_FAMILY]);
    const told = switchOf(lie, liar);
    const model = this.#model(kind, options, { ...offers, lie: liar === kind.lies ? lie : undefined, told });
    const view: MmioViewOptions = { ...offers, mmio, usedBatches, quirks, controls: lieControls(told) };
    try {
      return liar === MMIO_FAMILY
        ? lyingMmioView(model, view, parseLie(lie!, MMIO_FAMILY, told))
        : liar === DEVICE_FAMILY
        ? lyingMmioView(model, view, parseLie(lie!, DEVICE_FAMILY, told))
        : new MmioView(model, view);
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      throw new UsageError(`${address}: ${error.message}`, { hint: error.hint, cause: error });
    }
  }

  createVhostUserBehaviour(name: string, options: BehaviourOptions): VhostUserBehaviour {
    const kind = this.#kind(name);
    const { address, lie, usedBatches } = options;
    if (kind.pciOnly !== undefined) {
      throw new UsageError(`${address}: a ${name} cannot be behind a vhost-user socket: ${kind.pciOnly}`);
    }
    const { featuresOff } = readOffers(options, kind, undefined);
    const told = switchOf(lie, liarOf(lie, [kind.lies]));
    try {
      const model = this.#model(kind, options, { featuresOff, lie, told });
      return new VhostUserView(model, { featuresOff, usedBatches, controls: lieControls(told) });
    } catch (error) {
      if (!(error instanceof UsageError)) throw error;
      throw new UsageError(`${address}: ${error.message}`, { hint: error.hint, cause: error });
    }
  }

  #kind(name: string): DeviceKind {
    const kind = this.kinds.find((one) => one.name === name);
    if (kind !== undefined) return kind;
    throw new UsageError(`there is no device of kind ${JSON.stringify(name)}`, {
      hint: `one of ${this.kinds.map((one) => one.name).join(", ")}`,
    });
  }

  #model(
    kind: DeviceKind,
    options: BehaviourOptions,
    { featuresOff, lie, told }: Pick<ModelPlace, "featuresOff" | "lie" | "told">,
  ): DeviceModel {
    const { address, vfIndex, directory } = options;
    const { queueSize, ...own } = readOwn(kind, options);
    kind.check?.(own, { at: address, address, totalVfs: options.totalVfs ?? 0 });
    const place = { address, vfIndex, directory, queueSize, featuresOff, lie, told };
    return this.#devices.get(kind.name)!.model(own, place);
  }

  managed(wish: ManagedWish, place: ModelPlace): DeviceModel | undefined {
    const kind = this.kinds.find(({ type }) => type.id === wish.type);
    if (kind?.managed === undefined) return undefined;
    const own = read(record(kind.fields as FieldSchemas, ""), kind.managed(wish), place.address);
    kind.check?.(own, { at: place.address, address: place.address, totalVfs: 0 });
    return this.#devices.get(kind.name)!.model(own, place);
  }

  /** What answers the administration queues of a PF; undefined for one without, and for VFs. */
  #controller(
    { address, admin, totalVfs = 0, vfIndex }: BehaviourOptions,
    lie: string | undefined,
    told: LieSwitch | undefined,
  ): AdminController | undefined {
    if (vfIndex !== undefined) return undefined;
    const plan = lie === undefined ? undefined : parseLie(lie, ADMIN_FAMILY, told);
    if (admin === undefined || admin.queues === 0) {
      if (plan === undefined) return undefined;
      throw new UsageError(`${address}: ${plan.lie} is a lie of administration queues, it has none`, {
        hint: "set adminQueues",
      });
    }
    const of = { ...admin, totalVfs };
    return plan === undefined ? new AdminController(of) : new LyingAdminController(of, plan);
  }
}

/** The kind's own fields, and its queues' size. */
function readOwn(kind: DeviceKind, options: BehaviourOptions): { queueSize?: number | undefined } {
  const fields = modelFields(kind);
  const given = Object.entries(options).filter(([name]) => Object.hasOwn(fields, name));
  return read(record(fields, ""), Object.fromEntries(given), options.address);
}

/** The family that a lie belongs to, by its prefix. */
function liarOf<Family extends LieFamily<string>>(
  lie: string | undefined,
  families: readonly (Family | undefined)[],
): Family | undefined {
  return families.find((one) => lie?.startsWith(one?.prefix ?? "?"));
}

/** By which its lie is turned off and on; undefined when there is nothing to turn. */
function switchOf(lie: string | undefined, liar: LieFamily<string> | undefined): LieSwitch | undefined {
  const name = lie?.split(/[:@]/)[0];
  return name === undefined || liar?.fixed?.includes(name) ? undefined : new LieSwitch();
}

function lieControls(told: LieSwitch | undefined): DeviceControls | undefined {
  return told && { lie: either(["on", "off"], () => told.on, (on) => told.turn(on)) };
}

/** What a device offers otherwise than by default. @throws UsageError */
function readOffers(
  { address, ...options }: BehaviourOptions,
  kind: DeviceKind,
  profile: Profile | undefined,
): { readonly featuresOff: bigint; readonly notificationData: boolean } {
  const featuresOn = readFeatures(options.featuresOn, kind, address, profile);
  if ((featuresOn & ~FEATURE.NOTIFICATION_DATA) !== 0n) {
    throw new UsageError(`${address}: only VIRTIO_F_NOTIFICATION_DATA can be switched on`);
  }
  const featuresOff = readFeatures(options.featuresOff, kind, address, profile);
  return { featuresOff, notificationData: featuresOn !== 0n };
}

function readFeatures(
  names: readonly string[] = [],
  kind: DeviceKind,
  address: string,
  profile: Profile | undefined,
): bigint {
  let features = 0n;
  for (const name of names) {
    const bit = featureBit(name, kind.type.id, profile);
    if (bit === undefined) throw new UsageError(`${address}: a ${kind.name} function has no feature ${name}`);
    features |= 1n << BigInt(bit);
  }
  return features;
}
