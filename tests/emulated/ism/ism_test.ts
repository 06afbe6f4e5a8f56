import { assert, assertEquals, assertRejects } from "@std/assert";
import { ISM_PERM, IsmError, VirtioIsm } from "../../../drivers/ism/virtio_ism.ts";
import { mappingCount, openFdCount } from "../../../ffi/mod.ts";
import { DeviceError } from "../../../lib/errors/mod.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { IsmPeer, type RegionReport } from "./ism_peer.ts";

const A = "0000:01:00.0", B = "0000:02:00.0", C = "0000:03:00.0", STRANGER = "0000:04:00.0";
const { READ, WRITE, ATTACH, MANAGE } = ISM_PERM;
const BOTH = { read: true, write: true } as const;

function functions(settings: Record<string, unknown> = {}): Record<string, unknown>[] {
  return [A, B, C, STRANGER].map((address) => ({
    address,
    kind: "virtio-ism",
    domain: address === STRANGER ? "elsewhere" : "here",
    ...settings,
  }));
}

Deno.test("1: three processes of one domain and a stranger: rights, bytes, events; each acknowledgement by its situation", async () => {
  await using served = await TopologyHost.start(
    functions({ chunkSize: 4096, chunks: 64, memory: 40 * 4096 }),
  );
  {
    await using a = await IsmPeer.start(served, A, { regionVectors: 1 });
    await using b = await IsmPeer.start(served, B);
    await using c = await IsmPeer.start(served, C, { devMem: true });
    await using d = await IsmPeer.start(served, STRANGER);
    const infos = await Promise.all(
      [a, b, c, d].map((peer) => peer.get<Record<string, string>>({ op: "info" })),
    );
    assertEquals(new Set(infos.slice(0, 3).map(({ cdidText }) => cdidText)).size, 1);
    assert(infos[3]!.cdidText !== infos[0]!.cdidText);
    const [idA, idB, idC] = infos.map(({ devid }) => devid!);
    assertEquals(new Set([idA, idB, idC]).size, 3);

    // N-5.4: three chunks for 10,000 bytes, zeroed.
    const { token, chunks, sizeBytes, mapped } = await a.get<RegionReport>({
      op: "alloc",
      sizeBytes: 10_000,
    });
    assertEquals([chunks.length, sizeBytes, mapped], [3, 10_000, true]);
    assertEquals(await a.get({ op: "read", token, offset: 0, length: 10_000 }), new Array(10_000).fill(0));

    // B may read, C may do all but manage, nobody else anything.
    await a.get({ op: "grant-for", token, devid: idB!, permissions: READ | ATTACH, cleanDefault: true });
    await a.get({
      op: "grant-for",
      token,
      devid: idC!,
      permissions: READ | WRITE | ATTACH,
      cleanDefault: false,
    });
    assertEquals(await a.get({ op: "query", token }), {
      sizeBytes,
      permissions: READ | WRITE | ATTACH | MANAGE,
    });
    assertEquals(await b.get({ op: "query", token }), { sizeBytes, permissions: READ | ATTACH });

    // N-5.7, N-5.8, A-5.11, A-5.21: the stranger does not even see it.
    for (const op of ["query", "detach"] as const) assertEquals(await d.refused({ op, token }), "ENOENT");
    assertEquals(await d.refused({ op: "attach", token, ...BOTH }), "ENOENT");
    assertEquals(await d.refused({ op: "grant-default", token, permissions: 0 }), "ENOENT");
    // N-5.10, N-5.12: not attached.
    assertEquals(await b.refused({ op: "detach", token }), "ENOENT");
    assertEquals(await b.refused({ op: "grant-default", token, permissions: 0 }), "ENOENT");
    // N-5.8
    assertEquals(await b.refused({ op: "attach", token, ...BOTH }), "PERM_EWRITE");
    assertEquals(
      await b.get<RegionReport>({ op: "attach", token, read: true, write: false }).then((r) => r.mapped),
      true,
    );
    await c.get({ op: "attach", token, ...BOTH });
    // twice, and without MANAGE.
    assertEquals(await c.refused({ op: "attach", token, ...BOTH }), "ERR");
    assertEquals(await c.refused({ op: "grant-default", token, permissions: 7 }), "ERR");

    // Each sees the others' bytes; B cannot write.
    await c.get({ op: "write", token, offset: 4094, bytes: [1, 2, 3, 4] });
    for (const peer of [a, b, c]) {
      assertEquals(await peer.get({ op: "read", token, offset: 4093, length: 6 }), [0, 1, 2, 3, 4, 0]);
    }
    assertEquals(await b.refused({ op: "write", token, offset: 0, bytes: [1] }), "UsageError");
    await a.get({ op: "write", token, offset: 9_999, bytes: [9] });
    assertEquals(await b.get({ op: "read", token, offset: 9_998, length: 2 }), [0, 9]);

    // Events: A saw both come, B saw C come; a kick reaches all but the one who gave it.
    assertEquals(await a.get({ op: "events", count: 2 }), [
      `attach by ${idB}, 1 left`,
      `attach by ${idC}, 2 left`,
    ]);
    assertEquals(await b.get({ op: "events", count: 1 }), [`attach by ${idC}, 2 left`]);
    await b.get({ op: "notify", token });
    assertEquals(await a.get({ op: "events", count: 1 }), [`update by ${idB}`]);
    assertEquals(await c.get({ op: "events", count: 1 }), [`update by ${idB}`]);
    // N-5.13: A's updates by its vector from now on, not as events.
    await a.get({ op: "vector", token, vector: 3 });
    await c.get({ op: "notify", token });
    assertEquals(await a.get({ op: "updates", token, since: 1 }), 2);
    assertEquals(await b.get({ op: "events", count: 1 }), [`update by ${idC}`]);
    await a.get({ op: "vector", token, vector: null });
    assertEquals(await a.get({ op: "events", count: 1 }), ["update by undefined"]);
    await b.get({ op: "notify", token });
    assertEquals(await a.get({ op: "events", count: 1 }), [`update by ${idB}`]);

    // N-5.8: rights that were not granted.
    const other = await a.get<RegionReport>({ op: "alloc", sizeBytes: 1 });
    await a.get({ op: "grant-default", token: other.token, permissions: READ | WRITE });
    assertEquals(await b.refused({ op: "attach", token: other.token, ...BOTH }), "PERM_EATTACH");
    await a.get({ op: "grant-default", token: other.token, permissions: WRITE | ATTACH });
    assertEquals(await b.refused({ op: "attach", token: other.token, ...BOTH }), "PERM_EREAD");
    // N-5.5: more chunks than the area has free, more memory than the domain has.
    assertEquals(await a.refused({ op: "alloc", sizeBytes: 65 * 4096 }), "ENOSPC");
    assertEquals(await a.refused({ op: "alloc", sizeBytes: 50 * 4096 }), "ENOMEM");

    // the allocator goes first; the region lives to its last reference.
    await a.get({ op: "detach", token });
    assertEquals((await c.get<string[]>({ op: "events", count: 2 })).at(-1), `detach by ${idA}, 1 left`);
    assertEquals(await b.get({ op: "read", token, offset: 4094, length: 2 }), [1, 2]);
    // a reset detaches.
    await b.get({ op: "reset" });
    assertEquals(await c.get({ op: "events", count: 1 }), [`detach by ${idB}, 0 left`]);
    await c.get({ op: "detach", token });
    assertEquals(await c.refused({ op: "query", token }), "ENOENT");
    assertEquals((await c.get<{ mappedBytes: number }>({ op: "state" })).mappedBytes, 0);
  }
  const violations = await served.stop();
  // What was asked for above against the rules.
  assertEquals(violations.filter(({ rule }) => rule !== "5.3" && rule !== "5.7"), []);
});

