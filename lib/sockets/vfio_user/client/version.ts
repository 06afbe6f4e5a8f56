/**
 * VERSION as a client sends it.
 *
 * @module
 */
import { ProtocolError, RefusedError, UnsupportedError } from "../../../errors/mod.ts";
import { isErrno, pageSizeBytes, SyscallError } from "../../../../ffi/mod.ts";
import { decodeVersion, encodeVersion, type PeerCapabilities } from "../capabilities.ts";
import type { ClientChannel } from "./channel.ts";
import { COMMAND, LIMIT, PROTOCOL_VERSION } from "../protocol.ts";

/** The widest register access, which must stay one message. */
const WIDEST_ACCESS_BYTES = 8;

/**
 * Agrees with the server on version and capabilities, and takes the twin socket when it has one.
 * @param vfToken shown to the server; text of a UUID
 * @returns what the server takes @throws RefusedError (it has another client, or wants another VF token), UnsupportedError, ProtocolError, PeerGoneError, TimeoutError
 */
export function negotiate(channel: ClientChannel, vfToken?: string): PeerCapabilities {
  const offer = encodeVersion(PROTOCOL_VERSION.minor, {
    maxMessageFds: LIMIT.messageFds,
    maxDataTransferBytes: LIMIT.dataTransferBytes,
    maxDmaMaps: LIMIT.dmaMaps,
    pageSizes: pageSizeBytes,
    writeMultiple: true,
    mapArea: true,
    addressSpaces: LIMIT.addressSpaces,
    ...(vfToken === undefined ? {} : { vfToken }),
    twinSocket: "offered",
  });
  channel.out.put(offer);
  try {
    channel.request(COMMAND.version, offer.byteLength, undefined, LIMIT.messageFds);
  } catch (error) {
    if (isErrno(error, "EBUSY")) {
      throw new RefusedError(`${channel.name}: the server has another client`, {
        hint: "close the process that uses the function",
        cause: error,
      });
    }
    if (isErrno(error, "EACCES")) throw tokenRefused(channel.name, vfToken !== undefined, error);
    if (vfToken !== undefined && isErrno(error, "EINVAL")) {
      throw new RefusedError(`${channel.name} was not opened: its server takes no VF token for it`, {
        hint: "open it without a token: it is no PF on vfio-pci with SR-IOV, nor a VF of one",
        cause: error,
      });
    }
    if (!(error instanceof SyscallError)) throw error;
    const { major, minor } = PROTOCOL_VERSION;
    throw new ProtocolError(`${channel.name}: the server refuses protocol version ${major}.${minor}`, {
      hint: "it speaks another version, or takes no client now",
      cause: error,
    });
  }
  const fds = channel.in.takeFds();
  try {
    const { major, minor, capabilities } = channel.decode(() =>
      decodeVersion(channel.in.payload, channel.name)
    );
    if (major !== PROTOCOL_VERSION.major || minor > PROTOCOL_VERSION.minor) {
      throw new ProtocolError(
        `${channel.name}: the server answers with protocol version ${major}.${minor}`,
        { hint: `this client speaks ${PROTOCOL_VERSION.major}.${PROTOCOL_VERSION.minor}` },
      );
    }
    if (capabilities.maxDataTransferBytes < WIDEST_ACCESS_BYTES) {
      throw new UnsupportedError(
        `${channel.name}: the server takes ${capabilities.maxDataTransferBytes} bytes in one message, fewer than a register has`,
      );
    }
    const { twinSocket } = capabilities;
    const twin = typeof twinSocket === "number" ? fds[twinSocket] : undefined;
    if (fds.length !== (twinSocket === undefined ? 0 : 1) || (twin === undefined && fds.length > 0)) {
      throw new ProtocolError(
        `${channel.name}: VERSION twin_socket is ${
          twinSocket ?? "absent"
        }, and ${fds.length} descriptors came along`,
      );
    }
    if (twin !== undefined) {
      fds.length = 0;
      channel.useTwin(twin);
    }
    return capabilities;
  } finally {
    for (const fd of fds) fd.close();
  }
}

function tokenRefused(name: string, sent: boolean, cause: unknown): RefusedError {
  const what = sent
    ? "the VF token is not the one"
    : "a VF token is needed and none was given: it is the one";
  return new RefusedError(`${name} was not opened: ${what} that its PF was opened with`, {
    hint:
      "pass the UUID that the PF was opened with or set to (option vfToken, or --vf-token on the command line)",
    cause,
  });
}
