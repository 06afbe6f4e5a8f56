/**
 * An embedded host with functions of one profile, opened, and traffic ends that move between them.
 *
 * @module
 */
import { type ResumeNetOptions, type SavedNet, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import type { VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import type { VfioDevice } from "../../../lib/vfio/mod.ts";
import type { Profile } from "../../../lib/virtio/mod.ts";
import { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

const PF = "0000:01:00.0";

/** VFs of one PF on one switch, each opened and reached through its registers. */
export class Stations implements AsyncDisposable {
  readonly served: TopologyHost;
  readonly transports: readonly PciModernTransport[];
  readonly #devices: readonly VfioDevice[];

  private constructor(served: TopologyHost, devices: VfioDevice[], transports: PciModernTransport[]) {
    this.served = served;
    this.#devices = devices;
    this.transports = transports;
  }

  /** Serves a PF with `count` VFs. */
  static async start(profile: Profile, count: number, more: Record<string, unknown> = {}): Promise<Stations> {
    const served = await TopologyHost.start([
      { address: PF, kind: "virtio-net", totalVfs: count, switch: "s0", profile, ...more },
    ]);
    served.host.bind(PF);
    const devices: VfioDevice[] = [];
    const transports: PciModernTransport[] = [];
    for (const vf of served.host.setVfCount(PF, count)) {
      if (served.host.describe(vf).driver !== "vfio-pci") served.host.bind(vf);
      const device = served.host.open(vf);
      devices.push(device);
      transports.push(PciModernTransport.open(device, { profile }));
    }
    return new Stations(served, devices, transports);
  }

  /** Closes one function: its client is gone. */
  leave(at: number): void {
    this.transports[at]!.close();
    this.#devices[at]!.close();
  }

  /** Closes everything and ends the host. @returns what its devices had to say about their drivers */
  async stop(): ReturnType<TopologyHost["stop"]> {
    for (const transport of this.transports) transport.close();
    for (const device of this.#devices) device.close();
    return await this.served.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** One end of the traffic. */
export class Station {
  net: VirtioNet;
  readonly #options: ResumeNetOptions;

  private constructor(net: VirtioNet, options: ResumeNetOptions) {
    this.net = net;
    this.#options = options;
  }

  /** Opens it on a function. */
  static async open(transport: PciModernTransport, options: VirtioNetOptions): Promise<Station> {
    const { queuePairs: _, ...rest } = options;
    return new Station(await VirtioNet.open(transport, options), rest);
  }

  /** Suspends it where it is. What comes back went through JSON text, as on its way to another process. */
  async suspend(): Promise<SavedNet> {
    return JSON.parse(JSON.stringify(await this.net.suspend()));
  }

  /** Goes on, there. */
  async resume(transport: PciModernTransport, saved: SavedNet): Promise<void> {
    const { queueSize: _, ...rest } = this.#options;
    this.net = await VirtioNet.resume(transport, saved, rest);
  }
}
