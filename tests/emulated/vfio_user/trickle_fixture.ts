/**
 * A server whose answer to DEVICE_RESET takes 3 s, while it is never silent for long: it sends `commands` that want no reply, or the
 * answer's `bytes` one by one.
 *
 * @module
 */
import { sleepBlocking, UnixListener, type UnixSocket } from "../../../ffi/mod.ts";
import { COMMAND, messageHeader, userDeviceInfo } from "../../../lib/sockets/vfio_user/protocol.ts";
import { message, versionPayload } from "../../unit/sockets/vfio_user/raw_client.ts";

const REPLY = 1;
const NO_REPLY = 0x10;
const PAUSE_MS = 30;
const PAUSES = 100;

const listener = UnixListener.listen(Deno.args[0]!);
console.log("ready");
let accepted: UnixSocket | undefined;
while ((accepted = listener.accept()) === undefined) sleepBlocking(1);
const socket = accepted;

const request = new Uint8Array(4096);
while (true) {
  // The client waits for each answer, so a read brings one request.
  if (socket.receive(request)!.length === 0) break;
  const { command, messageId: id } = messageHeader.decode(request);
  if (command === COMMAND.version) socket.send(message(command, versionPayload(), { id, flags: REPLY }));
  else if (command === COMMAND.deviceGetInfo) {
    const info = userDeviceInfo.encode({ argsz: 16, flags: 3, numRegions: 9, numIrqs: 5 });
    socket.send(message(command, info, { id, flags: REPLY }));
  } else {
    const answer = message(command, new Uint8Array(PAUSES - 16), { id, flags: REPLY });
    for (let i = 0; i < PAUSES; i++) {
      if (Deno.args[1] === "bytes") socket.send(answer.slice(i, i + 1));
      else socket.send(message(COMMAND.dmaRead, undefined, { flags: NO_REPLY }));
      sleepBlocking(PAUSE_MS);
    }
    if (Deno.args[1] === "commands") socket.send(answer);
  }
}
