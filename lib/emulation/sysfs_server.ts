/**
 * Serves a sysfs tree on a control socket, to many clients at once.
 *
 * @module
 */
import { SyscallError, UnixListener, type UnixSocket } from "../../ffi/mod.ts";
import { ExhaustedError, ProtocolError, RingsideError } from "../errors/mod.ts";
import type { EventDispatcher } from "./event_dispatcher.ts";
import {
  asControlRequest,
  ControlFrame,
  ControlFrames,
  type ControlRequest,
  type ControlResponse,
  MAX_REQUEST_BYTES,
  MAX_RESPONSE_BYTES,
} from "../host/sysfs/control.ts";
import type { SysfsTree } from "./sysfs_tree.ts";

/** Bytes of `readBytes` or text that fit a frame once they are base64 or JSON. */
const MAX_CONTENT_BYTES = MAX_RESPONSE_BYTES / 4;

type Answer = Extract<ControlResponse, { readonly ok: unknown }>["ok"];

interface Client {
  readonly socket: UnixSocket;
  readonly requests: ControlFrames;
  /** Until the client takes an answer no more requests are read. */
  readonly answers: ControlFrame;
}

/** The control socket of an emulated host. */
export class SysfsServer implements Disposable {
  readonly #tree: SysfsTree;
  readonly #events: EventDispatcher;
  readonly #listener: UnixListener;
  readonly #clients = new Set<Client>();

  /** Listens on `path`; a socket file that nobody answers on is replaced. @throws SyscallError */
  constructor(path: string, tree: SysfsTree, events: EventDispatcher) {
    this.#tree = tree;
    this.#events = events;
    using opened = new DisposableStack();
    this.#listener = opened.use(UnixListener.listen(path));
    events.watch(this.#listener.fd, () => this.#accept());
    opened.move();
  }

  /** Lets all clients go, and removes the socket. */
  close(): void {
    if (this.#listener.fd.closed) return;
    for (const client of this.#clients) this.#drop(client);
    this.#events.unwatch(this.#listener.fd);
    this.#listener.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #accept(): void {
    const socket = this.#listener.accept();
    if (socket === undefined) return;
    try {
      const requests = new ControlFrames(socket, "client of the control socket", MAX_REQUEST_BYTES);
      const client: Client = { socket, requests, answers: new ControlFrame(socket) };
      this.#events.watch(socket.fd, () => this.#serve(client));
      this.#clients.add(client);
    } catch {
      // Out of descriptors or memory: this client sees its connection end, the others stay.
      socket.close();
    }
  }

  #serve(client: Client): void {
    try {
      if (!this.#answerAll(client)) return;
      const filled = client.requests.fill(false);
      if (filled === "end") this.#drop(client);
      else if (filled === "data") this.#answerAll(client);
    } catch (error) {
      // A malformed request or a client that is gone costs that client its connection.
      if (!(error instanceof RingsideError)) throw error;
      this.#drop(client);
    }
  }

  /** Answers what has been read, without waiting for the client. @returns false when the client must read first */
  #answerAll(client: Client): boolean {
    const { socket, requests, answers } = client;
    const wasBlocked = answers.waiting;
    for (;;) {
      answers.flush();
      if (answers.waiting) {
        if (!wasBlocked) this.#events.watchWriting(socket.fd, true);
        return false;
      }
      if (!requests.next()) break;
      answers.sendNow(this.#answer(asControlRequest(requests.value)));
    }
    if (wasBlocked) this.#events.watchWriting(socket.fd, false);
    return true;
  }

  #answer(request: ControlRequest): ControlResponse {
    try {
      return { ok: this.#carryOut(request) };
    } catch (error) {
      if (error instanceof ProtocolError) throw error;
      if (error instanceof SyscallError) return { errno: error.code, call: error.call, hint: error.hint };
      if (error instanceof ExhaustedError) {
        return { errno: "EMFILE", call: request.op, hint: `${error.message}; ${error.hint}` };
      }
      // The hardware below said no: the kernel's word for that is an I/O error.
      if (error instanceof RingsideError) return { errno: "EIO", call: request.op, hint: error.message };
      throw error;
    }
  }

  #carryOut({ op, path, text }: ControlRequest): Answer {
    switch (op) {
      case "read": {
        const content = this.#tree.readText(path);
        // What was added last matters most where a file has grown too long for one answer.
        return content.length <= MAX_CONTENT_BYTES ? content : lastLines(content, MAX_CONTENT_BYTES);
      }
      case "readBytes":
        return btoa(String.fromCharCode(...this.#tree.readBytes(path)));
      case "write":
        this.#tree.writeText(path, text ?? "");
        return null;
      case "list":
        return this.#tree.list(path);
      case "links":
        return this.#tree.links(path);
      case "readlink":
        return this.#tree.readLink(path);
      case "exists":
        return this.#tree.exists(path);
    }
  }

  #drop(client: Client): void {
    if (!this.#clients.delete(client)) return;
    this.#events.unwatch(client.socket.fd);
    client.requests.close();
    client.socket.close();
  }
}

function lastLines(content: string, length: number): string {
  const tail = content.slice(-length);
  return tail.slice(tail.indexOf("\n") + 1);
}
