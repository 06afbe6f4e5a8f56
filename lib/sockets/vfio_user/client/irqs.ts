/**
 * SET_IRQS as a client sends it.
 *
 * @module
 */
import { ClosedError, UnsupportedError } from "../../../errors/mod.ts";
import type { EventFd, OwnedFd } from "../../../../ffi/mod.ts";
import { IRQ_SET, type IrqInfo, type IrqRequest } from "../../../vfio/device.ts";
import { requireMaskable, requireVectors } from "../../../vfio/irq_checks.ts";
import type { ClientChannel } from "./channel.ts";
import { irqSet } from "../../../vfio/kernel/abi.ts";
import { COMMAND } from "../protocol.ts";

const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } = IRQ_SET;

const ACTION = { fire: actionTrigger, mask: actionMask, unmask: actionUnmask } as const;

/**
 * Checks a request against what the server said of the index, and sends it, in as many messages as it takes.
 *
 * @param maxMessageFds how many eventfds the server takes in one message.
 * @throws UsageError, ClosedError, UnsupportedError before anything is sent; what `ClientChannel.request` throws
 */
export function sendIrqRequest(
  channel: ClientChannel,
  request: IrqRequest,
  info: IrqInfo,
  maxMessageFds: number,
): void {
  const { index } = request;
  const send = (
    flags: number,
    start: number,
    count: number,
    fds: readonly OwnedFd[] = [],
    which: readonly boolean[] = [],
  ): void => {
    const data = Uint8Array.from(which, Number);
    channel.ask(COMMAND.deviceSetIrqs, irqSet, { flags, index, start, count }, { data, fds });
  };
  switch (request.action) {
    case "disable":
      // There is nothing to turn off, and libvfio-user refuses to.
      if (info.count === 0) return;
      return send(dataNone | actionTrigger, 0, 0);
    case "fire":
    case "mask":
    case "unmask": {
      const { start } = request;
      const count = "which" in request ? request.which.length : request.count;
      requireVectors(channel.name, info, start, count);
      if (request.action !== "fire") requireMaskable(channel.name, info);
      const action = ACTION[request.action];
      return "which" in request
        ? send(dataBool | action, start, count, [], request.which)
        : send(dataNone | action, start, count);
    }
    case "unmask-on": {
      requireVectors(channel.name, info, request.start, 1);
      requireMaskable(channel.name, info);
      requireOpen(channel, [request.eventFd], maxMessageFds);
      return send(dataEventfd | actionUnmask, request.start, 1, [request.eventFd.fd]);
    }
    case "trigger": {
      const { start, eventFds } = request;
      requireVectors(channel.name, info, start, eventFds.length);
      requireOpen(channel, eventFds, maxMessageFds);
      let sent = 0;
      try {
        while (sent < eventFds.length) {
          const run = nextRun(eventFds, sent, maxMessageFds);
          const fds = run[0] === null ? [] : run.map((one) => one!.fd);
          send(dataEventfd | actionTrigger, start + sent, run.length, fds);
          sent += run.length;
        }
      } catch (error) {
        if (sent > 0 && channel.broken === null) send(dataEventfd | actionTrigger, start, sent);
        throw error;
      }
    }
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
