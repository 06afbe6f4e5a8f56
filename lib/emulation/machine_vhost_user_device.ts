/**
 * A vhost-user device of the machine. It is on no bus: the kernel does not know of it, and its socket is there as long as the machine is.
 *
 * @module
 */
import type { ServerWatcher } from "../sockets/one_client_server.ts";
import { VhostUserServer, type VhostUserServerOptions } from "../sockets/vhost_user/server/server.ts";
import { type DeviceMachine, MachineSocket } from "./machine_socket.ts";
import type { VhostUserBehaviour } from "./vhost_user_behaviour.ts";

/** What it is made from. */
export interface MachineVhostUserDeviceOptions {
  /** What the machine calls it: `vhost-user:net0`. */
  readonly address: string;
  /** Path of its socket; undefined: it has none, as in tests without processes. */
  readonly socketPath?: string | undefined;
  /** It connects to front ends that listen there. Default: it listens. */
  readonly connects?: boolean | undefined;
  /** What stands behind it. Owned from now on. */
  readonly behaviour: VhostUserBehaviour;
  /** What becomes of memory of front ends that they could truncate. */
  readonly unsealed?: VhostUserServerOptions["unsealed"];
}

/** See the module. */
export class MachineVhostUserDevice extends MachineSocket {
  readonly device: { readonly behaviour: VhostUserBehaviour };
  protected override readonly rule = "vhost-user";
  readonly #options: MachineVhostUserDeviceOptions;

  /** Connects the behaviour. */
  constructor(options: MachineVhostUserDeviceOptions, around: DeviceMachine) {
    super(options.address, around);
    const { behaviour } = options;
    this.#options = options;
    this.device = { behaviour };
    const { violation, touched, ...port } = this.socketSurroundings();
    using opened = new DisposableStack();
    opened.defer(() => behaviour.close());
    behaviour.connect({ ...port, name: options.address, report: violation, wake: touched });
    opened.move();
  }

  protected override listen(watcher: ServerWatcher): VhostUserServer | null {
    const { socketPath, connects = false, unsealed } = this.#options;
    if (socketPath === undefined) return null;
    const options = { unsealed, watcher };
    return connects
      ? VhostUserServer.connect(socketPath, this.device.behaviour, options)
      : VhostUserServer.listen(socketPath, this.device.behaviour, options);
  }

  protected override closeDevice(): void {
    this.device.behaviour.close();
  }
}
