/**
 * Driver of an owner device (a PF) that uses nothing of it but its administration queues, whatever its device type is (virtio 1.4 §2.12, §2.13).
 *
 * A PF that is to carry traffic as well is opened by the driver of its type: `VirtioNet.open(transport, { admin: true })` has the same as `net.admin`.
 *
 * @module
 */
import { typedErrors } from "../lib/errors/doors.ts";
import type { AdminCapabilities } from "../lib/virtio/admin/capabilities.ts";
import type { AdminGroup } from "../lib/virtio/admin/group.ts";
import type { AdminMember } from "../lib/virtio/admin/member.ts";
import { adminQueueNumbers, GroupOwner, type GroupOwnerOptions } from "../lib/virtio/admin/owner.ts";
import type { AdminQueues } from "../lib/virtio/admin/queues.ts";
import { FEATURE } from "../lib/virtio/constants/features.ts";
import { featureNames, refusedRingFeatures, type RingOptions } from "../lib/virtio/features.ts";
import type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
import { type Session, SessionOwner, type WaitOptions } from "./session_owner.ts";
import { buildAdminQueues } from "./virtio_admin/session.ts";

export {
  AdminCommandError,
  adminGroupName,
  AdminTimeoutError,
  describeAdminCommand,
} from "../lib/virtio/admin/error.ts";
export type { AdminCommandPlace } from "../lib/virtio/admin/error.ts";
export type { GroupOwner } from "../lib/virtio/admin/owner.ts";
export type { GroupOwnerOptions } from "../lib/virtio/admin/owner.ts";
export type { AdminGroup } from "../lib/virtio/admin/group.ts";
export type { AdminCallOptions, AdminGroupName, AdminNowOptions } from "../lib/virtio/admin/group.ts";
export type { AdminMember } from "../lib/virtio/admin/member.ts";
export type { AdminCapabilities } from "../lib/virtio/admin/capabilities.ts";
export type { PartsLimits } from "../lib/virtio/admin/capabilities.ts";
export type { PartsObject } from "../lib/virtio/admin/parts_object.ts";
export type { PartsObjectKind } from "../lib/virtio/admin/calls.ts";
export type { AdminQueues } from "../lib/virtio/admin/queues.ts";
export type { AdminStatistics } from "../lib/virtio/admin/queues.ts";
export type { AdminQueueOptions } from "../lib/virtio/admin/options.ts";
export type { AdminCommand, AdminReply } from "../lib/virtio/admin/frame.ts";
export type {
  LegacyNotifyArea,
  LegacyRegisterAccess,
  LegacyWidth,
} from "../lib/virtio/admin/legacy_access.ts";
export type { DevicePart, DevicePartHeader } from "../lib/virtio/constants/device_parts.ts";
export type { RingOptions } from "../lib/virtio/features.ts";
export type { InterruptChoice } from "../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../lib/virtio/transport/transport.ts";
export type { WaitMode } from "../lib/virtio/waiter.ts";
export type { WaitOptions } from "./session_owner.ts";

/** How to open an owner. Ring features are accepted when offered, unless turned off (`RingOptions`). */
export interface VirtioAdminOptions extends GroupOwnerOptions, RingOptions, WaitOptions {}

/**
 * An opened owner. Errors as `GroupOwner` has them; after a `DeviceError` that is no `AdminCommandError`, `reset()` brings the device back.
 */
export class VirtioAdmin implements Disposable, AsyncDisposable {
  static {
    typedErrors(this);
  }

  /** How the function is reached; stays the caller's. */
  readonly transport: VirtioTransport;
  /** Its groups. Outlives resets. */
  readonly admin: GroupOwner;
  readonly #owner: SessionOwner<AdminQueues>;
  readonly #options: VirtioAdminOptions;

  private constructor(transport: VirtioTransport, options: VirtioAdminOptions) {
    this.transport = transport;
    this.#options = options;
    this.#owner = new SessionOwner(transport, "owner device", options.resetTimeoutMs);
    this.admin = new GroupOwner(transport.name, options);
  }

  /**
   * Resets the device, negotiates ADMIN_VQ, sets its administration queues up, starts it, and sends LIST_QUERY and LIST_USE (option `lists`).
   * @throws UnsupportedError (no administration queue), AdminCommandError, DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static async open(transport: VirtioTransport, options: VirtioAdminOptions = {}): Promise<VirtioAdmin> {
    const owner = new VirtioAdmin(transport, options);
    try {
      await owner.#start();
      return owner;
    } catch (error) {
      owner.close();
      await owner.settled;
      throw error;
    }
  }

  /** The device's own group. */
  get self(): AdminGroup {
    return this.admin.self;
  }

  /** Its VFs. */
  get sriov(): AdminGroup {
    return this.admin.sriov;
  }

  /** What the device can do, and how much of it is used. */
  get capabilities(): AdminCapabilities {
    return this.admin.capabilities;
  }

  /** A VF by its index, from 0. */
  member(vf: number): AdminMember {
    return this.admin.member(vf);
  }

  /** Features in force. */
  get features(): bigint {
    return this.#owner.device.features;
  }

  /** Names of the features in force, lowest bit first. */
  get featureNames(): string[] {
    return featureNames(this.features, this.transport.deviceId, this.transport.profile);
  }

  /** Numbers of the administration queues in use. */
  get queueNumbers(): number[] {
    return this.#owner.live.indices;
  }

  /** Kind of interrupt in use. */
  get interruptKind(): InterruptKind {
    return this.#owner.interruptKind;
  }

  /** Interrupts that were taken so far. */
  get interrupts(): number {
    return this.#owner.interrupts;
  }

  /** True after `close`. */
  get closed(): boolean {
    return this.#owner.closed;
  }

  /**
   * Resets the device and brings it up again; LIST_USE is sent again with what was in use. Commands under way end with `ClosedError`, what they did is
   * not known; the device forgets capabilities and resource objects.
   * @throws as `open`; the device is then stopped, and `reset` may be tried again
   */
  reset(): Promise<void> {
    return this.#owner.reset(() => this.#start());
  }

  /** Resets the device and frees its queues. The transport stays open. `settled` resolves when interrupted waits are over. */
  close(): void {
    this.#owner.close();
  }

  /** Resolves when nothing of the waits that `close` or `reset` interrupted is left. */
  get settled(): Promise<void> {
    return this.#owner.settled;
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** `close`, and waits until interrupted waits are over. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
    await this.settled;
  }

  async #start(): Promise<void> {
    const queues = this.#owner.start((session) => this.#build(session));
    this.admin.attach(queues);
    try {
      await this.admin.begin();
    } catch (error) {
      // What overtook it may be another reset, with a session of its own.
      if (this.#owner.isLive(queues)) this.#owner.stop();
      await this.#owner.settled;
      throw error;
    }
  }

  #build(session: Session): AdminQueues {
    const { device } = session;
    const { transport } = device;
    const numbers = adminQueueNumbers(transport, this.#options.adminQueues);
    device.negotiate({
      required: FEATURE.ADMIN_VQ,
      refused: refusedRingFeatures(this.#options, transport.profile),
    });
    session.listen(this.#options, numbers, () => device.checkAlive());
    const queues = buildAdminQueues(session, numbers, this.#options);
    device.driverOk();
    return queues;
  }
}
