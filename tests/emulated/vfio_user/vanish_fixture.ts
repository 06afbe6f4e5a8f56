/**
 * A client that sets everything up and dies in the middle of a message.
 *
 * @module
 */
import { EventFd, processId, sendSignal, UnixSocket } from "../../../ffi/mod.ts";
import { IRQ } from "../../../lib/vfio/device.ts";
import { VfioUserDevice } from "../../../lib/sockets/vfio_user/mod.ts";
import { message } from "../../unit/sockets/vfio_user/raw_client.ts";

const SIGKILL = 9;
const socket = UnixSocket.connect(Deno.args[0]!);
const device = VfioUserDevice.fromSocket(socket, { name: "vanishing" });
device.dma.allocate(1 << 20);
device.setIrqs({ index: IRQ.msix, action: "trigger", start: 0, eventFds: [new EventFd(), new EventFd()] });
socket.send(message(10, new Uint8Array(64)).slice(0, 40));
sendSignal(processId(), SIGKILL);
