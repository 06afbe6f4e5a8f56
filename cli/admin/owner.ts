/**
 * What the `admin` commands share: a PF opened for its administration queues, and the VF that a command is about.
 *
 * @module
 */
import { VirtioAdmin } from "../../drivers/admin/virtio_admin.ts";
import { NotFoundError, UnsupportedError } from "../../lib/errors/mod.ts";
import type { FunctionInfo, Host } from "../../lib/host/mod.ts";
import { openTransport } from "../../lib/virtio/mod.ts";
import { openOptions, transportOptions } from "../opening.ts";
import type { Of } from "../parser.ts";

/** Options of every `admin` command. */
export type AdminOptions = Pick<
  Of<"admin list">,
  "function" | "interrupts" | "path" | "vfToken" | "unsafe" | "assumeAccessPlatform" | "trace" | "json"
>;

/** Opens a PF for nothing but its administration queues; `stack` closes it with all below it. */
export async function openOwner(
  host: Host,
  options: AdminOptions,
  stack: AsyncDisposableStack,
): Promise<{ readonly owner: VirtioAdmin; readonly info: FunctionInfo }> {
  const info = host.describe(options.function);
  if (info.sriov === undefined) {
    const of = info.physicalFunction;
    throw new UnsupportedError(`${info.address} has no SR-IOV capability`, {
      hint: of === undefined ? "a PF administers its VFs" : `it is a VF: its PF is ${of}`,
    });
  }
  const device = stack.use(host.open(info.address, openOptions(options)));
  const transport = stack.use(openTransport(device, transportOptions(device, options)));
  const owner = stack.use(
    await VirtioAdmin.open(transport, {
      interrupts: options.interrupts,
      lists: "lazy",
      vfCount: () => host.describe(info.address).sriov?.numVfs ?? 0,
      memberName: (vf) => info.sriov?.vfs[vf] ?? `VF ${vf}`,
    }),
  );
  return { owner, info };
}

/** Address of a VF of a PF. @throws NotFoundError when it is not enabled */
export function vfAddress({ address, sriov }: FunctionInfo, vf: number): string {
  const found = sriov?.vfs[vf];
  if (found !== undefined) return found;
  const count = sriov?.numVfs ?? 0;
  throw new NotFoundError(
    `${address} has no VF ${vf}: ${count === 0 ? "none are" : `${count} are`} enabled`,
    {
      hint: count === 0 ? `ringside sriov ${address} N enables some` : `--vf takes 0 to ${count - 1}`,
    },
  );
}
