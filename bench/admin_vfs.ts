/**
 * Who a thousand VFs are to a legacy driver: features, MAC address, MTU and queue sizes of each, read by commands of their PF.
 *
 * @module
 */
import type { VirtioAdmin } from "../drivers/admin/virtio_admin.ts";
import { type LegacyVfIdentity, readLegacyVfIdentity } from "../drivers/net/virtio/legacy_vf_identity.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { ADMIN_QUEUES, useGroup } from "./admin_group.ts";
import type { BenchRun } from "./bench_run.ts";
import { inTurn } from "./in_turn.ts";
import { compare, type Figure, rounds, type Section } from "./report.ts";

const MANY = 1000;
const MANY_SHORT = 100;
const WAYS = [
  { name: "1 queue, all VFs at once", adminQueues: 1, atOnce: true },
  { name: `${ADMIN_QUEUES} queues, all VFs at once`, adminQueues: ADMIN_QUEUES, atOnce: true },
  { name: `${ADMIN_QUEUES} queues, one after the other`, adminQueues: ADMIN_QUEUES, atOnce: false },
  { name: "1 queue, one after the other", adminQueues: 1, atOnce: false },
] as const;

/** Measures the time for all of them. The last way is what the others stand beside. */
export async function benchAdminVfs(run: BenchRun): Promise<Section> {
  const many = run.pick(MANY, MANY_SHORT);
  await using stack = new AsyncDisposableStack();
  const { open } = await useGroup(stack, run, many);
  let commands = 0;
  const works = Object.fromEntries(WAYS.map(({ name, adminQueues, atOnce }) => [name, async () => {
    await using admin = await open({ adminQueues, timeoutMs: 60_000 });
    const before = admin.admin.statistics.sent;
    const start = performance.now();
    const found = await (atOnce ? allAtOnce : oneByOne)(run, admin, many);
    const took = performance.now() - start;
    commands = admin.admin.statistics.sent - before;
    if (new Set(found.map(({ mac }) => mac)).size !== many) {
      throw new DeviceError("two VFs have the same MAC address");
    }
    return took;
  }]));
  const times = Object.values(await inTurn(run, works, { count: 3 }));
  const last = rounds("milliseconds", times.at(-1)!);
  const figures = WAYS.slice(0, -1).map(({ name }, i): Figure => {
    const value = rounds("milliseconds", times[i]!);
    const middle = value.kind === "rounds" ? value.median : NaN;
    return {
      name,
      value,
      beside: [compare(value, WAYS.at(-1)!.name, last)],
      note: `${Math.round(commands / (middle / 1000))} commands/s`,
    };
  });
  return {
    title: `Legacy identities of ${many} VFs by commands of their PF`,
    figures,
    notes: [
      `${commands} commands: features, MAC address (6), MTU, and two for each queue and the end of the queues`,
      "one after the other: synchronous commands, one in flight; at once: the commands of one VF follow each other",
    ],
  };
}

function allAtOnce(_: BenchRun, admin: VirtioAdmin, many: number): Promise<LegacyVfIdentity[]> {
  return Promise.all(
    Array.from({ length: many }, (_, vf) => readLegacyVfIdentity(admin.member(vf).legacyAsync)),
  );
}

async function oneByOne(run: BenchRun, admin: VirtioAdmin, many: number): Promise<LegacyVfIdentity[]> {
  const found: LegacyVfIdentity[] = [];
  for (let vf = 0; vf < many; vf++) {
    found.push(await readLegacyVfIdentity(admin.member(vf).legacy));
    if (vf % 100 === 99) await run.turn();
  }
  return found;
}
