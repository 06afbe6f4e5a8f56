/**
 * Devices that break the standard on purpose, one rule at a time: what drivers are tested against.
 *
 * Nothing here is on the path of an honest device: a lie is another queue class, or a layer around the registers, and a function has
 * one only when its topology asks for it (`lie`).
 *
 * @module
 */
import type { FunctionQueues } from "../../../virtio/constants/queue_view.ts";
import { UsageError } from "../../../errors/mod.ts";
import { COMMON_CFG, COMMON_CFG_BYTES } from "../../../virtio/constants/pci.ts";
import { DESC_FLAG } from "../../../virtio/constants/ring.ts";
import { STATUS } from "../../../virtio/constants/status.ts";
import type { ServedDoorbell, ServedMapping } from "../../../vfio/vfio_user/served_device.ts";
import type {
  BarDeclaration,
  MsixDeclaration,
  PciFunctionBehaviour,
  PciFunctionPort,
  PciIdentity,
  ResetKind,
  VendorCapability,
} from "../../pci_function.ts";
import type { Chain } from "../queue/chain.ts";
import type { DeviceQueue, DeviceQueueOwner, DeviceQueueSetup } from "../queue/device_queue.ts";
import { COMMON_AT, frontCapabilities, STRUCTURES_BAR } from "../views/pci/layout.ts";
import type { VirtioPciFront } from "../views/pci/view.ts";
import { PackedDeviceQueue } from "../queue/packed.ts";
import { SplitDeviceQueue } from "../queue/split.ts";

/** Lies that a queue of either layout tells, once each unless told otherwise. */
export const QUEUE_LIES = [
  /** `used.id` is not below the queue's size. */
  "used-id-out-of-range",
  /** `used.len` is one more than the buffer's device-writable bytes. */
  "used-length-over",
  /** A chain is returned twice. */
  "used-twice",
  /** A chain is returned that the driver did not give (the next id). */
  "used-not-in-flight",
  /** `used.idx` moves by more than the queue's size. Packed: the used descriptor is written one slot too far. */
  "used-index-jump",
  /** `used.idx` moves back by one. Packed: the next used descriptor is written over this one. */
  "used-index-back",
] as const;

/** Lies that only a packed ring can tell; a split one keeps silent. */
export const PACKED_LIES = [
  /** A used descriptor has AVAIL and USED of the round before, as if it had not been used. */
  "used-wrap-wrong",
  /** A used descriptor has USED of this round and AVAIL of the other: neither used nor available. */
  "used-flags-mixed",
  /** After a chain of several descriptors the next used one comes a slot too early, as if the chain had been shorter. */
  "used-skip-short",
  /** The next used descriptor comes a slot too late, as if the chain had been longer. */
  "used-skip-long",
] as const;

/** Lies that registers tell; the reset lie once, the others always, unless told otherwise. */
export const REGISTER_LIES = [
  /** `config_generation` differs at every read. */
  "generation-never-settles",
  /** After a write of 0, `device_status` goes on reading as before, until 0 is written again. */
  "reset-never-finishes",
  /** FEATURES_OK does not stay set. */
  "features-ok-refused",
  /** `queue_size` reads 0: the queue does not exist. */
  "queue-size-zero",
  /** `queue_size` reads 3, which is no power of two. */
  "queue-size-odd",
  /** `queue_enable` reads 0 after 1 was written. */
  "queue-enable-ignored",
  /** Every MSI-X vector is refused. */
  "vector-refused",
  /** `queue_notify_off` leads past the end of the notify structure. */
  "doorbell-past-structure",
  /** The notify structure lies outside its BAR. */
  "doorbell-out-of-bar",
  /** VERSION_1 is not offered. */
  "version-1-missing",
] as const;

/** Name of a lie. */
export type Lie = typeof QUEUE_LIES[number] | typeof PACKED_LIES[number] | typeof REGISTER_LIES[number];

/** All names, for messages and help. */
export const LIES: readonly Lie[] = [...QUEUE_LIES, ...PACKED_LIES, ...REGISTER_LIES];

/** A lie, when it begins, and how often it is told. */
export interface LiePlan {
  /** Which. */
  readonly lie: Lie;
  /** So many occasions pass honestly first: returned chains, or reads of the register. */
  readonly after: number;
  /** So many occasions are lied about; then the device is honest. */
  readonly times: number;
}

