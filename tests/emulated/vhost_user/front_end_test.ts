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

function diskIsKilled(packed: boolean, connect: boolean): void {
  const how = `${packed ? "packed" : "split"}${connect ? ", which connects" : ""}`;
  Deno.test(`a disk whose back end is killed under load and comes back, ${how}: no request is lost, and what was written is there`, async () => {
    const socket = testSocketPath(), sectors = 4096, DEPTH = 16;
    const file = `${socket}.img`;
    replaceFile(file, new Uint8Array(sectors * SECTOR));
    const vhostUser = [{ socket, kind: "virtio-blk", name: "disk", file, connect }];
    await using host = await TopologyHost.start([], { alone: true, vhostUser });
    const image = new Uint8Array(sectors * SECTOR);
    using reached = reach(socket, "blk", `,reconnect=60000${connect ? ",server=on" : ""}`);
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

/** Unicast, of no vendor. */
function address(last: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(0x52, 0x54, 0, 0xaa, 0, last);
}

Deno.test("a network device whose back end comes back has pairs, addresses and filters as its driver had set them", async () => {
  const sockets = [testSocketPath(), testSocketPath()] as const;
  const vhostUser = sockets.map((socket, at) => ({
    socket,
    kind: "virtio-net",
    name: `net${at}`,
    queuePairs: 2,
  }));
  await using host = await TopologyHost.start([], { alone: true, vhostUser });
  using one = reach(sockets[0], "net", ",reconnect=60000");
  using other = reach(sockets[1], "net", ",reconnect=60000");
  {
    await using from = await VirtioNet.open(one.transport);
    // A host that has just started is slow to answer, where many others are at work.
    await using to = await VirtioNet.open(other.transport, { queuePairs: 2, controlTimeoutMs: 120_000 });
    const [own, listed, stranger, group, otherGroup] = [1, 2, 3, 4, 5].map(address);
    for (const one of [group!, otherGroup!]) one[0]! |= 1;
    await to.setMac(own!);
    await to.setMacTable([listed!], [group!]);
    await to.setPromiscuous(true);
    await to.setPromiscuous(false);
    let mark = 0;
    const send = async (target: Uint8Array) => {
      const frame = new Uint8Array(64);
      frame.set([...target, ...from.mac, 0x88, 0xb5, mark & 0xff, mark >> 8]);
      while (!from.send(frame)) await from.waitTransmit(1000);
    };
    /** Which of these it receives. */
    const heard = async () => {
      const got: number[] = [];
      /** A frame of before may come once more when its back end was killed before it had said that it was sent. */
      const next = async (timeoutMs: number) => {
        const frame = await to.receive(timeoutMs);
        if (frame !== undefined && (frame[14]! | frame[15]! << 8) === mark) got.push(frame[5]!);
        return frame !== undefined;
      };
      mark++;
      for (const target of [listed!, stranger!, group!, otherGroup!, own!]) await send(target);
      while (!got.includes(1)) assert(await next(120_000));
      // Of two pairs either may be seen first; what is sent then is behind both.
      await send(own!);
      while (got.filter((last) => last === 1).length < 2) assert(await next(120_000));
      while (await next(0));
      return [...new Set(got)].sort();
    };
    assertEquals(await heard(), [1, 2, 4]);
    for (let round = 1; round <= ROUNDS; round++) {
      await host.kill();
      await host.again();
      while (one.device.returns < round || other.device.returns < round) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      // Another setting waits until the old ones are said again.
      const all = round % 2 === 1;
      await to.setPromiscuous(all);
      assertEquals(await heard(), all ? [1, 2, 3, 4, 5] : [1, 2, 4]);
      const tx = to.tx[1]!;
      const slot = tx.reserve();
      tx.frame(slot).fill(1);
      tx.frame(slot).set([...from.mac, ...own!, 0x88, 0xb5]);
      tx.send(slot, 64);
      tx.flush();
      assertEquals((await from.receive(120_000))?.length, 64);
    }
  }
  // A frame of the second pair with one pair in use would be one.
  assertEquals(await host.stop(), []);
});

Deno.test("a console whose back end comes back adds its ports again, and goes on where they are open", async () => {
  const socket = testSocketPath();
  const vhostUser = [{ socket, kind: "virtio-console", name: "console", ports: 2 }];
  await using host = await TopologyHost.start([], { alone: true, vhostUser });
  using reached = reach(socket, "console", ",reconnect=60000");
  {
    await using driver = await VirtioConsole.open(reached.transport);
    let added = 0;
    driver.onPortChange((change) => void (added += change === "added" ? 1 : 0));
    const ports = [await driver.waitPort(0, 120_000), await driver.waitPort(1, 120_000)];
    const before = added;
    const echo = async (text: string) => {
      for (const port of ports) {
        assert(await port.waitPeer(120_000));
        const bytes = new TextEncoder().encode(`${text} ${port.index}`);
        await port.write(bytes, 120_000);
        const back = [];
        while (back.length < bytes.length) back.push(...(await port.read(120_000))!);
        assertEquals(back, [...bytes]);
      }
    };
    for (const port of ports) port.open();
    await echo("before");
    for (let round = 1; round <= ROUNDS; round++) {
      await host.kill();
      await host.again();
      while (reached.device.returns < round) await new Promise((resolve) => setTimeout(resolve, 1));
      await echo(`round ${round}`);
    }
    assertEquals([added, driver.ports], [before, ports]);
  }
  assertEquals(await host.stop(), []);
});

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

  // It listens, or connects to a front end that does.
  for (const connect of [false, true]) diskIsKilled(packed, connect);

  Deno.test(`two network devices whose back end is killed under load and comes back, ${layout}: frames stay what they are, and every buffer comes back`, async () => {
    const sockets = [testSocketPath(), testSocketPath()] as const;
    const vhostUser = sockets.map((socket, at) => ({ socket, kind: "virtio-net", name: `net${at}` }));
    await using host = await TopologyHost.start([], { alone: true, vhostUser });
    using one = reach(sockets[0], "net", ",reconnect=60000");
    using other = reach(sockets[1], "net", ",reconnect=60000");
    {
      await using from = await VirtioNet.open(one.transport, { packed });
      await using to = await VirtioNet.open(other.transport, { packed });
      const frame = (number: number) => {
        const bytes = new Uint8Array(200);
        for (let at = 16; at < bytes.length; at++) bytes[at] = number * 31 + at * 7 + (number >> 8);
        bytes.set([...to.mac, ...from.mac, number, number >> 8, number >> 16, number >> 24]);
        return bytes;
      };
      const numberOf = (bytes: Uint8Array) =>
        new DataView(bytes.buffer, bytes.byteOffset).getUint32(12, true);
      let sent = 0, going = true, newest = -1, received = 0;
      const load = (async () => {
        while (going) {
          for (let burst = 0; burst < 64 && from.send(frame(sent)); burst++) sent++;
          await from.waitTransmit(20);
        }
      })();
      const reader = (async () => {
        for await (const bytes of to.frames()) {
          const number = numberOf(bytes);
          assertEquals(bytes, frame(number));
          newest = Math.max(newest, number);
          received++;
          if (!going && number === sent - 1) return;
        }
      })();
      const beyond = async (count: number) => {
        const before = newest, since = received;
        while (newest <= before || received < since + count) {
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      };
      for (let round = 1; round <= ROUNDS; round++) {
        await beyond(100);
        await host.kill();
        await host.again();
        while (one.device.returns < round || other.device.returns < round) {
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      }
      await beyond(1000);
      going = false;
      await load;
      const [tx] = from.tx;
      while (tx!.freeSlots < tx!.slotCount) {
        assert(await from.waitTransmit(20_000), "the device keeps a frame");
        tx!.reclaim();
      }
      while (!from.send(frame(sent))) await from.waitTransmit(1000);
      sent++;
      await reader;
    }
    assertEquals(await host.stop(), []);
  });
}
