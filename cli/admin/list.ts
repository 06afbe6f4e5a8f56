/**
 * `ringside admin PF list`
 *
 * @module
 */
import type { AdminGroup, AdminGroupName } from "../../drivers/admin/virtio_admin.ts";
import { RingsideError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { adminOpcodeName } from "../../lib/virtio/spec/admin.ts";
import { KNOWN_ADMIN_OPCODES } from "../../lib/virtio/admin/group.ts";
import { hex, print, printJson, printTable, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { openOwner } from "./owner.ts";

const GROUPS = ["sriov", "self"] as const;

/** Lists commands by group. */
export async function adminList(host: Host, options: Of<"admin list">): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { owner, info } = await openOwner(host, options, stack);
  const groups: GroupList[] = [];
  for (const name of options.group === undefined ? GROUPS : [options.group]) {
    groups.push(await listGroup(owner.admin.group(name), name, options.group !== undefined));
  }
  if (options.json) return printJson({ function: info.address, queues: owner.queueNumbers, groups });
  print(`${info.address}: admin queues ${owner.queueNumbers.join(", ")}`);
  const rows = groups.flatMap(({ group, commands }) =>
    commands.map(({ opcode, name, supported, used }) => [
      group,
      hex(opcode, 4),
      name,
      supported ? "yes" : "no",
      used ? "yes" : "no",
    ])
  );
  printTable(["GROUP", "OPCODE", "COMMAND", "SUPPORTED", "IN USE"], rows, { drop: [], shrink: [2] });
  for (const { group, problem } of groups) if (problem !== undefined) remark(`group ${group}: ${problem}`);
}

interface GroupList {
  readonly group: AdminGroupName;
  /** Why nothing is known of it. */
  readonly problem?: string;
  readonly commands: readonly {
    readonly opcode: number;
    readonly name: string;
    readonly supported: boolean;
    readonly used: boolean;
  }[];
}

async function listGroup(group: AdminGroup, name: AdminGroupName, wanted: boolean): Promise<GroupList> {
  try {
    await group.listQuery();
    await group.listUse();
  } catch (error) {
    // A PF without VFs has one group that answers and one that does not.
    if (wanted || !(error instanceof RingsideError)) throw error;
    return {
      group: name,
      problem: `${error.message}${error.hint === "" ? "" : ` (${error.hint})`}`,
      commands: [],
    };
  }
  const opcodes = new Set([...KNOWN_ADMIN_OPCODES, ...group.supported ?? []]);
  return {
    group: name,
    commands: [...opcodes].sort((a, b) => a - b).map((opcode) => ({
      opcode,
      name: adminOpcodeName(opcode),
      supported: group.supported?.has(opcode) ?? false,
      used: group.used?.has(opcode) ?? false,
    })),
  };
}