Deno.test("3: a peer is killed while attached: the others get DETACH, nothing of its mapping remains, the region lives on", async () => {
  await using served = await TopologyHost.start(functions());
  {
    await using a = await IsmPeer.start(served, A);
    await using b = await IsmPeer.start(served, B);
    const c = await IsmPeer.start(served, C);
    const { devid } = await c.get<{ devid: string }>({ op: "info" });
    const { token } = await a.get<RegionReport>({ op: "alloc", sizeBytes: 100_000 });
    for (const peer of [b, c]) await peer.get({ op: "attach", token, ...BOTH });
    await c.get({ op: "write", token, offset: 99_999, bytes: [5] });
    await a.get({ op: "events", count: 2 });
    await b.get({ op: "events", count: 1 });
    await c.kill();
    assertEquals(await a.get({ op: "events", count: 1 }), [`detach by ${devid}, 1 left`]);
    assertEquals(await b.get({ op: "events", count: 1 }), [`detach by ${devid}, 1 left`]);
    assertEquals(await b.get({ op: "read", token, offset: 99_999, length: 1 }), [5]);
    await a.get({ op: "write", token, offset: 0, bytes: [6] });
    assertEquals(await b.get({ op: "read", token, offset: 0, length: 1 }), [6]);
    // Its function starts over, without the region, and can have it again.
    await using again = await IsmPeer.start(served, C);
    assertEquals((await again.get<{ regions: number }>({ op: "state" })).regions, 0);
    assertEquals(await again.get<{ devid: string }>({ op: "info" }).then((info) => info.devid), devid);
    assertEquals(await again.refused({ op: "detach", token }), "ENOENT");
    await again.get({ op: "attach", token, ...BOTH });
    assertEquals(await again.get({ op: "read", token, offset: 99_999, length: 1 }), [5]);
    assertEquals(await a.get({ op: "events", count: 1 }), [`attach by ${devid}, 2 left`]);
  }
  await served.stop();
});

