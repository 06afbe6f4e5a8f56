/**
 * A management function of an emulated host, for the benchmarks of managed devices.
 *
 * @module
 */
import {
  type ManagedDevice,
  VirtioManagement,
  type VirtioManagementOptions,
} from "../drivers/management/virtio_management.ts";
import type { Host } from "../lib/host/mod.ts";
import { FEATURE, openTransport } from "../lib/virtio/mod.ts";

/** Its address. */
export const MANAGEMENT = "0000:05:00.0";

/** What rings of managed devices can do: as rings of functions of an emulated host. */
export const RINGS: bigint = FEATURE.VERSION_1 | FEATURE.EVENT_IDX | FEATURE.INDIRECT_DESC |
  FEATURE.RING_PACKED | FEATURE.IN_ORDER | FEATURE.RING_RESET;

/** The function in a topology, with virtqueues for so many devices of up to so many each. */
export function managementFunction(devices: number, queues: number): Readonly<Record<string, unknown>> {
  return { address: MANAGEMENT, kind: "virtio-management", virtqueues: devices * queues, devices };
}

/**
 * The function, bound and opened until the stack is disposed of; then it is put back.
 * @returns drives it; one at a time
 */
export function useManagementFunction(
  stack: AsyncDisposableStack,
  host: Host,
): (options: VirtioManagementOptions) => Promise<VirtioManagement> {
  stack.defer(() => void host.restore(MANAGEMENT));
  host.bind(MANAGEMENT);
  const device = stack.use(host.open(MANAGEMENT));
  const transport = stack.use(openTransport(device, { profile: "transport-vq" }));
  return (options) => VirtioManagement.open(transport, { function: device, ...options });
}

/** Creates as many devices of one type. */
export async function createDevices(
  management: VirtioManagement,
  count: number,
  request: { readonly type: number; readonly features: bigint },
): Promise<ManagedDevice[]> {
  const devices: ManagedDevice[] = [];
  while (devices.length < count) devices.push(await management.create(request));
  return devices;
}
