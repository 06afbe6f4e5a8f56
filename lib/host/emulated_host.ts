/**
 * An emulated host: a directory in which a process of ours serves a sysfs tree and one vfio-user socket for each function.
 *
 * @module
 */
import { isErrno } from "../../ffi/mod.ts";
import { typedErrors } from "../errors/doors.ts";
import { NotFoundError, PeerGoneError } from "../errors/mod.ts";
import { PCI, PLATFORM } from "../vfio/bus.ts";
import { VfioUserDevice } from "../sockets/vfio_user/client/device.ts";
import { PciIdsNames } from "./functions/names.ts";
import type { FunctionAttributes, StepHook } from "./sysfs/attributes.ts";
import { commonFindings } from "./doctor.ts";
import type { Finding, Host } from "./host.ts";
import { SocketSysfs } from "./sysfs/socket_sysfs.ts";
import type { Sysfs } from "./sysfs/sysfs.ts";
import { SysfsHost } from "./sysfs_host.ts";
import { TreeUsage } from "./functions/tree_usage.ts";

/** How to connect. */
export interface EmulatedHostOptions {
  /** How this process is called where it holds a function. Default: its command line. */
  readonly holder?: string | undefined;
  /** For tests: see `StepHook`. */
  readonly onStep?: StepHook;
}

/** `Host` over an emulated host's sockets. Everything about it is in its directory, so it needs no root. */
export class EmulatedHost extends SysfsHost {
  static {
    typedErrors(this);
  }

  private constructor(directory: string, sysfs: Sysfs, options: EmulatedHostOptions) {
    super({
      name: directory,
      sysfs,
      stateDirectory: `${directory}/state`,
      lockDirectory: `${directory}/state/locks`,
      opener: ({ address, info, options, onClosed }) => {
        // As to the kernel: a function that has nothing to do with SR-IOV would be refused with it.
        const isSriov = info.sriov !== undefined || info.physicalFunction !== undefined;
        const { vfToken, ...others } = options;
        const shown = isSriov && vfToken !== undefined ? { vfToken } : {};
        const how = { ...others, ...shown, name: address, onClosed };
        return VfioUserDevice.connect(`${directory}/${address}.sock`, how);
      },
      usage: (attributes) => new TreeUsage(attributes),
      examine: examineEmulated,
      holder: options.holder,
      // All its functions are known here: they are called the same on every machine.
      names: new PciIdsNames([]),
      onStep: options.onStep,
    });
  }

  /**
   * Connects to the host that is served in a directory.
   * @throws NotFoundError when none is, PeerGoneError when its process has ended
   */
  static connect(directory: string, options: EmulatedHostOptions = {}): EmulatedHost {
    const path = directory.length > 1 ? directory.replace(/\/+$/, "") : directory;
    using opened = new DisposableStack();
    const host = new EmulatedHost(path, opened.use(connectSysfs(path)), options);
    opened.move();
    return host;
  }
}

/** The tree of the host that is served in a directory. @throws NotFoundError, PeerGoneError */
export function connectSysfs(directory: string): Sysfs {
  try {
    return new SocketSysfs(`${directory}/host.sock`);
  } catch (error) {
    const hint = `start one: ringside emulate ${directory}`;
    if (isErrno(error, "ENOENT", "ENOTDIR")) {
      throw new NotFoundError(`${directory} is not the directory of an emulated host`, {
        hint,
        cause: error,
      });
    }
    if (isErrno(error, "ECONNREFUSED")) {
      throw new PeerGoneError(`the emulated host of ${directory} has ended`, { hint, cause: error });
    }
    throw error;
  }
}

function examineEmulated(host: Host, attributes: FunctionAttributes): Finding[] {
  const functions = host.list();
  const drivers = [PCI, PLATFORM].map(({ drivers, vfioDriver }): Finding => {
    const ready = attributes.optionalList(drivers).includes(vfioDriver);
    return {
      what: vfioDriver,
      state: ready ? "ok" : "problem",
      detail: ready ? "loaded" : "not among the emulated drivers",
    };
  });
  return [
    {
      what: "emulated host",
      state: "ok",
      detail: `answers, ${functions.length} function${functions.length === 1 ? "" : "s"}`,
    },
    ...drivers,
    ...commonFindings(host, functions),
  ];
}
