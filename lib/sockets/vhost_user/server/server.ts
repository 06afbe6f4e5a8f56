/**
 * A vhost-user server for one device: a back end whose front end connects, and may go and come back.
 *
 * @module
 */
import { typedErrors } from "../../../errors/doors.ts";
import { UnixListener } from "../../../../ffi/mod.ts";
import { SocketConnector } from "../../connector.ts";
import {
  type ClientSource,
  OneClientServer,
  PATIENCE,
  type ServerWatcher,
  settingOf,
} from "../../one_client_server.ts";
import type { UnsealedFiles } from "../../passed_memory.ts";
import { type ConnectionLimits, FrontEndConnection } from "./connection.ts";
import type { ServedVhostDevice } from "./served_device.ts";

/** Settings of a server, all optional. */
export interface VhostUserServerOptions {
  /** What becomes of files of the front end that it could truncate: see `UnsealedFiles`. Default `copy`. */
  readonly unsealed?: UnsealedFiles;
  /** How long an answer may wait for a front end that does not read any of it, in milliseconds; default 10000. Then it is let go. */
  readonly sendTimeoutMs?: number;
  /** How long a front end may take for its first message, and for each from its first byte to its last, in milliseconds; default 10000. */
  readonly messageTimeoutMs?: number;
  /** Told of connections that come and go, and of messages that are refused. */
  readonly watcher?: ServerWatcher;
}

/** Serves one device on one socket. */
export class VhostUserServer extends OneClientServer {
  static {
    typedErrors(this);
  }

  /** Takes the listener over. @throws UsageError for options that cannot be */
  constructor(device: ServedVhostDevice, listener: ClientSource, options: VhostUserServerOptions = {}) {
    const { unsealed = "copy", watcher } = options;
    const limits: ConnectionLimits = {
      unsealed,
      refused: (reason) => watcher?.refused?.(reason),
      sendTimeoutMs: settingOf(PATIENCE, options, "sendTimeoutMs"),
      messageTimeoutMs: settingOf(PATIENCE, options, "messageTimeoutMs"),
    };
    super(
      listener,
      device.name,
      { serve: (socket) => new FrontEndConnection(socket, device, limits) },
      watcher,
    );
  }

  /** Listens on `path`; a stale socket file is replaced. @throws SyscallError, UsageError */
  static listen(
    path: string,
    device: ServedVhostDevice,
    options: VhostUserServerOptions = {},
  ): VhostUserServer {
    return VhostUserServer.#on(UnixListener.listen(path), device, options);
  }

  /** Connects to front ends that listen on `path`, now or later: to the next when one is gone. @throws SyscallError, UsageError */
  static connect(
    path: string,
    device: ServedVhostDevice,
    options: VhostUserServerOptions = {},
  ): VhostUserServer {
    return VhostUserServer.#on(new SocketConnector(path), device, options);
  }

  static #on(
    source: ClientSource,
    device: ServedVhostDevice,
    options: VhostUserServerOptions,
  ): VhostUserServer {
    using opened = new DisposableStack();
    const server = new VhostUserServer(device, opened.use(source), options);
    opened.move();
    return server;
  }
}
