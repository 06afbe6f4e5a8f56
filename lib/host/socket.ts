/**
 * Connecting to the socket that a host is named by.
 *
 * @module
 */
import { isErrno, O, OwnedFd } from "../../ffi/mod.ts";
import { NotFoundError, PeerGoneError, ProtocolError, TimeoutError, UsageError } from "../errors/mod.ts";

/**
 * Connects, and says of a failure what stands at the path.
 * @throws NotFoundError (no such path, or no socket), PeerGoneError (nobody listens), UsageError (no path), and what `connect` throws, with a hint
 */
export function connectSocket<T>(protocol: "vfio-user" | "vhost-user", path: string, connect: () => T): T {
  if (path === "") {
    throw new UsageError(`a ${protocol} host is named by its socket`, {
      hint: `${protocol}:/path/of/socket`,
    });
  }
  try {
    return connect();
  } catch (error) {
    const cause = { cause: error };
    if (isErrno(error, "ENOENT", "ENOTDIR")) throw new NotFoundError(`there is no socket ${path}`, cause);
    if (isErrno(error, "ECONNREFUSED")) {
      if (isSocket(path)) throw new PeerGoneError(`nobody listens on ${path}`, cause);
      throw new NotFoundError(`${path} is no socket`, {
        hint: `the directory of an emulated host is named without ${protocol}:`,
        ...cause,
      });
    }
    if (error instanceof PeerGoneError) {
      throw new PeerGoneError(
        `${path}: who listens there ended the connection before anything was agreed on`,
        {
          hint: `is this the socket of a ${protocol} server, and is no other client using it?`,
          ...cause,
        },
      );
    }
    if (error instanceof TimeoutError || (error instanceof ProtocolError && error.hint === "")) {
      const OfItsKind = error.constructor as typeof ProtocolError;
      const named = error.message.startsWith(`${path}: `);
      throw new OfItsKind(named ? error.message : `${path}: ${error.message}`, {
        hint: `is this the socket of a ${protocol} server, which is not busy?`,
        ...cause,
      });
    }
    throw error;
  }
}

/** The kernel opens everything but sockets. */
function isSocket(path: string): boolean {
  try {
    OwnedFd.open(path, O.RDONLY | O.NONBLOCK).close();
    return false;
  } catch (error) {
    return isErrno(error, "ENXIO");
  }
}
