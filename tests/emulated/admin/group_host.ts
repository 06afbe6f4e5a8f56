/**
 * An emulated host with one PF and its VFs, of which nothing but the PF is opened.
 *
 * @module
 */
import { VirtioAdmin, type VirtioAdminOptions } from "../../../drivers/admin/virtio_admin.ts";
import type { Host } from "../../../lib/host/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { PciAddress } from "../../../lib/pci/address.ts";
import { type Reached, type ReportedViolation, TopologyHost } from "../drivers/topology_host.ts";

export const PF = "0000:01:00.0";

/** Address of a VF by its index. */
export function vfAddress(vf: number): string {
  return PciAddress.fromRoutingId(PciAddress.parse(PF).routingId + 1 + vf).toString();
}

/** See the module's text. */
export class GroupHost implements AsyncDisposable {
  readonly served: TopologyHost;
  readonly pf: Reached;
  readonly #owned = new AsyncDisposableStack();

  private constructor(served: TopologyHost, pf: Reached) {
    this.served = served;
    this.pf = pf;
  }

  /** Serves a virtio-net PF with these fields besides, opens it and enables VFs. */
  static async start(vfs: number, fields: Record<string, unknown> = {}): Promise<GroupHost> {
    const served = await TopologyHost.start([
      { address: PF, kind: "virtio-net", totalVfs: Math.max(vfs, 1), queuePairs: 1, switch: "s0", ...fields },
    ]);
    try {
      const pf = served.reach(PF);
      if (vfs > 0) served.host.setVfCount(PF, vfs);
      return new GroupHost(served, pf);
    } catch (error) {
      await served.stop();
      throw error;
    }
  }

  /** The host. */
  get host(): Host {
    return this.served.host;
  }

  /** Closed with this, in reverse order. */
  use<T extends Disposable | AsyncDisposable>(owned: T): T {
    return this.#owned.use(owned as T & AsyncDisposable);
  }

  /** The PF, driven for its administration queues alone. */
  async admin(options: VirtioAdminOptions = {}): Promise<VirtioAdmin> {
    return this.use(await VirtioAdmin.open(this.pf.transport, options));
  }

  /** A VF, opened and reached through its modern registers. */
  vf(vf: number): Reached {
    return this.use(this.served.reach(vfAddress(vf)));
  }

  /** What the device makes of the queues of the PF: how often each was made something available, modulo its size. */
  devicePlaces(): { queue: number; size: number; slot: number; wrap: number }[] {
    using sysfs = new SocketSysfs(`${this.served.directory}/host.sock`, 20_000);
    const { queues } = JSON.parse(sysfs.readText(`/ringside/queues/${PF}`)) as {
      queues: {
        queue: number;
        size: number;
        ring?: { image?: { used: { index: number; wrap?: number } } };
      }[];
    };
    return queues.map(({ queue, size, ring }) => ({
      queue,
      size,
      slot: ring?.image?.used.index ?? -1,
      wrap: ring?.image?.used.wrap ?? -1,
    }));
  }

  /** Ends it all. @returns what the devices had to say about their drivers */
  async stop(): Promise<ReportedViolation[]> {
    await this.#owned.disposeAsync();
    this.pf[Symbol.dispose]();
    return await this.served.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
