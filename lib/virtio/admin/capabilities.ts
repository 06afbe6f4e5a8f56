/**
 * Capabilities of an owner: what its device can do, and how much of that the driver uses (virtio 1.4 §2.12.1.3; reference 3.6).
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import { UnsupportedError, UsageError } from "../../errors/mod.ts";
import { ADMIN_CAP, adminCapName, DEV_PARTS_CAP } from "../spec/admin.ts";
import { capGetCall, capListCall, capSetCall } from "./calls.ts";
import type { AdminGroup } from "./group.ts";

/** How many DEV_PARTS objects of each kind there may be. */
export interface PartsLimits {
  /** Objects for reading parts. */
  readonly get: number;
  /** Objects for writing parts. */
  readonly set: number;
}

const LIST_BYTES = 64;
const LIST_BYTES_MAX = 8192;
/** Room for a capability; the only one with a layout has 2 bytes. */
const CAP_BYTES = 248;

/** Commands of the self group. They outlive resets, which make the device forget what was set. */
export class AdminCapabilities {
  static {
    typedErrors(this);
  }

  readonly #group: AdminGroup;
  #limits: Promise<PartsLimits> | null = null;
  #objects = 0;

  /** Sends nothing. @param group self */
  constructor(group: AdminGroup) {
    this.#group = group;
  }

  /** Ids of the capabilities that the device has, ascending. @throws as `AdminGroup.run` */
  async list(): Promise<number[]> {
    for (let bytes = LIST_BYTES;; bytes *= 2) {
      const { ids, full } = await this.#group.run(capListCall(bytes));
      if (!full || bytes >= LIST_BYTES_MAX) return ids;
    }
  }

  /** A capability's bytes as the device gives them: padded, or cut to 248. @throws AdminCommandError (ENXIO: none with this id), and as `AdminGroup.run` */
  get(id: number): Promise<Uint8Array<ArrayBuffer>> {
    return this.#group.run(capGetCall(id, CAP_BYTES));
  }

  /**
   * Tells the device how much of a capability the driver uses.
   * @throws UsageError (VIRTIO_DEV_PARTS_CAP beyond the device's limits, or while there are objects), and as `get`
   */
  async set(id: number, bytes: Uint8Array): Promise<void> {
    if (id !== ADMIN_CAP.DEV_PARTS) return await this.#group.run(capSetCall(id, bytes));
    if (bytes.length < DEV_PARTS_CAP.sizeBytes) {
      throw new UsageError(`${adminCapName(id)} of ${bytes.length} bytes`, {
        hint: `${DEV_PARTS_CAP.sizeBytes} bytes: limits of objects to get and to set`,
      });
    }
    if (this.#objects > 0) {
      throw new UsageError(`${this.#group.name}: ${adminCapName(id)} set while objects exist`, {
        hint: "destroy them first",
      });
    }
    const setting = this.#set(toLimits(bytes));
    this.#limits = setting;
    await this.#orForget(setting);
  }

  /** Limits of DEV_PARTS objects that the device offers. @throws as `get` */
  async partsLimits(): Promise<PartsLimits> {
    const bytes = new Uint8Array(DEV_PARTS_CAP.sizeBytes);
    const given = await this.get(ADMIN_CAP.DEV_PARTS);
    bytes.set(given.subarray(0, bytes.length));
    return toLimits(bytes);
  }

  /**
   * Limits that are in force, after CAP_ID_LIST_QUERY, DEVICE_CAP_GET and DRIVER_CAP_SET with all that the device offers, unless that was done since
   * the owner's reset.
   * @throws UnsupportedError (no VIRTIO_DEV_PARTS_CAP), and as `get`
   */
  async useParts(): Promise<PartsLimits> {
    return await this.#orForget(this.#limits ??= this.#negotiate());
  }

  /** An object was created (1) or destroyed (−1). */
  countObjects(change: 1 | -1): void {
    this.#objects += change;
  }

  /** The owner was reset: its objects are gone, and nothing is set. */
  forget(): void {
    this.#limits = null;
    this.#objects = 0;
  }

  async #negotiate(): Promise<PartsLimits> {
    const ids = await this.list();
    if (!ids.includes(ADMIN_CAP.DEV_PARTS)) {
      throw new UnsupportedError(`${this.#group.name} has no ${adminCapName(ADMIN_CAP.DEV_PARTS)}`);
    }
    return await this.#set(await this.partsLimits(), true);
  }

  async #set(limits: PartsLimits, checked = false): Promise<PartsLimits> {
    if (!checked) {
      const offered = await this.partsLimits();
      if (limits.get > offered.get || limits.set > offered.set) {
        throw new UsageError(
          `${this.#group.name}: ${limits.get} and ${limits.set} objects, the device has ${offered.get} and ${offered.set}`,
        );
      }
    }
    const bytes = DEV_PARTS_CAP.encode({
      get_parts_resource_objects_limit: limits.get,
      set_parts_resource_objects_limit: limits.set,
    });
    await this.#group.run(capSetCall(ADMIN_CAP.DEV_PARTS, bytes));
    return limits;
  }

  async #orForget(limits: Promise<PartsLimits>): Promise<PartsLimits> {
    try {
      return await limits;
    } catch (error) {
      if (this.#limits === limits) this.#limits = null;
      throw error;
    }
  }
}

function toLimits(bytes: Uint8Array): PartsLimits {
  const caps = DEV_PARTS_CAP.decode(bytes);
  return { get: caps.get_parts_resource_objects_limit, set: caps.set_parts_resource_objects_limit };
}
