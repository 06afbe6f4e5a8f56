/**
 * Driver of an owner device (a PF) that uses nothing of it but its administration queues, whatever its device type is (virtio 1.4 §2.12, §2.13).
 *
 * A PF that is to carry traffic as well is opened by the driver of its type: `VirtioNet.open(transport, { admin: true })` has the same as `net.admin`.
 *
 * ```ts
 * import { VirtioAdmin } from "@ringside/ringside/drivers/virtio-admin";
 *
 * await using pf = await VirtioAdmin.open(transport); // of the PF
 * const vf = pf.member(3); // VF 3, also while somebody else drives it
 * console.log(vf.legacy.readCommon(18, 1)); // its legacy device_status
 * await vf.setMode(true); // stopped
 * const parts = await vf.saveParts();
 * ```
 *
 * @module
 */
import { typedErrors } from "../../lib/errors/doors.ts";
import type { AdminCapabilities } from "../../lib/virtio/admin/capabilities.ts";
import type { AdminGroup } from "../../lib/virtio/admin/group.ts";
import type { AdminMember } from "../../lib/virtio/admin/member.ts";
import { adminQueueNumbers, GroupOwner, type GroupOwnerOptions } from "../../lib/virtio/admin/owner.ts";
import type { AdminQueues } from "../../lib/virtio/admin/queues.ts";
import { FEATURE } from "../../lib/virtio/spec/features.ts";
import type { VirtioTransport } from "../../lib/virtio/transport/transport.ts";
import { VirtioDriver } from "../driver.ts";
import { type DriverKind, DriverLife, type DriverParts } from "../driver_life.ts";
import type { DriverOptions } from "../driver_options.ts";
import type { Session } from "../session.ts";
import { buildAdminQueues } from "./session.ts";

export {
  AdminCommandError,
  adminGroupName,
  AdminTimeoutError,
  describeAdminCommand,
} from "../../lib/virtio/admin/error.ts";
export type { AdminCommandPlace } from "../../lib/virtio/admin/error.ts";
export type { GroupOwner } from "../../lib/virtio/admin/owner.ts";
export type { GroupOwnerOptions } from "../../lib/virtio/admin/owner.ts";
export type { AdminGroup } from "../../lib/virtio/admin/group.ts";
export type { AdminCallOptions, AdminGroupName, AdminNowOptions } from "../../lib/virtio/admin/group.ts";
export type { AdminMember } from "../../lib/virtio/admin/member.ts";
export type { AdminCapabilities } from "../../lib/virtio/admin/capabilities.ts";
export type { PartsLimits } from "../../lib/virtio/admin/capabilities.ts";
export type { AsyncLegacyRegisters } from "../../lib/virtio/admin/legacy_registers.ts";
export type { MemberName } from "../../lib/virtio/admin/member_context.ts";
export {
  ADMIN_CAP,
  ADMIN_GROUP,
  ADMIN_OPCODE,
  ADMIN_QUALIFIER,
  ADMIN_STATUS,
  adminOpcodeName,
  type AdminQualifierName,
  type AdminStatusName,
} from "../../lib/virtio/spec/admin.ts";
export {
  describeParts,
  type DevicePartView,
  loadParts,
  type SavedParts,
  saveParts,
} from "../../lib/virtio/admin/device_part_text.ts";
export type { PartsObject } from "../../lib/virtio/admin/parts_object.ts";
export type { PartsObjectKind } from "../../lib/virtio/admin/calls.ts";
export type { AdminQueues } from "../../lib/virtio/admin/queues.ts";
export type { AdminStatistics } from "../../lib/virtio/admin/queues.ts";
export type { CommandCounts } from "../../lib/virtio/control/engine.ts";
export type { AdminQueueOptions } from "../../lib/virtio/admin/options.ts";
export type { AdminCommand, AdminReply } from "../../lib/virtio/admin/frame.ts";
export type {
  LegacyNotifyArea,
  LegacyRegisterAccess,
  LegacyWidth,
} from "../../lib/virtio/admin/legacy_access.ts";
export type { DevicePart, DevicePartHeader } from "../../lib/virtio/spec/device_parts.ts";
export type { RingOptions } from "../../lib/virtio/features.ts";
export type { InterruptChoice } from "../../lib/virtio/interrupts.ts";
export type { InterruptKind, VirtioTransport } from "../../lib/virtio/transport/transport.ts";
export type { WaitMode } from "../../lib/wait/waiter.ts";
export type { VirtioDriver } from "../driver.ts";
export type { DriverOptions } from "../driver_options.ts";

/** How to open an owner. */
export interface VirtioAdminOptions extends GroupOwnerOptions, DriverOptions {}

const KIND: DriverKind = { what: "owner device" };

interface AdminParts extends DriverParts {
  readonly queues: AdminQueues;
}

/**
 * An opened owner. Errors as `GroupOwner` has them; after a `DeviceError` that is no `AdminCommandError`, `reset()` brings the device back.
 */
export class VirtioAdmin extends VirtioDriver {
  static {
    typedErrors(this);
  }

  /** Its groups. Outlives resets. */
  readonly admin: GroupOwner;
  readonly #life: DriverLife<AdminParts>;

  private constructor(life: DriverLife<AdminParts>, admin: GroupOwner) {
    super(life);
    this.#life = life;
    this.admin = admin;
  }

  /**
   * Resets the device, negotiates ADMIN_VQ, sets its administration queues up, starts it, and sends LIST_QUERY and LIST_USE (option `lists`). After a
   * `reset` LIST_USE is sent again with what was in use; the device forgets capabilities and resource objects.
   * @throws UnsupportedError (no administration queue), AdminCommandError, DeviceError, TimeoutError, UsageError, ExhaustedError, SyscallError
   */
  static async open(transport: VirtioTransport, options: VirtioAdminOptions = {}): Promise<VirtioAdmin> {
    const admin = new GroupOwner(transport.name, options);
    const life = new DriverLife(transport, KIND, options, (session) => build(session, admin, options));
    return await life.open(new VirtioAdmin(life, admin));
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

  /** Numbers of the administration queues in use. */
  get queueNumbers(): number[] {
    return this.#life.live.queues.indices;
  }
}

function build(session: Session, admin: GroupOwner, options: VirtioAdminOptions): AdminParts {
  const { device } = session;
  const numbers = adminQueueNumbers(device.transport, options.adminQueues);
  session.negotiate({ required: FEATURE.ADMIN_VQ });
  session.listen(numbers);
  const queues = buildAdminQueues(session, numbers, options);
  device.driverOk();
  admin.attach(queues);
  return { queues, configChanged: () => device.checkAlive(), begin: () => admin.begin() };
}
