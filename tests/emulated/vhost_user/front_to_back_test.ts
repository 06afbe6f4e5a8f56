/** Drivers of this library on embedded devices behind vhost-user sockets: both sides of the protocol, the host in a process of its own. */
import { assert, assertEquals } from "@std/assert";
import { type EmulatedProcess, startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioNet, type VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { replaceFile } from "../../../ffi/mod.ts";
import { openHost } from "../../../lib/host/mod.ts";
import { openTransport, type VirtioTransport } from "../../../lib/virtio/mod.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { Random } from "../../random.ts";

/** A host with these vhost-user devices; afterwards it has seen no violation, and has nothing of a front end. */
async function served(
  devices: readonly Readonly<Record<string, unknown>>[],
  use: (socketOf: (name: string) => string, host: EmulatedProcess) => Promise<void>,
): Promise<void> {
  const folder = makeTemporaryDirectory();
  const socketOf = (name: string) => `${folder}/${name}.sock`;
  const vhostUser = devices.map(({ name, ...own }) => ({ socket: socketOf(String(name)), ...own }));
  const topology = `${folder}/topology.json`;
  replaceFile(topology, new TextEncoder().encode(JSON.stringify({ vhostUser })));
  const host = await startEmulatedHost({ topology });
  try {
    const idle = await settledHoldings(host.pid);
    await use(socketOf, host);
    assertEquals(host.violations(), []);
    assertNothingLeft(await settledHoldings(host.pid), idle, "the host keeps what a front end left");
  } finally {
    await host.stop();
    removeTree(folder);
  }
}

function reach(socket: string, type: string, settings = ""): { transport: VirtioTransport } & Disposable {
  using host = openHost(`vhost-user:${socket},type=${type}${settings}`);
  const device = host.openVhostUser!(type);
  const transport = openTransport(device);
  return {
    transport,
    [Symbol.dispose]: () => {
      transport.close();
      device.close();
    },
  };
}

const MIXES: readonly (readonly [string, VirtioNetOptions])[] = [
  ["packed", {}],
  ["split, not mergeable, no event index", { packed: false, mergeable: false, eventIndex: false }],
  ["split, not in order, no indirect tables", { packed: false, inOrder: false, indirect: false }],
  ["packed, not in order", { inOrder: false }],
  ["split, polled", { packed: false, interrupts: "none" }],
];

/** A frame to that address, of bytes that follow from its number. */
function frame(to: Uint8Array, number: number, sizeBytes: number): Uint8Array {
  const made = new Random(number).bytes(sizeBytes);
  made.set(to);
  made.set([2, 0, 0, 0, 0, 1, 0x88, 0xb5], 6);
  return made;
}

Deno.test("vhost-user, net to net: frames byte for byte, in every mix of rings, and the next driver after that", () =>
  served([{ name: "a", kind: "virtio-net", mac: "52:54:00:00:00:0a" }, {
    name: "b",
    kind: "virtio-net",
    mac: "52:54:00:00:00:0b",
  }], async (socketOf) => {
    for (const [what, options] of MIXES) {
      using one = reach(socketOf("a"), "net");
      using other = reach(socketOf("b"), "net");
      await using from = await VirtioNet.open(one.transport, options);
      await using to = await VirtioNet.open(other.transport, options);
      assertEquals([from.macText, to.macText], ["52:54:00:00:00:0a", "52:54:00:00:00:0b"]);
      for (let number = 0; number < 200; number++) {
        const sent = frame(to.mac, number, 60 + number * 37 % 1455);
        while (!from.send(sent)) await from.waitTransmit(1000);
        assertEquals(await to.receive(5000), sent, `${what}, frame ${number}`);
      }
    }
  }));

Deno.test("vhost-user, blk: what is written is read back, with two queues, by one driver after another", () =>
  served([{ name: "disk", kind: "virtio-blk", sizeBytes: 1 << 20, queues: 2 }], async (socketOf) => {
    const bytes = new Random(7).bytes(1 << 18);
    for (const packed of [false, true]) {
      using reached = reach(socketOf("disk"), "blk");
      await using disk = await VirtioBlk.open(reached.transport, { packed });
      assertEquals(disk.capacitySectors, 2048);
      if (!packed) await disk.write(64, bytes);
      assertEquals(await disk.read(64, bytes.length / 512), bytes);
    }
  }));

Deno.test("vhost-user, rng: bytes come, and differ", () =>
  served([{ name: "rng", kind: "virtio-rng" }], async (socketOf) => {
    using reached = reach(socketOf("rng"), "rng");
    await using rng = await VirtioRng.open(reached.transport);
    assert(new Set(await rng.read(4096)).size > 200);
  }));
