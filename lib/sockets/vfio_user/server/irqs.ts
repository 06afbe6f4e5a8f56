/**
 * SET_IRQS as a server checks it and hands it to the device.
 *
 * @module
 */
import type { EventFd, OwnedFd } from "../../../../ffi/mod.ts";
import { IRQ_FLAG, IRQ_SET, type IrqInfo } from "../../../vfio/device.ts";
import { passedEventFd } from "../../passed_fd.ts";
import { irqSet } from "../../../vfio/kernel/abi.ts";
import { decodeRequest, invalid, RequestRefused } from "./refusal.ts";
import type { ServedDevice, ServedIrqRequest } from "./served_device.ts";

const DATA = IRQ_SET.dataNone | IRQ_SET.dataBool | IRQ_SET.dataEventfd;
const ACTION = IRQ_SET.actionMask | IRQ_SET.actionUnmask | IRQ_SET.actionTrigger;

/**
 * Carries a SET_IRQS message out.
 *
 * As libvfio-user does it: TRIGGER with DATA_NONE and a count of 0 turns the index off; TRIGGER with DATA_EVENTFD and no
 * descriptors takes the range's eventfds out; otherwise there is one descriptor a vector.
 *
 * @param takeFds hands over the message's descriptors; it is called only for a message that may have some.
 * @throws RequestRefused, ProtocolError (no eventfd), and what the device throws
 */
export function setIrqs(
  device: ServedDevice,
  payload: Uint8Array,
  fdCount: number,
  takeFds: () => OwnedFd[],
): void {
  const { flags, index, start, count } = decodeRequest(irqSet, payload, "SET_IRQS");
  const data = flags & DATA;
  const action = flags & ACTION;
  const isOne = (bits: number) => bits !== 0 && (bits & (bits - 1)) === 0;
  if ((flags & ~(DATA | ACTION)) !== 0 || !isOne(data) || !isOne(action)) {
    throw refuse(`flags 0x${flags.toString(16)} are not one DATA and one ACTION`);
  }
  if (index >= device.info.numIrqs) throw refuse(`index ${index} of ${device.info.numIrqs}`);
  const info = device.irq(index);
  if (start >= info.count || start + count > info.count) {
    throw refuse(`vectors [${start}, +${count}) of index ${index}, which has ${info.count}`);
  }
  const dataBytes = data === IRQ_SET.dataBool ? count : 0;
  if (payload.byteLength !== irqSet.sizeBytes + dataBytes) throw refuse(`${payload.byteLength} bytes`);
  if (fdCount > 0 && data !== IRQ_SET.dataEventfd) {
    throw refuse(`${fdCount} descriptors without DATA_EVENTFD`);
  }
  if (fdCount > 0 && fdCount !== count) throw refuse(`${fdCount} descriptors for ${count} vectors`);
  if (count === 0) {
    if (start !== 0 || data !== IRQ_SET.dataNone || action !== IRQ_SET.actionTrigger) throw refuse("count 0");
    return device.setIrqs(index, { action: "disable" });
  }
  if (action !== IRQ_SET.actionTrigger && (info.flags & IRQ_FLAG.maskable) === 0) {
    throw new RequestRefused("ENOTTY", `SET_IRQS: index ${index} cannot be masked`);
  }
  if (data === IRQ_SET.dataEventfd) return assign(device, info, action, start, count, fdCount, takeFds);
  const name = action === IRQ_SET.actionTrigger ? "fire" : action === IRQ_SET.actionMask ? "mask" : "unmask";
  if (data === IRQ_SET.dataNone) return device.setIrqs(index, { action: name, start, count });
  for (let i = 0; i < count; i++) {
    if (payload[irqSet.sizeBytes + i] === 0) continue;
    device.setIrqs(index, { action: name, start: start + i, count: 1 });
  }
}

function assign(
  device: ServedDevice,
  info: IrqInfo,
  action: number,
  start: number,
  count: number,
  fdCount: number,
  takeFds: () => OwnedFd[],
): void {
  if ((info.flags & IRQ_FLAG.eventfd) === 0) throw refuse(`index ${info.index} takes no eventfds`);
  if (action === IRQ_SET.actionTrigger && fdCount === 0) {
    const none = new Array<null>(count).fill(null);
    return device.setIrqs(info.index, { action: "trigger", start, eventFds: none });
  }
  if (action !== IRQ_SET.actionTrigger && (action !== IRQ_SET.actionUnmask || count !== 1 || fdCount !== 1)) {
    throw new RequestRefused("ENOTSUP", "SET_IRQS: an eventfd can only unmask one vector, or be triggered");
  }
  const passed = takeFds();
  let request: ServedIrqRequest;
  try {
    const what = `${device.name} SET_IRQS index ${info.index}`;
    const eventFds: EventFd[] = passed.map((fd) => passedEventFd(fd, what));
    request = action === IRQ_SET.actionTrigger
      ? { action: "trigger", start, eventFds }
      : { action: "unmask-on", start, eventFd: eventFds[0]! };
  } catch (error) {
    for (const fd of passed) fd.close();
    throw error;
  }
  // From here on they are the device's, also when it throws.
  device.setIrqs(info.index, request);
}

function refuse(text: string): RequestRefused {
  return invalid("SET_IRQS", text);
}