/**
 * Reads `name`, `name:after` or `name:after:times`, such as `used-twice:100`.
 * @throws UsageError for an unknown name or a number that cannot be
 */
export function parseLie(text: string): LiePlan {
  const [name, after = "0", times, ...rest] = text.split(":");
  const lie = LIES.find((one) => one === name);
  if (lie === undefined || rest.length > 0) {
    throw new UsageError(`${JSON.stringify(text)} is not a lie that a device can tell`, {
      hint: `one of ${LIES.join(", ")}; then optionally :after:times`,
    });
  }
  const once = isQueueLie(lie) || lie === "reset-never-finishes";
  return {
    lie,
    after: count(text, after),
    times: times === undefined ? (once ? 1 : Infinity) : count(text, times),
  };
}

function count(text: string, number: string): number {
  if (!/^[0-9]{1,9}$/.test(number)) {
    throw new UsageError(`lie ${JSON.stringify(text)}: ${number} is not a count`);
  }
  return Number(number);
}

function isQueueLie(lie: Lie): boolean {
  return ([...QUEUE_LIES, ...PACKED_LIES] as readonly string[]).includes(lie);
}

/** Counts occasions. One is shared by all queues of a function, and lives through its resets. */
class Occasions {
  readonly lie: Lie;
  #before: number;
  #left: number;

  constructor(plan: LiePlan) {
    this.lie = plan.lie;
    this.#before = plan.after;
    this.#left = plan.times;
  }

  /** @returns whether to lie this time */
  take(): boolean {
    if (this.#before > 0) {
      this.#before--;
      return false;
    }
    if (this.#left <= 0) return false;
    this.#left--;
    return true;
  }
}

/**
 * The queues of a lying function, for `PciFrontOptions.makeQueue`; undefined when the lie is one of registers.
 */
export function lyingQueues(
  plan: LiePlan,
): ((setup: DeviceQueueSetup, owner: DeviceQueueOwner) => DeviceQueue) | undefined {
  if (!isQueueLie(plan.lie)) return undefined;
  const occasions = new Occasions(plan);
  return (setup, owner) =>
    setup.layout === "packed"
      ? new LyingPackedQueue(setup, owner, occasions)
      : new LyingDeviceQueue(setup, owner, occasions);
}

/** A split ring whose used ring is not to be believed. */
class LyingDeviceQueue extends SplitDeviceQueue {
  readonly #occasions: Occasions;
  readonly #writable: Float64Array;

  constructor(setup: DeviceQueueSetup, owner: DeviceQueueOwner, occasions: Occasions) {
    super(setup, owner);
    this.#occasions = occasions;
    this.#writable = new Float64Array(setup.size);
  }

  override pop(into: Chain): number {
    const id = super.pop(into);
    if (id >= 0) this.#writable[id] = into.writableBytes;
    return id;
  }

  protected override writeUsed(id: number, lengthBytes: number, chains = 1): void {
    const { lie } = this.#occasions;
    if ((PACKED_LIES as readonly string[]).includes(lie) || !this.#occasions.take()) {
      super.writeUsed(id, lengthBytes, chains);
      return;
    }
    switch (lie) {
      case "used-id-out-of-range":
        super.writeUsed(this.size, lengthBytes);
        return;
      case "used-length-over":
        super.writeUsed(id, this.#writable[id]! + 1);
        return;
      case "used-twice":
        super.writeUsed(id, lengthBytes);
        super.writeUsed(id, lengthBytes);
        return;
      case "used-not-in-flight":
        super.writeUsed((id + this.size / 2) % this.size, lengthBytes);
        return;
      case "used-index-jump":
        super.writeUsed(id, lengthBytes);
        this.skipUsed(this.size);
        return;
      default:
        this.skipUsed(-1);
    }
  }
}

/** A packed ring whose used descriptors are not to be believed. */
class LyingPackedQueue extends PackedDeviceQueue {
  readonly #occasions: Occasions;
  /** Device-writable bytes by id. */
  readonly #writable = new Float64Array(65536);

  constructor(setup: DeviceQueueSetup, owner: DeviceQueueOwner, occasions: Occasions) {
    super(setup, owner);
    this.#occasions = occasions;
  }

