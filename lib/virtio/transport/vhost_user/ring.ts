/**
 * One ring, as its back end is told of it.
 *
 * @module
 */
import { EventFd } from "../../../../ffi/mod.ts";
import type { FrontEndChannel } from "../../../sockets/vhost_user/client/channel.ts";
import { REQUEST, vringAddr, vringState } from "../../../sockets/vhost_user/protocol.ts";
import { type QueueState, queueStateToWords } from "../../spec/queue_state.ts";
import type { QueueAddresses, QueueTakeover } from "../transport.ts";
import type { OwnQueue } from "./own_queue.ts";

/** What is told, and whether it was. */
export class VhostUserRing {
  /** Number of the queue. */
  readonly index: number;
  readonly addresses: QueueAddresses;
  /** Brings the driver's side to where a back end that came back begins; undefined: it cannot. */
  readonly takeover: QueueTakeover | undefined;
  /** Signalled to notify; the same one for every back end. */
  readonly kick: EventFd = new EventFd();
  /** The back end was told to use it. */
  started = false;
  /** Nobody is to notify it now. */
  held = false;
  /** By the front end's own lights: a network device's pairs are turned on and off. */
  on = true;
  /** Of a queue that no back end hears of. */
  own: OwnQueue | undefined;

  constructor(index: number, addresses: QueueAddresses, takeover: QueueTakeover | undefined) {
    this.index = index;
    this.addresses = addresses;
    this.takeover = takeover;
  }

  /**
   * Tells all of it: size, base, addresses, descriptors, and that it is enabled.
   * @param enables the back end has rings that are disabled at first (PROTOCOL_FEATURES) @throws as `FrontEndChannel.tell`
   */
  start(
    channel: FrontEndChannel,
    base: QueueState,
    call: EventFd,
    error: EventFd,
    enables: boolean,
  ): void {
    const { index, addresses: { size, descriptorArea, driverArea, deviceArea } } = this;
    const queue = { queue: index };
    const { available, used } = queueStateToWords(base);
    channel.tell(REQUEST.setVringNum, vringState.encode({ index, num: size }), queue);
    channel.tell(REQUEST.setVringBase, vringState.encode({ index, num: used * 65536 + available }), queue);
    const at = { index, descriptor: descriptorArea, available: driverArea, used: deviceArea };
    channel.tell(REQUEST.setVringAddr, vringAddr.encode(at), queue);
    this.#put(channel, REQUEST.setVringErr, error);
    this.#put(channel, REQUEST.setVringCall, call);
    this.#put(channel, REQUEST.setVringKick, this.kick);
    if (enables) this.enable(channel);
  }

  /** SET_VRING_CALL: another vector. */
  setCall(channel: FrontEndChannel, call: EventFd): void {
    this.#put(channel, REQUEST.setVringCall, call);
  }

  /** SET_VRING_ENABLE. */
  enable(channel: FrontEndChannel): void {
    const { index, on } = this;
    channel.tell(REQUEST.setVringEnable, vringState.encode({ index, num: on ? 1 : 0 }), { queue: index });
  }

  /** GET_VRING_BASE: the back end uses the ring no more when it has answered. @throws ProtocolError for an answer about another ring */
  stop(channel: FrontEndChannel): void {
    const { index } = this;
    const answer = channel.askFor(REQUEST.getVringBase, vringState.encode({ index, num: 0 }), vringState);
    if (answer.index !== index) {
      throw channel.malformed(`reply to GET_VRING_BASE of queue ${index}: it is about queue ${answer.index}`);
    }
  }

  #put(channel: FrontEndChannel, request: number, eventFd: EventFd): void {
    channel.tellNumber(request, BigInt(this.index), { fds: [eventFd.fd], queue: this.index });
  }
}
