/**
 * SET_IRQS as a client sends it.
 *
 * @module
 */
import { ClosedError, UnsupportedError } from "../../../errors/mod.ts";
import type { EventFd, OwnedFd } from "../../../../ffi/mod.ts";
import type { IrqInfo, IrqRequest } from "../../../vfio/device.ts";
import { type IrqOwner, type IrqRange, irqRange } from "../../../vfio/irq_checks.ts";
import type { ClientChannel } from "./channel.ts";
import { irqSet } from "../../../vfio/kernel/abi.ts";
import { COMMAND } from "../protocol.ts";

/**
 * Checks a request against what the server said of the index, and sends it, in as many messages as it takes.
 *
 * @param maxMessageFds how many eventfds the server takes in one message.
 * @throws UsageError, ClosedError, UnsupportedError before anything is sent; what `ClientChannel.request` throws
 */
export function sendIrqRequest(
  channel: ClientChannel,
  owner: IrqOwner,
  request: IrqRequest,
  info: IrqInfo,
  maxMessageFds: number,
): void {
  // There is nothing to turn off, and libvfio-user refuses to.
  if (request.action === "disable" && info.count === 0) return;
  const range = irqRange(owner, info, request);
  const { flags, start } = range;
  const send = (part: IrqRange, fds?: readonly OwnedFd[], data?: Uint8Array): void =>
    channel.ask(COMMAND.deviceSetIrqs, irqSet, { index: request.index, ...part }, { data, fds });
  if ("which" in request) return send(range, undefined, Uint8Array.from(request.which, Number));
  if (request.action === "unmask-on") {
    requireOpen(channel, [request.eventFd], maxMessageFds);
    return send(range, [request.eventFd.fd]);
  }
  if (request.action !== "trigger") return send(range);
  const { eventFds } = request;
  requireOpen(channel, eventFds, maxMessageFds);
  let sent = 0;
  try {
    while (sent < eventFds.length) {
      const run = nextRun(eventFds, sent, maxMessageFds);
      const fds = run[0] === null ? [] : run.map((one) => one!.fd);
      send({ flags, start: start + sent, count: run.length }, fds);
      sent += run.length;
    }
  } catch (error) {
    if (sent > 0 && channel.broken === null) send({ flags, start, count: sent });
    throw error;
  }
}

/** One message carries eventfds for all of its vectors, or for none, which takes them out. */
function nextRun(
  eventFds: readonly (EventFd | null)[],
  from: number,
  maxMessageFds: number,
): (EventFd | null)[] {
  const empty = eventFds[from] === null;
  let end = from + 1;
  while (end < eventFds.length && (eventFds[end] === null) === empty) end++;
  return eventFds.slice(from, empty ? end : Math.min(end, from + maxMessageFds));
}

function requireOpen(
  channel: ClientChannel,
  eventFds: readonly (EventFd | null)[],
  maxMessageFds: number,
): void {
  if (eventFds.some((one) => one?.closed)) {
    throw new ClosedError(`${channel.name}: an eventfd for an interrupt`);
  }
  if (maxMessageFds === 0 && eventFds.some((one) => one !== null)) {
    throw new UnsupportedError(`${channel.name}: the server takes no descriptors, so no eventfds`);
  }
}
