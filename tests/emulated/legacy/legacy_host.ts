/**
 * An emulated host whose PF drives VFs' legacy registers by commands.
 *
 * @module
 */
import { VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import type { VfioDevice } from "../../../lib/vfio/mod.ts";
import { LegacyAdminTransport } from "../../../lib/virtio/transport/pci_legacy_admin.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { type ReportedViolation, TopologyHost } from "../drivers/topology_host.ts";

const PF = "0000:01:00.0";

/** See the module's text. */
export class LegacyHost implements AsyncDisposable {
  readonly served: TopologyHost;
  readonly pf: VfioDevice;
  readonly admin: VirtioAdmin;
  readonly vfs: readonly string[];
  readonly #owned = new DisposableStack();
  readonly #devices = new Map<number, VfioDevice>();

  private constructor(served: TopologyHost, pf: VfioDevice, admin: VirtioAdmin, vfs: readonly string[]) {
    this.served = served;
    this.pf = pf;
    this.admin = admin;
    this.vfs = vfs;
  }

  /** Serves a PF of these fields, opens it and gives it VFs. */
  static async start(fields: Record<string, unknown>, vfs = 2): Promise<LegacyHost> {
    const served = await TopologyHost.start([{ address: PF, totalVfs: vfs, ...fields }]);
    try {
      const { device, transport } = served.reach(PF);
      const names = served.host.setVfCount(PF, vfs);
      return new LegacyHost(served, device, await VirtioAdmin.open(transport), names);
    } catch (error) {
      await served.stop();
      throw error;
    }
  }

  /** Opens a VF through its legacy registers. */
  legacy(vf: number): LegacyAdminTransport {
    const device = this.#open(vf);
    return this.#owned.use(
      LegacyAdminTransport.open(device, this.admin.member(vf).legacy, { owner: this.pf }),
    );
  }

  /** Opens a VF through its modern registers. */
  modern(vf: number): PciModernTransport {
    return this.#owned.use(PciModernTransport.open(this.#open(vf)));
  }

  /** A VF is opened once, and may be reached by one transport after the other. */
  #open(vf: number): VfioDevice {
    let device = this.#devices.get(vf);
    if (device === undefined) {
      this.served.host.bind(this.vfs[vf]!);
      device = this.#owned.use(this.served.host.open(this.vfs[vf]!));
      this.#devices.set(vf, device);
    }
    return device;
  }

  /** Ends it all. @returns what the devices had to say about their drivers */
  async stop(): Promise<ReportedViolation[]> {
    this.#owned.dispose();
    this.admin.close();
    await this.admin.settled;
    this.admin.transport.close();
    this.pf.close();
    return await this.served.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