  override pop(into: Chain): number {
    const id = super.pop(into);
    if (id >= 0) this.#writable[id] = into.writableBytes;
    return id;
  }

  protected override writeUsed(id: number, lengthBytes: number, slots: number): void {
    const { lie } = this.#occasions;
    // A chain of one descriptor cannot be made shorter: the lie waits for a longer one.
    if ((lie === "used-skip-short" && slots === 1) || !this.#occasions.take()) {
      super.writeUsed(id, lengthBytes, slots);
      return;
    }
    switch (lie) {
      case "used-id-out-of-range":
        super.writeUsed(this.size, lengthBytes, slots);
        return;
      case "used-length-over":
        super.writeUsed(id, this.#writable[id]! + 1, slots);
        return;
      case "used-twice":
        super.writeUsed(id, lengthBytes, slots);
        super.writeUsed(id, lengthBytes, slots);
        return;
      case "used-not-in-flight":
        super.writeUsed((id + (this.size >> 1)) % this.size, lengthBytes, slots);
        return;
      case "used-index-jump":
        this.skipUsed(1);
        super.writeUsed(id, lengthBytes, slots);
        return;
      case "used-index-back":
        super.writeUsed(id, lengthBytes, slots);
        this.skipUsed(-slots);
        return;
      case "used-wrap-wrong":
        super.writeUsed(id, lengthBytes, slots, DESC_FLAG.avail | DESC_FLAG.used);
        return;
      case "used-flags-mixed":
        super.writeUsed(id, lengthBytes, slots, DESC_FLAG.avail);
        return;
      case "used-skip-short":
        super.writeUsed(id, lengthBytes, slots - 1);
        return;
      default:
        super.writeUsed(id, lengthBytes, slots);
        this.skipUsed(1);
    }
  }
}

/** Doorbells of a function, those of administration queues included: it has a vector for each, and one for its configuration. */
function doorbellCount(front: VirtioPciFront): number {
  return front.msix.vectors - 1;
}

/** A function whose registers lie: the honest front, and this around its BAR accesses. */
export class LyingFront implements PciFunctionBehaviour {
  /** The honest function inside. */
  readonly front: VirtioPciFront;
  readonly identity: PciIdentity;
  readonly bars: readonly BarDeclaration[];
  readonly msix: MsixDeclaration;
  readonly interruptPin = 1;
  readonly vendorCapabilities: readonly VendorCapability[];
  readonly netInterface?: { readonly mac: string; readonly mtu: number };
  readonly #lie: Lie;
  readonly #occasions: Occasions;
  /** Status that a reset which never finishes shows. */
  #stuck = 0;
  #generation = 0;
  #featureSelect = 0;

  /** Around an honest front. @throws UsageError for a lie that is one of queues */
  constructor(front: VirtioPciFront, plan: LiePlan) {
    if (isQueueLie(plan.lie)) throw new UsageError(`${plan.lie} is a lie of queues`);
    this.front = front;
    this.#lie = plan.lie;
    this.#occasions = new Occasions(plan);
    this.identity = front.identity;
    this.bars = front.bars;
    this.msix = front.msix;
    this.vendorCapabilities = front.vendorCapabilities;
    if (front.netInterface !== undefined) this.netInterface = front.netInterface;
    if (plan.lie === "doorbell-out-of-bar") {
      const { configSizeBytes } = front.model;
      const bar = front.bars.find((one) => one.index === STRUCTURES_BAR)!;
      this.vendorCapabilities = frontCapabilities(
        doorbellCount(front),
        configSizeBytes,
        bar.sizeBytes,
        front.profile === "spec" ? COMMON_CFG_BYTES.all : COMMON_CFG_BYTES.queueState,
      );
    }
  }

