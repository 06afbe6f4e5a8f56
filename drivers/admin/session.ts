/**
 * The administration queues of a session: a driver's own, or beside the queues of its device type.
 *
 * @module
 */
import { COMMAND_PARTS } from "../../lib/virtio/control/lane.ts";
import type { GroupOwnerOptions } from "../../lib/virtio/admin/owner.ts";
import { AdminQueues } from "../../lib/virtio/admin/queues.ts";
import type { Session } from "../session.ts";

const DEFAULT_DEPTH = 32;

/**
 * Sets administration queues up and closes them with the session; after `Session.listen`, before DRIVER_OK.
 * @param numbers as `adminQueueNumbers` @throws as `VirtioDevice.createQueue` and `AdminQueues`
 */
export function buildAdminQueues(
  session: Session,
  numbers: readonly number[],
  options: GroupOwnerOptions,
): AdminQueues {
  const size = COMMAND_PARTS * (options.depth ?? DEFAULT_DEPTH);
  const queues = numbers.map((index) => session.queue(index, size, COMMAND_PARTS));
  return session.own(
    new AdminQueues({
      ...session.site,
      queues,
      vfMigrationCapable: session.device.transport.vfMigrationCapable,
    }, options),
  );
}
