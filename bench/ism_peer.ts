/**
 * The other process: `ism_peer.ts HOST-DIRECTORY FUNCTION SOCKET PIPE-IN PIPE-OUT TOKEN TOKEN`. It ends when its control connection is closed.
 *
 * @module
 */
import { VirtioIsm } from "../drivers/ism/virtio_ism.ts";
import { IsmChannel } from "../drivers/ism/ism_channel.ts";
import { O, OwnedFd, UnixSocket } from "../ffi/mod.ts";
import { EmulatedHost } from "../lib/host/emulated_host.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import {
  ChannelMedium,
  decodeTask,
  type Medium,
  pause,
  PipeMedium,
  RECEIVE_BYTES,
  receiveAll,
  SocketMedium,
  TASK_BYTES,
} from "./ism_media.ts";

function carryOut(medium: Medium, { work, bytes, count }: ReturnType<typeof decodeTask>): void {
  const buffer = new Uint8Array(RECEIVE_BYTES);
  if (work === "sink") return receiveAll(medium, buffer, bytes);
  const message = new Uint8Array(bytes);
  for (let i = 0; i < count; i++) {
    receiveAll(medium, message, bytes);
    pause();
    medium.send(message);
  }
}

if (import.meta.main) {
  const [directory, address, path, incoming, outgoing, polled, asleep] = Deno.args;
  using host = EmulatedHost.connect(directory!);
  using device = host.open(address!);
  using transport = openTransport(device);
  await using ism = await VirtioIsm.open(transport, { regionVectors: 1 });
  await using first = await IsmChannel.connect(ism, BigInt(polled!), { wait: "poll" });
  const [vector] = ism.regionVectors;
  await using second = await IsmChannel.connect(ism, BigInt(asleep!), { wait: "event", vector: vector! });
  using control = UnixSocket.connect(path!);
  using socket = UnixSocket.connect(path!);
  using pipeIn = OwnedFd.open(incoming!, O.RDWR);
  using pipeOut = OwnedFd.open(outgoing!, O.RDWR);
  const media: Medium[] = [
    new ChannelMedium(first),
    new ChannelMedium(second),
    new SocketMedium(socket, true),
    new SocketMedium(socket, false),
    new PipeMedium(pipeOut, pipeIn),
  ];
  const request = new Uint8Array(TASK_BYTES);
  for (;;) {
    const received = control.receive(request);
    if (received === undefined || received.length === 0) break;
    const task = decodeTask(request);
    carryOut(media[task.medium]!, task);
    control.send(request.subarray(0, 1));
  }
}
