/**
 * One front end's connection, from the back end's side: every message checked, carried out on the device, and answered.
 *
 * What is wrong with a message is told by the answer of REPLY_ACK where the front end asks for one, and the connection goes on; a GET_CONFIG that
 * cannot be is answered by none of its bytes. Otherwise the front end could not know, and the connection ends.
 *
 * @module
 */
import { ProtocolError, RingsideError } from "../../../errors/mod.ts";
import type { OwnedFd, UnixSocket } from "../../../../ffi/mod.ts";
import { ClientConnection, type ClientPatience, type Served } from "../../client_connection.ts";
import type { UnsealedFiles } from "../../passed_memory.ts";
import { VhostUserMessage, VhostUserMessages } from "../messages.ts";
import { MESSAGE_FLAG, PROTOCOL_FEATURE, REQUEST, requestName, u64Message } from "../protocol.ts";
import { BackEndRequests } from "./back_end_requests.ts";
import { FrontEndMemory } from "./memory.ts";
import { type Answer, type Carrier, REQUESTS } from "./requests.ts";
import type { FrontEnd, ServedVhostDevice } from "./served_device.ts";

/** Limits of a server. */
export interface ConnectionLimits extends ClientPatience {
  /** What becomes of files of the front end that it could truncate. */
  readonly unsealed: UnsealedFiles;
  /** Told when a message is refused and the connection goes on. */
  readonly refused: (reason: Error) => void;
}

/** See the module. */
export class FrontEndConnection extends ClientConnection<VhostUserMessages, VhostUserMessage>
  implements Carrier, FrontEnd {
  readonly device: ServedVhostDevice;
  readonly memory: FrontEndMemory;
  readonly #limits: ConnectionLimits;
  #protocolFeatures = 0n;
  #backEndRequests: BackEndRequests | null = null;
  #greeted = false;
  #attached = false;

  /** Made for an accepted socket, which is this object's from now on. */
  constructor(socket: UnixSocket, device: ServedVhostDevice, limits: ConnectionLimits) {
    const what = `front end of ${device.name}`;
    super(
      socket,
      new VhostUserMessages(socket, what, "front-end"),
      new VhostUserMessage(socket),
      what,
      limits,
    );
    this.device = device;
    this.#limits = limits;
    this.memory = new FrontEndMemory(limits.unsealed, what);
    device.attached(this);
    this.#attached = true;
  }

  protected override readonly greeting = "its first message";

  override get greeted(): boolean {
    return this.#greeted;
  }

  // ---- Carrier ----

  /** What the current message came with. */
  get fds(): readonly OwnedFd[] {
    return this.in.fds;
  }

  takeFds(): OwnedFd[] {
    return this.in.takeFds();
  }

  get protocolFeatures(): bigint {
    return this.#protocolFeatures;
  }

  set protocolFeatures(chosen: bigint) {
    this.#protocolFeatures = chosen;
    this.device.protocolChosen((chosen & PROTOCOL_FEATURE.STATUS) !== 0n);
  }

  setBackEndRequests(fd: OwnedFd): void {
    const requests = new BackEndRequests(fd, this.what);
    this.#backEndRequests?.close();
    this.#backEndRequests = requests;
  }

  get title(): string {
    return `${this.what}: ${requestName(this.in.request)}`;
  }

  wrong(text: string): ProtocolError {
    return new ProtocolError(`${this.title}: ${text}`);
  }

  // ---- FrontEnd ----

  configChanged(): void {
    if (this.#backEndRequests?.configChanged() === false) {
      this.#backEndRequests.close();
      this.#backEndRequests = null;
    }
  }

  // ---- messages ----

  override serve(): Served {
    this.begin();
    while (this.arrives()) this.carriedOut(this.#handle());
    return this.finish();
  }

  /** Carries out and answers the current message. @returns false when the connection has ended: see `reason` */
  #handle(): boolean {
    this.#greeted = true;
    const { request, isReply, payload } = this.in;
    if (isReply) return this.#end(this.wrong("a reply, and nothing was asked"));
    const known = REQUESTS.get(request);
    let answer: Answer | void;
    try {
      if (known === undefined) throw this.wrong("not a request of this back end");
      const { needs = 0n, least, most = least } = known;
      if ((this.#protocolFeatures & needs) !== needs) {
        throw this.wrong("its protocol feature was not negotiated");
      }
      if (payload.byteLength < least || payload.byteLength > most) {
        throw this.wrong(
          `${payload.byteLength} bytes of payload, ${
            least === most ? least : `${least} to ${most}`
          } are right`,
        );
      }
      answer = known.carryOut(this, payload);
    } catch (error) {
      if (!(error instanceof RingsideError)) {
        this.reason = error as Error;
        throw error;
      }
      return this.#refuse(error, known?.answers ?? false);
    }
    if (answer !== undefined) return this.#reply(answer);
    return !this.#awaitsAck || this.#acknowledge(0n);
  }

  /** The front end waits for an answer that the request itself does not have. */
  get #awaitsAck(): boolean {
    return this.in.needsReply && (this.#protocolFeatures & PROTOCOL_FEATURE.REPLY_ACK) !== 0n;
  }

  #refuse(reason: Error, answers: boolean): boolean {
    const ofConfig = this.in.request === REQUEST.getConfig;
    if (!ofConfig && (answers || !this.#awaitsAck)) return this.#end(reason);
    this.#limits.refused(reason);
    return ofConfig ? this.#reply({ bytes: new Uint8Array(0) }) : this.#acknowledge(1n);
  }

  #acknowledge(value: bigint): boolean {
    return this.#reply({ bytes: u64Message.encode({ value }) });
  }

  #reply({ bytes, file }: Answer): boolean {
    try {
      this.out.put(bytes);
      this.out.header(this.in.request, MESSAGE_FLAG.reply, bytes.byteLength);
      this.out.transmitNow(bytes.byteLength, file === undefined ? undefined : [file]);
      return true;
    } catch (error) {
      return this.#end(error as Error);
    } finally {
      file?.close();
    }
  }

  #end(reason: Error): false {
    this.reason = reason;
    return false;
  }

  /** Tells the device, lets go of the front end's memory, and closes. */
  override close(): void {
    const attached = this.#attached;
    this.#attached = false;
    try {
      if (attached) this.device.detached();
    } finally {
      this.memory.clear();
      this.#backEndRequests?.close();
      super.close();
    }
  }
}
