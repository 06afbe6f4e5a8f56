/**
 * A function of the machine, on whatever bus, with what hangs on it: its socket, its doorbells, its turn.
 *
 * @module
 */
import type { ServerWatcher } from "../sockets/one_client_server.ts";
import { VfioUserServer, type VfioUserServerOptions } from "../sockets/vfio_user/server/server.ts";
import type { DeviceSurroundings, EmulatedDevice } from "./emulated_device.ts";
import { MachineSocket } from "./machine_socket.ts";

/** What a `MachineDevice` is made from, beside the device's own options. */
export interface MachineDeviceOptions {
  /** Full address. */
  readonly address: string;
  /** IOMMU group. */
  readonly iommuGroup: number;
  /** NUMA node, −1 when not said. */
  readonly numaNode: number;
  /** How its vfio-user server deals with its clients. */
  readonly serving?: Pick<VfioUserServerOptions, "unsealed" | "answers">;
  /** Path of its vfio-user socket; undefined: it has none, as in tests without processes. */
  readonly socketPath?: string;
}

/** See the module. */
export abstract class MachineDevice extends MachineSocket {
  /** What it was made from. */
  abstract readonly options: MachineDeviceOptions;
  /** The function itself. */
  abstract override readonly device: EmulatedDevice;
  protected override readonly rule = "vfio-user";

  /** What its device needs of the machine. */
  protected surroundings(): DeviceSurroundings {
    return {
      ...this.socketSurroundings(),
      resampleChanged: (before, now) => {
        if (before !== null) this.events.unwatch(before.fd);
        if (now !== null) this.events.watch(now.fd, () => this.device.interrupts.line.resampled());
      },
    };
  }

  protected override listen(watcher: ServerWatcher): VfioUserServer | null {
    const { socketPath, serving } = this.options;
    return socketPath === undefined
      ? null
      : VfioUserServer.listen(socketPath, this.device, { ...serving, watcher });
  }

  protected override closeDevice(): void {
    this.device.close();
  }
}