Deno.test("without DEV_MEM: the allocator's buffer is the region; BUFFER_FREE comes with the last reference (N-5.10)", async () => {
  await using served = await TopologyHost.start(functions({ chunkSize: 4096 }));
  {
    await using a = await IsmPeer.start(served, A, { devMem: false });
    await using b = await IsmPeer.start(served, B);
    const { token } = await a.get<RegionReport>({ op: "alloc", sizeBytes: 9000 });
    await b.get({ op: "attach", token, ...BOTH });
    await b.get({ op: "write", token, offset: 8999, bytes: [3] });
    assertEquals(await a.get({ op: "read", token, offset: 8999, length: 1 }), [3]);
    const { devid } = await b.get<{ devid: string }>({ op: "info" });
    assertEquals(await a.get({ op: "events", count: 1 }), [`attach by ${devid}, 1 left`]);
    await a.get({ op: "detach", token });
    await b.get({ op: "detach", token });
    assertEquals(await a.get({ op: "events", count: 1 }), ["buffer-free"]);
    const again = await b.get<RegionReport>({ op: "alloc", sizeBytes: 5000 });
    await a.get({ op: "attach", token: again.token, ...BOTH });
    await a.get({ op: "write", token: again.token, offset: 4999, bytes: [8] });
    assertEquals(await b.get({ op: "read", token: again.token, offset: 4999, length: 1 }), [8]);
    await a.get({ op: "detach", token: again.token });
  }
  assertEquals(await served.stop(), []);
});

Deno.test("channel between two processes: 20 MB each way asleep and awake; a killed peer is seen after its last byte", async () => {
  await using served = await TopologyHost.start(functions());
  {
    await using a = await IsmPeer.start(served, A, { regionVectors: 1 });
    const b = await IsmPeer.start(served, B);
    for (const wait of ["event", "adaptive"] as const) {
      const token = await a.get<string>({
        op: "channel",
        options: { wait, capacityBytes: 65_536, ...(wait === "event" ? { vector: 3 } : {}) },
      });
      await b.get({ op: "channel", token, options: { wait } });
      const length = 20_000_000;
      const [, received] = await Promise.all([
        a.get({ op: "send", length, end: false }),
        b.get({ op: "receive", length }),
      ]);
      assertEquals(received, length);
      const [, back] = await Promise.all([
        b.get({ op: "send", length, end: true }),
        a.get({ op: "receive", length: length + 1 }),
      ]);
      assertEquals(back, length);
      await a.get({ op: "close-channel" });
      await b.get({ op: "close-channel" });
    }
    const token = await a.get<string>({ op: "channel", options: { capacityBytes: 65_536 } });
    await b.get({ op: "channel", token });
    await b.get({ op: "send", length: 1000, end: false });
    await b.kill();
    assertEquals(await a.get({ op: "receive", length: 1000 }), 1000);
    assertEquals(await a.refused({ op: "receive", length: 1 }), "PeerGoneError");
    assertEquals(await a.refused({ op: "send", length: 100_000, end: false }), "PeerGoneError");
    await a.get({ op: "close-channel" });
    assertEquals((await a.get<{ regions: number }>({ op: "state" })).regions, 0);
  }
  assertEquals(await served.stop(), []);
});

