/**
 * The file in which a back end keeps what it has taken and not returned (INFLIGHT_SHMFD): for the one that comes after it.
 *
 * @module
 */
import type { OwnedFd } from "../../../../ffi/mod.ts";
import type { FrontEndChannel } from "../../../sockets/vhost_user/client/channel.ts";
import { inflightMessage, REQUEST } from "../../../sockets/vhost_user/protocol.ts";

/** Nobody here looks into it. */
export class InflightFile implements Disposable {
  readonly #file: OwnedFd;
  readonly #payload: Uint8Array;

  private constructor(file: OwnedFd, payload: Uint8Array) {
    this.#file = file;
    this.#payload = payload;
  }

  /** Asks for one. @returns undefined where the back end has none after all @throws as `FrontEndChannel.ask` */
  static ask(channel: FrontEndChannel, queueCount: number, queueSize: number): InflightFile | undefined {
    const request = inflightMessage.encode({ queueCount, queueSize });
    const answer = channel.askFor(REQUEST.getInflightFd, request, inflightMessage, { replyFds: 1 });
    const [file] = channel.takeFds();
    if (answer.mmapBytes === 0n) {
      file?.close();
      return undefined;
    }
    if (file === undefined) throw channel.malformed("reply to GET_INFLIGHT_FD: no file came along");
    const { mmapBytes, mmapOffset } = answer;
    return new InflightFile(file, inflightMessage.encode({ mmapBytes, mmapOffset, queueCount, queueSize }));
  }

  /** Gives it to a back end. @throws as `FrontEndChannel.tell` */
  put(channel: FrontEndChannel): void {
    channel.tell(REQUEST.setInflightFd, this.#payload, { fds: [this.#file] });
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}
