/**
 * What the `admin` commands share: a PF opened for its administration queues, and the VF that a command is about.
 *
 * @module
 */
import { type AdminMember, VirtioAdmin } from "../../drivers/admin/virtio_admin.ts";
import { NotFoundError, UnsupportedError } from "../../lib/errors/mod.ts";
import type { FunctionInfo, Host } from "../../lib/host/mod.ts";
import { virtioTypeOf } from "../../lib/pci/virtio_ids.ts";
import type { Of } from "../parser.ts";
import { reach, type Reaching } from "../reaching.ts";

/** Opens a PF for nothing but its administration queues; `stack` closes it with all below it. */
export async function openOwner(
  host: Host,
  options: Reaching & Pick<Of<"admin list">, "interrupts">,
  stack: AsyncDisposableStack,
): Promise<{ readonly owner: VirtioAdmin; readonly info: FunctionInfo }> {
  const info = host.describe(options.function);
  if (info.bus !== "pci") {
    throw new UnsupportedError(`${info.address} is a ${info.bus} device, which has no VFs to administer`, {
      hint: "a PCI function with SR-IOV administers its VFs: ringside list --sriov",
    });
  }
  if (info.sriov === undefined) {
    const of = info.physicalFunction;
    throw new UnsupportedError(`${info.address} has no SR-IOV capability`, {
      hint: of === undefined ? "a PF administers its VFs" : `it is a VF: its PF is ${of}`,
    });
  }
  const transport = await reach(host, options, stack, info.address);
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

/** A VF that a command is about. */
export interface OpenedMember {
  readonly owner: VirtioAdmin;
  readonly pf: string;
  readonly address: string;
  readonly deviceId: number;
  readonly member: AdminMember;
  /** What begins each answer in JSON. */
  readonly about: { readonly function: string; readonly vf: number; readonly address: string };
}

/** As `openOwner`, for a command about one VF. */
export async function openMember(
  host: Host,
  options: Reaching & Pick<Of<"admin legacy dump">, "interrupts" | "vf">,
  stack: AsyncDisposableStack,
): Promise<OpenedMember> {
  const { owner, info } = await openOwner(host, options, stack);
  const address = vfAddress(info, options.vf);
  return {
    owner,
    pf: info.address,
    address,
    deviceId: virtioDeviceId(host.describe(address)),
    member: owner.member(options.vf),
    about: { function: info.address, vf: options.vf, address },
  };
}

function virtioDeviceId(info: FunctionInfo): number {
  return (info.bus === "pci" ? virtioTypeOf(info) : info.virtioType) ?? 0;
}

/** Address of a VF of a PF. @throws NotFoundError when it is not enabled */
function vfAddress({ address, sriov }: FunctionInfo, vf: number): string {
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
