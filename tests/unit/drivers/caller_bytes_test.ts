/** A caller's array that is transferred or shrunk while a call waits: that call fails, with its name; nothing else does. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioConsole } from "../../../drivers/console/virtio_console.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { UsageError } from "../../../lib/errors/mod.ts";
import { FakeTransport } from "../virtio/transport/fake_transport.ts";
import type { Chain } from "../virtio/queue/model_ring.ts";
import { pattern, withChannel } from "./ism/ism_channels.ts";
import { ModelConsole } from "./console/model_console.ts";

/** What can become of an array's buffer. */
const FATES: readonly [string, string, (bytes: Uint8Array<ArrayBuffer>) => void][] = [
  ["transfer()", "was transferred", (bytes) => void bytes.buffer.transfer()],
  [
    "structuredClone",
    "was transferred",
    (bytes) => void structuredClone(bytes, { transfer: [bytes.buffer] }),
  ],
  ["to nothing", "was shrunk", (bytes) => bytes.buffer.resize(0)],
  ["by a byte", "was shrunk", (bytes) => bytes.buffer.resize(bytes.length - 1)],
];

/** An array that follows its buffer's length. */
function bytesOf(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(length, { maxByteLength: length }));
}

/** One turn of the event loop: everything that can go on has. */
const turn = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

/** A block device that answers OK from when it is told to, and reads as 7. */
function heldBlock(sectors = 1000n) {
  const config = new Uint8Array(60);
  const view = new DataView(config.buffer);
  view.setBigUint64(0, sectors, true);
  view.setUint32(20, 512, true);
  const transport = new FakeTransport({
    deviceId: 2,
    features: 1n << 32n | 1n << 28n,
    config,
    queueSizes: [64],
    vectors: 2,
  });
  const held: Chain[] = [];
  const written: number[] = [];
  let answers = false;
  transport.onNotify = () => {
    const ring = transport.ring(0);
    for (let chain = ring.pop(); chain !== undefined; chain = ring.pop()) held.push(chain);
    ring.availableEvent = ring.next;
    if (answers) answer();
  };
  const answer = () => {
    answers = true;
    for (const { head, parts } of held.splice(0)) {
      let bytes = 1;
      for (const { iova, length, write } of parts.slice(1, -1)) {
        const data = transport.iommu.at(iova, length, write);
        for (let i = 0; i < length; i++) {
          if (write) data.setUint8(i, 7);
          else written.push(data.getUint8(i));
        }
        if (write) bytes += length;
      }
      transport.iommu.at(parts.at(-1)!.iova, 1, true).setUint8(0, 0);
      transport.ring(0).push(head, bytes);
    }
    transport.interrupt(0);
  };
  return { transport, held, written, answer };
}

for (const [how, what, meet] of FATES) {
  Deno.test(`blk: an array that ${what} while its read waited ends that read alone (${how})`, async () => {
    const { transport, held, answer } = heldBlock();
    await using blk = await VirtioBlk.open(transport, { requestBytes: 512, depth: 4 });
    const into = bytesOf(2 * 512);
    const reading = blk.read(0, into);
    const other = blk.read(10, 1);
    await turn();
    assertEquals(held.length, 3);
    meet(into);
    answer();
    const error = await assertRejects(() => reading, UsageError, what);
    assert(error.message.startsWith("fake 0, read: "), error.message);
    assertEquals((await other).every((byte) => byte === 7), true);
    // All slots are free again, and the driver goes on.
    assertEquals([blk.queues[0]!.freeSlots, blk.queues[0]!.inFlight], [4, 0]);
    assertEquals((await blk.read(0, 4)).length, 2048);
    transport.close();
  });

  Deno.test(`blk: an array that ${what} before all of its write was begun ends that write alone (${how})`, async () => {
    const { transport, written, answer } = heldBlock();
    await using blk = await VirtioBlk.open(transport, { requestBytes: 512, depth: 1 });
    const bytes = bytesOf(3 * 512).fill(5);
    const writing = assertRejects(() => blk.write(0, bytes), UsageError, what);
    const other = blk.write(9, new Uint8Array(512).fill(6));
    await turn();
    meet(bytes);
    answer();
    await writing;
    await other;
    // What was sent before is on the disk; nothing but the caller's bytes ever was.
    assertEquals([written.length, written.filter((byte) => byte === 5).length], [1024, 512]);
    assertEquals(blk.queues[0]!.freeSlots, 1);
    transport.close();
  });

  Deno.test(`rng: an array that ${what} while it was filled ends that call alone (${how})`, async () => {
    const transport = new FakeTransport({ deviceId: 4, features: 1n << 32n, queueSizes: [8], vectors: 2 });
    let answers = false;
    const answer = () => {
      const chain = answers ? transport.ring(0).pop() : undefined;
      if (chain === undefined) return;
      transport.ring(0).push(chain.head, chain.parts[0]!.length);
      transport.interrupt(0);
    };
    transport.onNotify = answer;
    await using rng = VirtioRng.open(transport, { bufferBytes: 64 });
    const into = bytesOf(100);
    const filling = assertRejects(() => rng.fill(into), UsageError, what);
    const turned = bytesOf(100);
    const waiting = assertRejects(() => rng.fill(turned), UsageError, "fake 0, fill: ");
    const other = rng.read(10);
    await turn();
    meet(into);
    meet(turned);
    answers = true;
    answer();
    await filling;
    await waiting;
    assertEquals((await other).length, 10);
    transport.close();
  });

  Deno.test(`console: an array that ${what} while its write waited ends that write, and says how far it came (${how})`, async () => {
    const model = new ModelConsole(1, { features: 1n << 32n });
    await using console = await VirtioConsole.open(model.transport, { bufferBytes: 4 });
    const port = await console.waitPort(0, 1000);
    model.takeSent = false;
    const bytes = bytesOf(100);
    const writing = port.write(bytes);
    const behind = bytesOf(10);
    const queued = assertRejects(() => port.write(behind), UsageError, "write, 0 bytes sent");
    await turn();
    meet(bytes);
    meet(behind);
    model.giveBack(1);
    await assertRejects(() => writing, UsageError, "write, 64 bytes sent: the array's buffer " + what);
    await queued;
    model.takeSent = true;
    await port.write(Uint8Array.of(9));
    assertEquals(model.sent.get(1)!.at(-1), 9);
    model.transport.close();
  });

  Deno.test(`ISM channel: an array that ${what} while it waited ends that call; the channel goes on (${how})`, async () => {
    for (const wait of ["poll", "event"] as const) {
      await withChannel(async ({ a, b }) => {
        const into = bytesOf(100);
        const reading = assertRejects(
          () => b.readSome(into),
          UsageError,
          "readSome: the array's buffer " + what,
        );
        await turn();
        meet(into);
        a.write(pattern(10, 1));
        await reading;
        const next = new Uint8Array(100);
        assertEquals([await b.readSome(next), next.subarray(0, 10)], [10, pattern(10, 1)]);
        const bytes = bytesOf(5000);
        const writing = assertRejects(() => a.writeAll(bytes), UsageError, "writeAll, 4096 bytes written");
        await turn();
        meet(bytes);
        assertEquals(b.read(new Uint8Array(5000)), 4096);
        await writing;
        await a.writeAll(pattern(3, 2));
        assertEquals(await b.readSome(new Uint8Array(100)), 3);
      }, { wait, connect: { wait } });
    }
  });
}

