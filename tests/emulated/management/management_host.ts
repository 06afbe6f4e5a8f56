/**
 * An emulated host with a management function, whose managed devices are driven by the drivers that drive PCI functions.
 *
 * @module
 */
import {
  type ManagedDevice,
  VirtioManagement,
  type VirtioManagementOptions,
} from "../../../drivers/management/virtio_management.ts";
import { BLK_CONFIG } from "../../../lib/virtio/spec/blk.ts";
import { DEVICE_ID } from "../../../lib/virtio/spec/device_id.ts";
import type { ManagedTransport, ManagedTransportOptions } from "../../../lib/virtio/transport/managed.ts";
import {
  type Reached,
  type ReportedViolation,
  TopologyHost,
  type TopologyHostOptions,
} from "../drivers/topology_host.ts";
import { BLK, MANAGEMENT, NET, RINGS } from "./managed_types.ts";

export { MANAGEMENT, NET, RINGS } from "./managed_types.ts";

/** See the module's text. */
export class ManagementHost implements AsyncDisposable {
  readonly served: TopologyHost;
  readonly function: Reached;
  readonly management: VirtioManagement;
  readonly #owned = new AsyncDisposableStack();

  private constructor(served: TopologyHost, fn: Reached, management: VirtioManagement) {
    this.served = served;
    this.function = fn;
    this.management = management;
  }

  /** Serves a management function with these fields, and `others`, and opens it. */
  static async start(
    fields: Record<string, unknown> = {},
    options: VirtioManagementOptions = {},
    others: readonly Record<string, unknown>[] = [],
    how: TopologyHostOptions = {},
  ): Promise<ManagementHost> {
    const served = await TopologyHost.start([
      { address: MANAGEMENT, kind: "virtio-management", switch: "s0", ...fields },
      ...others,
    ], how);
    try {
      const fn = served.reach(MANAGEMENT, { profile: "transport-vq" });
      return new ManagementHost(
        served,
        fn,
        await VirtioManagement.open(fn.transport, { function: fn.device, ...options }),
      );
    } catch (error) {
      await served.stop();
      throw error;
    }
  }

  /** Closed with this, in reverse order. */
  use<T extends Disposable | AsyncDisposable>(owned: T): T {
    return this.#owned.use(owned as T & AsyncDisposable);
  }

  /** Creates a network device. */
  net(features: bigint = NET): Promise<ManagedDevice> {
    return this.management.create({ type: DEVICE_ID.net, features });
  }

  /** Creates an entropy device. */
  rng(features: bigint = RINGS): Promise<ManagedDevice> {
    return this.management.create({ type: DEVICE_ID.entropy, features });
  }

  /** Creates a block device of so many sectors. */
  blk(sectors: number, features: bigint = BLK): Promise<ManagedDevice> {
    const config = BLK_CONFIG.encode({ capacity: BigInt(sectors) });
    return this.management.create({ type: DEVICE_ID.block, features, config });
  }

  /** The transport of a device, closed with this. */
  transport({ id }: ManagedDevice, options: ManagedTransportOptions = {}): ManagedTransport {
    return this.use(this.management.openTransport(id, options) as ManagedTransport);
  }

  /** Ends it all. @returns what the devices had to say about their drivers */
  async stop(): Promise<ReportedViolation[]> {
    await this.#owned.disposeAsync();
    this.management.close();
    await this.management.settled;
    this.function[Symbol.dispose]();
    return await this.served.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
