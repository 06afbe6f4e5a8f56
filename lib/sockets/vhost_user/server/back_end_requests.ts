/**
 * What a back end asks of its front end, on the socket of SET_BACKEND_REQ_FD.
 *
 * @module
 */
import { RingsideError } from "../../../errors/mod.ts";
import { type OwnedFd, UnixSocket } from "../../../../ffi/mod.ts";
import { requirePassedSocket } from "../../passed_fd.ts";
import { VhostUserMessage } from "../messages.ts";
import { BACKEND_REQUEST } from "../protocol.ts";

/** Nothing is waited for, and no answer is asked for: a front end that does not read misses nothing that it will not find when it does. */
export class BackEndRequests {
  readonly #socket: UnixSocket;
  readonly #out: VhostUserMessage;

  /** @param fd stays the caller's when this throws @throws ProtocolError when it is no socket */
  constructor(fd: OwnedFd, what: string) {
    requirePassedSocket(fd, what);
    this.#socket = new UnixSocket(fd);
    this.#out = new VhostUserMessage(this.#socket);
  }

  /** CONFIG_CHANGE_MSG. @returns false when nobody is there any more */
  configChanged(): boolean {
    try {
      this.#out.flush();
      // One that the front end has not read yet says the same.
      if (this.#out.waiting) return true;
      this.#out.header(BACKEND_REQUEST.configChangeMsg, 0, 0);
      this.#out.transmitNow(0);
      return true;
    } catch (error) {
      if (error instanceof RingsideError) return false;
      throw error;
    }
  }

  /** Closes the socket. */
  close(): void {
    this.#out.close();
    this.#socket.close();
  }
}