Deno.test("an array that was transferred before the call is refused by every call", async () => {
  const gone = new Uint8Array(8);
  gone.buffer.transfer();
  const { transport } = heldBlock();
  await using blk = await VirtioBlk.open(transport);
  await assertRejects(
    () => blk.read(0, gone),
    UsageError,
    "fake 0, read: the array's buffer was transferred",
  );
  await assertRejects(
    () => blk.write(0, gone),
    UsageError,
    "fake 0, write: the array's buffer was transferred",
  );
  transport.close();
  const entropy = new FakeTransport({ deviceId: 4, features: 1n << 32n, queueSizes: [8], vectors: 2 });
  await using rng = VirtioRng.open(entropy);
  await assertRejects(() => rng.fill(gone), UsageError, "fake 0, fill: the array's buffer was transferred");
  entropy.close();
  const model = new ModelConsole(1, { features: 1n << 32n });
  await using console = await VirtioConsole.open(model.transport);
  const port = await console.waitPort(0, 1000);
  assertThrows(() => port.tryRead(gone), UsageError, "tryRead: the array's buffer was transferred");
  assertThrows(() => port.tryWrite(gone), UsageError, "tryWrite: the array's buffer was transferred");
  await assertRejects(() => port.write(gone), UsageError, "0 bytes sent: the array's buffer was transferred");
  model.transport.close();
  await withChannel(async ({ a, b }) => {
    assertThrows(() => b.read(gone), UsageError, "read: the array's buffer was transferred");
    assertThrows(() => a.write(gone), UsageError, "write: the array's buffer was transferred");
    await assertRejects(() => a.writeAll(gone), UsageError, "write: the array's buffer was transferred");
    await assertRejects(() => b.readSome(gone), UsageError);
  });
});

Deno.test("an array that is too long to be had is refused by every call that makes one", async () => {
  const { transport } = heldBlock(1n << 43n);
  await using blk = await VirtioBlk.open(transport);
  await assertRejects(() => blk.read(0, 2 ** 40), UsageError, "cannot be had");
  const model = new ModelConsole(1, { features: 1n << 32n });
  await using console = await VirtioConsole.open(model.transport);
  const port = await console.waitPort(0, 1000);
  await assertRejects(() => port.read(1000, 2 ** 50), UsageError, "cannot be had");
  model.transport.close();
  transport.close();
});

Deno.test("shared arrays, and arrays that grow while a call waits, are taken as they were", async () => {
  const { transport, answer } = heldBlock();
  await using blk = await VirtioBlk.open(transport, { requestBytes: 512 });
  const shared = new Uint8Array(new SharedArrayBuffer(512, { maxByteLength: 4096 }));
  const growing = new Uint8Array(new ArrayBuffer(512, { maxByteLength: 4096 }));
  const reading = [blk.read(0, shared), blk.read(1, growing)];
  await turn();
  (shared.buffer as SharedArrayBuffer).grow(4096);
  growing.buffer.resize(4096);
  answer();
  await Promise.all(reading);
  for (const bytes of [shared, growing]) {
    assertEquals([bytes.length, bytes.filter((byte) => byte === 7).length], [4096, 512]);
  }
  transport.close();
});
