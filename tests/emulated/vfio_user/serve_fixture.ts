/**
 * Serves the test device on the socket given as argument, until it is killed. Each ring of its doorbell raises MSI-X vector 7.
 *
 * @module
 */
import { EPOLL, Epoll } from "../../../ffi/mod.ts";
import { VfioUserServer } from "../../../lib/sockets/vfio_user/mod.ts";
import { FakeDevice } from "../../unit/sockets/vfio_user/fake_device.ts";

const TAG = { listener: 0, connection: 1, doorbell: 2 } as const;

const epoll = new Epoll();
const device = new FakeDevice();
device.quiet = true;
const server = VfioUserServer.listen(Deno.args[0]!, device, {
  watcher: {
    connected: (fd) => epoll.add(fd, TAG.connection),
    disconnecting: (fd) => epoll.remove(fd),
    blocked: (fd, blocked) => epoll.modify(fd, TAG.connection, blocked ? EPOLL.out : EPOLL.in),
  },
});
epoll.add(server.listenerFd, TAG.listener);
epoll.add(device.doorbell.fd, TAG.doorbell);
console.log("ready");
while (true) {
  const ready = epoll.waitBlocking(-1);
  for (let i = 0; i < ready; i++) {
    if (epoll.tags[i] === TAG.listener) server.handleListener();
    else if (epoll.tags[i] === TAG.connection) server.handleConnection();
    else {
      device.collectRings();
      device.raise(2, 7);
    }
  }
}