const REPLY_LIES = ["ism-chunk-outside", "ism-chunk-overlap", "ism-num-large", "ism-num-zero", "ism-bad-ack"];

Deno.test("6: a hostile device's replies: typed errors, nothing mapped, and the next command works", async () => {
  const before = [openFdCount(), mappingCount()];
  await using served = await TopologyHost.start(
    [...REPLY_LIES, "ism-size-lie"].map((lie, i) => ({
      address: `0000:0${i + 1}:00.0`,
      kind: "virtio-ism",
      lie,
      chunkSize: 4096,
    })).concat([{ address: "0000:0a:00.0", kind: "virtio-ism", chunkSize: 4096 } as never]),
  );
  {
    using honest = served.reach("0000:0a:00.0");
    await using other = await VirtioIsm.open(honest.transport);
    const shared = await other.alloc(9000);
    for (let i = 0; i <= REPLY_LIES.length; i++) {
      using reached = served.reach(`0000:0${i + 1}:00.0`);
      await using ism = await VirtioIsm.open(reached.transport);
      const mapped = mappingCount().mappings;
      const make = () => i < REPLY_LIES.length ? ism.alloc(9000) : ism.attach(shared.token);
      const error = await assertRejects(make, DeviceError);
      assertEquals(error instanceof IsmError, REPLY_LIES[i] === "ism-bad-ack", REPLY_LIES[i]);
      assertEquals([mappingCount().mappings, ism.regions], [mapped, []], REPLY_LIES[i]);
      const region = await make();
      region.write(8990, new Uint8Array(10).fill(1));
      assertEquals(region.getUint8(8999), 1);
    }
  }
  await served.stop();
  assertEquals([openFdCount(), mappingCount()], before);
});

Deno.test("6: a hostile device's events and configuration: typed errors", async () => {
  const lies = ["ism-unknown-event", "ism-short-event", "ism-chunk-size", "ism-no-shm"];
  await using served = await TopologyHost.start(
    ["", ...lies].map((lie, i) => ({
      address: `0000:0${i + 1}:00.0`,
      kind: "virtio-ism",
      ...(lie === "" ? {} : { lie }),
    })),
  );
  {
    using honest = served.reach("0000:01:00.0");
    await using other = await VirtioIsm.open(honest.transport);
    for (const address of ["0000:02:00.0", "0000:03:00.0"]) {
      using reached = served.reach(address);
      await using ism = await VirtioIsm.open(reached.transport);
      const region = await ism.alloc(100);
      const attached = await other.attach(region.token);
      assertEquals(await ism.waitEvent(10_000), true);
      const [event] = ism.takeEvents();
      assert(event?.type === "fault" && event.error instanceof DeviceError);
      attached.notify();
      assertEquals(await region.waitUpdate(10_000, 0), true);
      assertEquals(ism.statistics().faults, 1);
    }
    for (const [address, field] of [["0000:04:00.0", "chunk_size"], ["0000:05:00.0", "shmid"]] as const) {
      using reached = served.reach(address);
      const error = await assertRejects(() => VirtioIsm.open(reached.transport), DeviceError);
      assertEquals(error.location.field, field);
    }
  }
  await served.stop();
});

Deno.test("A-5.5: a list of chunks that is longer than expected is asked for again", async () => {
  await using served = await TopologyHost.start(functions({ chunkSize: 4096, chunks: 1024 }));
  {
    using first = served.reach(A);
    using second = served.reach(B);
    await using a = await VirtioIsm.open(first.transport);
    await using b = await VirtioIsm.open(second.transport);
    const region = await a.alloc(600 * 4096 - 1);
    const attached = await b.attach(region.token);
    // E2BIG and its repetition.
    assertEquals([a.statistics().commands, b.statistics().commands], [1, 2]);
    assertEquals([attached.chunks.length, attached.sizeBytes], [600, 600 * 4096 - 1]);
    region.setUint8(599 * 4096, 7);
    assertEquals(attached.getUint8(599 * 4096), 7);
  }
  assertEquals(await served.stop(), []);
});
