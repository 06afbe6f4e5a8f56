/**
 * An owner that is opened over a fake device, which holds all commands but LIST_QUERY and LIST_USE until the test releases them.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { VirtioAdmin, type VirtioAdminOptions } from "../../../../drivers/admin/virtio_admin.ts";
import { FakeOwner, standardAnswer } from "./fake_owner.ts";

/** Opcodes of an open. */
export const LISTS = [0, 1, 0, 1];
/** A command of the SR-IOV group without data. */
export const RAW = { opcode: 0x11, groupType: 1 };

/** An opened owner whose LIST commands are answered; all else is held. */
export async function opened(
  options: VirtioAdminOptions & { lanes?: number; vectors?: number; features?: bigint; size?: number } = {},
) {
  const { lanes = 1, vectors, features, size, ...rest } = options;
  const device = new FakeOwner(
    (command) => command.opcode <= 1 ? standardAnswer(command) : undefined,
    {
      lanes,
      ...(vectors === undefined ? {} : { vectors }),
      ...(features === undefined ? {} : { features }),
      ...(size === undefined ? {} : { size }),
    },
  );
  device.interrupts = vectors !== undefined;
  const pf = await VirtioAdmin.open(device.transport, rest);
  device.seen.length = 0;
  return {
    device,
    pf,
    members: () => device.held.map(({ command }) => Number(command.memberId)),
    [Symbol.asyncDispose]: async () => {
      pf.close();
      await pf.settled;
      assertEquals(device.transport.iommu.mapped.length, 0, "DMA memory is given back");
      device.transport.close();
    },
  };
}

/** Lets whatever is due happen. */
export async function turns(count = 20): Promise<void> {
  for (let i = 0; i < count; i++) await Promise.resolve();
}
