/**
 * VFs of an emulated host, brought up the way a program does it.
 *
 * @module
 */
import { VirtioNet, type VirtioNetOptions } from "../drivers/net/virtio_net.ts";
import { NotFoundError, RefusedError } from "../lib/errors/mod.ts";
import { type Host, openHost, type RestoreReport } from "../lib/host/mod.ts";
import { openTransport } from "../lib/virtio/mod.ts";

/** The function with SR-IOV. @throws NotFoundError */
export function findPf(host: Host): string {
  const pf = host.list().find((one) => one.sriov !== undefined);
  if (pf === undefined) throw new NotFoundError(`${host.name} has no function with SR-IOV`);
  return pf.address;
}

/** The PF of an emulated host, bound to vfio-pci until the stack is disposed of; then the host is put back. */
export function usePf(
  stack: AsyncDisposableStack,
  directory: string,
): { readonly host: Host; readonly pf: string } {
  const host = stack.use(openHost(directory));
  const pf = findPf(host);
  stack.defer(() => void host.restore(pf));
  host.bind(pf);
  return { host, pf };
}

/** @throws what could not be put back, RefusedError when something is left */
export function requireRestored(host: Host, { failed }: RestoreReport): void {
  if (failed.length > 0) throw failed[0]!.error;
  if (host.journal().length > 0) throw new RefusedError("the journal is not empty after restore");
}

/** One opened VF for each of `options`, until the stack is disposed of; then the host is put back. */
export async function useVfs(
  stack: AsyncDisposableStack,
  directory: string,
  options: readonly VirtioNetOptions[],
): Promise<VirtioNet[]> {
  const { host, pf } = usePf(stack, directory);
  stack.use(host.open(pf));
  const opened: VirtioNet[] = [];
  for (const [index, vf] of host.setVfCount(pf, options.length).entries()) {
    const device = stack.use(host.open(vf));
    const transport = stack.use(openTransport(device));
    opened.push(stack.use(await VirtioNet.open(transport, options[index])));
  }
  return opened;
}
