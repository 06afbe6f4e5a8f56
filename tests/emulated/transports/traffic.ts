/**
 * A short run of each driver in which every byte is looked at, whatever it is reached through.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import type { VirtioDriver } from "../../../drivers/driver.ts";
import type { DriverOptions } from "../../../drivers/driver_options.ts";
import { VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { exchangeByInterrupt, exchangePolled, TestFrames } from "../../../drivers/net/virtio/exchange.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import type { VirtioTransport } from "../../../lib/virtio/transport/transport.ts";
import { Random } from "../../random.ts";

/** A driver of the table. */
export const DRIVERS = ["net", "blk", "rng", "console", "ism"] as const;

/** Its name. */
export type DriverName = typeof DRIVERS[number];

/** What the devices of a run talk to. */
export interface Peers {
  /** On the switch of all network devices. */
  readonly net: VirtioNet;
  /** In the domain of all ISM devices. */
  readonly ism: VirtioIsm;
}

const FRAMES = 32;
const BLOCK_BYTES = 64 * 1024;
const CONSOLE_BYTES = 16 * 1024;
const REGION_BYTES = 10_000;
const PATIENCE_MS = 10_000;

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Frames one way and the other, by content and number. */
export async function exchange(
  a: VirtioNet,
  b: VirtioNet,
  how: "poll" | "interrupt",
  count: number = FRAMES,
): Promise<void> {
  for (const [from, to] of [[a, b], [b, a]] as const) {
    const frames = new TestFrames(to.mac, from.mac, 60, 1514);
    const run = how === "poll" ? exchangePolled : exchangeByInterrupt;
    const result = await run(from, to, frames, count);
    assertEquals([result.frames, result.foreign], [count, 0]);
  }
}

/** Writes, flushes and reads back, and compares hashes. */
export async function fillDisk(blk: VirtioBlk, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const sectors = bytes.length / 512, piece = 16;
  const at = Array.from({ length: Math.ceil(sectors / piece) }, (_, i) => i * piece);
  await Promise.all(at.map((from) => blk.write(from, bytes.slice(from * 512, (from + piece) * 512))));
  await blk.flush();
  const back = new Uint8Array(bytes.length);
  await Promise.all(
    at.map(async (from) => back.set(await blk.read(from, Math.min(piece, sectors - from)), from * 512)),
  );
  assertEquals(await sha256(back), await sha256(bytes));
}

/** Looks at an open driver. @param again a small piece of work, for a device that was too quick for a wait to need an interrupt */
type Check = (driver: VirtioDriver, again: () => Promise<unknown>) => Promise<void>;

/** What each does while it is open. */
const RUNS: {
  readonly [name in DriverName]: (
    transport: VirtioTransport,
    options: DriverOptions,
    peers: Peers,
    check: Check,
  ) => Promise<void>;
} = {
  async net(transport, options, { net: peer }, check) {
    await using net = await VirtioNet.open(transport, options);
    await exchange(net, peer, options.interrupts === "none" ? "poll" : "interrupt");
    await check(net, () => exchange(net, peer, "interrupt", 1));
  },
  async blk(transport, options, _, check) {
    await using blk = await VirtioBlk.open(transport, options);
    await fillDisk(blk, new Random(1).bytes(BLOCK_BYTES));
    await check(blk, () => blk.read(0, 1));
  },
  async rng(transport, options, _, check) {
    await using rng = VirtioRng.open(transport, options);
    const seen = new Set<string>();
    for (let i = 0; i < 8; i++) {
      const bytes = await rng.read(512);
      assert(new Set(bytes).size > 128, "these bytes are no random ones");
      seen.add(bytes.toHex());
    }
    assertEquals(seen.size, 8);
    await check(rng, () => rng.read(16));
  },
  async console(transport, options, _, check) {
    await using console = await VirtioConsole.open(transport, options);
    const port = await console.waitPort(0, PATIENCE_MS);
    const bytes = new Random(2).bytes(CONSOLE_BYTES), back = new Uint8Array(bytes.length);
    const writing = port.write(bytes, PATIENCE_MS);
    for (let at = 0; at < back.length;) {
      const some = await port.read(PATIENCE_MS, back.length - at);
      if (some === undefined) throw new Error(`${at} of ${back.length} bytes came back`);
      back.set(some, at);
      at += some.length;
    }
    await writing;
    assertEquals(await sha256(back), await sha256(bytes));
    await check(console, async () => {
      const arrival = port.read(PATIENCE_MS);
      await port.write(Uint8Array.of(7), PATIENCE_MS);
      assertEquals(await arrival, Uint8Array.of(7));
    });
  },
  async ism(transport, options, { ism: peer }, check) {
    await using ism = await VirtioIsm.open(transport, options);
    const mine = await ism.alloc(REGION_BYTES);
    const theirs = await peer.attach(mine.token);
    const there = new Random(3).bytes(REGION_BYTES), back = new Random(4).bytes(REGION_BYTES);
    mine.write(0, there);
    const seen = new Uint8Array(REGION_BYTES);
    theirs.read(0, seen);
    assertEquals(await sha256(seen), await sha256(there));
    theirs.write(0, back);
    theirs.notify();
    assertEquals(await mine.waitUpdate(PATIENCE_MS, 0), true, "the update did not come");
    mine.read(0, seen);
    assertEquals(await sha256(seen), await sha256(back));
    mine.notify();
    assertEquals(await theirs.waitUpdate(PATIENCE_MS, 0), true, "the update did not come to the peer");
    await check(ism, () => ism.query(mine.token));
    await peer.detach(theirs);
    peer.takeEvents();
  },
};

/** Runs a driver. @returns once it is closed @throws what the driver throws; UnsupportedError where it cannot be */
export async function runDriver(
  name: DriverName,
  transport: VirtioTransport,
  options: DriverOptions,
  peers: Peers,
): Promise<void> {
  const { interrupts = "none", packed = false } = options;
  await RUNS[name](transport, options, peers, async (driver, again) => {
    assertEquals(driver.interruptKind, interrupts);
    assertEquals(driver.featureNames.includes("VIRTIO_F_RING_PACKED"), packed);
    if (interrupts === "none") return;
    for (let i = 0; i < 200 && driver.interrupts === 0; i++) await again();
    assert(driver.interrupts > 0, `${transport.name} had no interrupt`);
  });
}