  /** Reads from a BAR, as the standard has it. */
  readBar(bar: number, offset: number, into: Uint8Array): void {
    this.front.readBar(bar, offset, into);
    if (bar !== STRUCTURES_BAR) return;
    const at = offset - COMMON_AT;
    switch (this.#lie) {
      case "generation-never-settles":
        if (at === COMMON_CFG.config_generation.offset && this.#occasions.take()) {
          into[0] = ++this.#generation;
        }
        return;
      case "reset-never-finishes":
        if (at === COMMON_CFG.device_status.offset && this.#stuck !== 0) into[0] = this.#stuck;
        return;
      case "features-ok-refused":
        if (
          at === COMMON_CFG.device_status.offset && (into[0]! & STATUS.featuresOk) !== 0 &&
          this.#occasions.take()
        ) into[0] = into[0]! & ~STATUS.featuresOk;
        return;
      case "queue-size-zero":
        if (at === COMMON_CFG.queue_size.offset && this.#occasions.take()) into.fill(0);
        return;
      case "queue-size-odd":
        if (at === COMMON_CFG.queue_size.offset && this.#occasions.take()) {
          into.set([3, 0].slice(0, into.length));
        }
        return;
      case "queue-enable-ignored":
        if (at === COMMON_CFG.queue_enable.offset && this.#occasions.take()) into.fill(0);
        return;
      case "vector-refused":
        if (
          (at === COMMON_CFG.queue_msix_vector.offset || at === COMMON_CFG.config_msix_vector.offset) &&
          this.#occasions.take()
        ) into.fill(0xff);
        return;
      case "doorbell-past-structure":
        // The notify structure has one doorbell a queue, so this one is just past the last.
        if (at === COMMON_CFG.queue_notify_off.offset && this.#occasions.take()) {
          const past = doorbellCount(this.front);
          into.set([past & 0xff, past >> 8]);
        }
        return;
      case "version-1-missing":
        if (at === COMMON_CFG.device_feature.offset && this.#featureSelect === 1 && this.#occasions.take()) {
          into[0] = into[0]! & ~1;
        }
        return;
      default:
    }
  }

  /** Writes to a BAR, as the standard has it. */
  writeBar(bar: number, offset: number, from: Uint8Array): void {
    const at = bar === STRUCTURES_BAR ? offset - COMMON_AT : -1;
    if (at === COMMON_CFG.device_feature_select.offset) this.#featureSelect = from[0]!;
    if (at === COMMON_CFG.device_status.offset && this.#lie === "reset-never-finishes") {
      // Not the reset of a device that nobody has touched: it would have no status to go on showing.
      const before = this.front.status;
      this.#stuck = from[0] === 0 && before !== 0 && this.#stuck === 0 && this.#occasions.take() ? before : 0;
    }
    this.front.writeBar(bar, offset, from);
  }

  /** Takes its place; called once. */
  connect(port: PciFunctionPort): void {
    this.front.connect(port);
  }
  /** Lets go of everything; may be called again. */
  close(): void {
    this.front.close();
  }
  /** Eventfds that stand for notifications. */
  doorbells(bar: number): readonly ServedDoorbell[] {
    // A doorbell that cannot be reached by its register is not to be had as eventfd either.
    return this.#lie.startsWith("doorbell-") ? [] : this.front.doorbells(bar);
  }
  /** A doorbell eventfd was rung. */
  rang(bar: number, offset: number): void {
    this.front.rang(bar, offset);
  }
  /** As the honest front. */
  get keepsDmaFiles(): boolean {
    return this.front.keepsDmaFiles;
  }
  /** As the honest front. */
  mapArea(bar: number, offset: number, sizeBytes: number, writable: boolean): ServedMapping | undefined {
    return this.front.mapArea(bar, offset, sizeBytes, writable);
  }
  /** A client is there. */
  attached(): void {
    this.front.attached();
  }
  /** A mapping goes away. */
  dmaWillUnmap(iova: bigint, sizeBytes: number): void {
    this.front.dmaWillUnmap(iova, sizeBytes);
  }
  /** Forgets everything of the driver. */
  reset(kind: ResetKind): void {
    this.#stuck = 0;
    this.front.reset(kind);
  }
  /** The client is gone. */
  detached(): void {
    this.front.detached();
  }
  /** As it is inside. */
  queueReport(): FunctionQueues {
    return this.front.queueReport();
  }
  /** NumVFs took effect. */
  vfsEnabled(count: number): void {
    this.front.vfsEnabled(count);
  }
  /** Works, at most `budget` buffers. @returns how many were moved */
  poll(budget: number): number {
    return this.front.poll(budget);
  }
  /** Asks for notifications. @returns true when work is there already */
  arm(): boolean {
    return this.front.arm();
  }
  /** How long to sleep at most; undefined: until something rings. */
  get wakeAfterMs(): number | undefined {
    return this.front.wakeAfterMs;
  }
}
