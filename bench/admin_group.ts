/**
 * A PF with administration queues and its VFs, for the benchmarks of commands.
 *
 * @module
 */
import { VirtioAdmin, type VirtioAdminOptions } from "../drivers/admin/virtio_admin.ts";
import type { Host } from "../lib/host/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import { usePf } from "./opened_functions.ts";
import { useEmulatedHost } from "./processes.ts";

/** Administration queues of the PF. */
export const ADMIN_QUEUES = 4;

/** What `useGroup` opens. */
export interface AdminGroupUnderTest {
  readonly host: Host;
  /** Addresses. */
  readonly vfs: readonly string[];
  /** Drives the PF; one at a time. */
  readonly open: (options: VirtioAdminOptions) => Promise<VirtioAdmin>;
}

/**
 * A virtio-net PF with as many VFs, served by another process, until the stack is disposed of; then the host is put back.
 * @param others functions that the host has besides
 */
export async function useGroup(
  stack: AsyncDisposableStack,
  run: BenchRun,
  vfCount: number,
  others: readonly Readonly<Record<string, unknown>>[] = [],
): Promise<AdminGroupUnderTest> {
  const emulated = await useEmulatedHost(stack, run, [{
    address: "0000:01:00.0",
    kind: "virtio-net",
    totalVfs: vfCount,
    queuePairs: 1,
    adminQueues: ADMIN_QUEUES,
  }, ...others]);
  const { host, pf } = usePf(stack, emulated.directory);
  const transport = stack.use(openTransport(stack.use(host.open(pf))));
  return { host, vfs: host.setVfCount(pf, vfCount), open: (options) => VirtioAdmin.open(transport, options) };
}
