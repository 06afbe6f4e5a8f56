/** Drivers over vhost-user on this library's own back ends, in a process of their own: every type, both layouts, and a back end that is killed. */
import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { removeFile, replaceFile } from "../../../ffi/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import type { VhostUserDevice } from "../../../lib/sockets/vhost_user/mod.ts";
import { openTransport, type VirtioTransport } from "../../../lib/virtio/mod.ts";
import { testSocketPath } from "../../unit/sockets/vfio_user/raw_client.ts";
import { TopologyHost } from "../drivers/topology_host.ts";

/** Rounds of being killed; `-- --full` has a hundred. */
const ROUNDS = Deno.args.includes("--full") ? 100 : 3;
const SECTOR = 512;

interface Reached extends Disposable {
  readonly device: VhostUserDevice;
  readonly transport: VirtioTransport;
}

function reach(socket: string, type: string, settings = ""): Reached {
  using host = openHost(`vhost-user:${socket},type=${type}${settings}`);
  const device = host.openVhostUser!(type);
  const transport = openTransport(device);
  const close = () => {
    transport.close();
    device.close();
  };
  return { device, transport, [Symbol.dispose]: close };
}

for (const packed of [false, true]) {
  const layout = packed ? "packed" : "split";
  Deno.test(`two network devices of one switch, ${layout}: frames from one to the other over two pairs, with the back end's own control queue`, async () => {
    const sockets = [testSocketPath(), testSocketPath()] as const;
    const vhostUser = sockets.map((socket, at) => ({
      socket,
      kind: "virtio-net",
      name: `net${at}`,
      queuePairs: 2,
    }));
    await using host = await TopologyHost.start([], { vhostUser });
    using one = reach(sockets[0], "net");
    using other = reach(sockets[1], "net");
    {
      await using from = await VirtioNet.open(one.transport, { packed, queuePairs: 2 });
      await using to = await VirtioNet.open(other.transport, { packed });
      assertEquals([from.maxQueuePairs, one.transport.queueCount], [2, 5]);
      for (let number = 0; number < 300; number++) {
        const frame = new Uint8Array(60 + number * 4);
        for (let at = 12; at < frame.length; at++) frame[at] = number + at;
        frame.set([...to.mac, ...from.mac]);
        const tx = from.tx[number % 2]!;
        const slot = tx.reserve();
        tx.frame(slot).set(frame);
        tx.send(slot, frame.length);
        tx.flush();
        assertEquals(await to.receive(5000), frame);
      }
    }
    assertEquals(await host.stop(), []);
  });

  Deno.test(`entropy and console devices, ${layout}`, async () => {
    const sockets = [testSocketPath(), testSocketPath()] as const;
    const vhostUser = [{ socket: sockets[0], kind: "virtio-rng", name: "rng" }, {
      socket: sockets[1],
      kind: "virtio-console",
      name: "console",
    }];
    await using host = await TopologyHost.start([], { vhostUser });
    using rng = reach(sockets[0], "rng");
    using console = reach(sockets[1], "console");
    {
      using driver = VirtioRng.open(rng.transport, { packed });
      const bytes = new Uint8Array(5000);
      await driver.fill(bytes);
      assert(bytes.filter((byte) => byte === 0).length < 200);
    }
    {
      await using driver = await VirtioConsole.open(console.transport, { packed });
      const port = await driver.waitPort(0, 5000);
      assertEquals(port.index, 0);
    }
    assertEquals(await host.stop(), []);
  });

  Deno.test(`a disk whose back end is killed under load and comes back, ${layout}: no request is lost, and what was written is there`, async () => {
    const socket = testSocketPath(), sectors = 4096, DEPTH = 16;
    const file = `${socket}.img`;
    replaceFile(file, new Uint8Array(sectors * SECTOR));
    const vhostUser = [{ socket, kind: "virtio-blk", name: "disk", file }];
    await using host = await TopologyHost.start([], { alone: true, vhostUser });
    const image = new Uint8Array(sectors * SECTOR);
    using reached = reach(socket, "blk", ",reconnect=60000");
    {
      await using blk = await VirtioBlk.open(reached.transport, { packed });
      let going = true, done = 0;
      const load = Promise.all(Array.from({ length: DEPTH }, async (_, worker) => {
        const part = sectors / DEPTH;
        for (let turn = worker; going; turn += 7) {
          const sector = worker * part + turn % (part - 8), count = 1 + turn % 8;
          const range = image.subarray(sector * SECTOR, (sector + count) * SECTOR);
          if (turn % 3 === 0) assertEquals(await blk.read(sector, count), range.slice());
          else {
            crypto.getRandomValues(range);
            await blk.write(sector, range.slice());
          }
          done++;
        }
      }));
      for (let round = 0; round < ROUNDS; round++) {
        const before = done;
        while (done < before + 100) await new Promise((resolve) => setTimeout(resolve, 1));
        await host.kill();
        await host.again();
        while (reached.device.returns <= round) await new Promise((resolve) => setTimeout(resolve, 1));
      }
      const before = done;
      while (done < before + 100) await new Promise((resolve) => setTimeout(resolve, 1));
      going = false;
      await load;
      for (let at = 0; at < sectors; at += 64) {
        assertEquals(await blk.read(at, 64), image.slice(at * SECTOR, (at + 64) * SECTOR));
      }
      assertEquals(reached.device.returns, ROUNDS);
    }
    removeFile(file);
  });
}
