import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { migrateParts, type MoveTarget } from "../../../examples/migrate_parts.ts";
import { VirtioNet, type VirtioNetOptions } from "../../../drivers/net/virtio_net.ts";
import { VirtioAdmin } from "../../../drivers/admin/virtio_admin.ts";
import { ExhaustedError, TimeoutError, UsageError } from "../../../lib/errors/mod.ts";
import type { VfioDevice } from "../../../lib/vfio/mod.ts";
import { MovableTransport } from "../../../lib/virtio/mod.ts";
import { DEV_PART } from "../../../lib/virtio/spec/admin.ts";
import type { PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { Traffic } from "./traffic.ts";

const PF = "0000:01:00.0";
const MOVES = rounds(100, 4);

/** A PF whose driver administers it, and its VFs, opened. */
class Group implements AsyncDisposable {
  readonly served: TopologyHost;
  readonly admin: VirtioAdmin;
  readonly vfs: readonly { readonly device: VfioDevice; readonly transport: PciModernTransport }[];
  readonly #owned: DisposableStack;
  #stopped = false;

  private constructor(served: TopologyHost, admin: VirtioAdmin, vfs: Group["vfs"], owned: DisposableStack) {
    this.served = served;
    this.admin = admin;
    this.vfs = vfs;
    this.#owned = owned;
  }

  static async start(count: number, more: Record<string, unknown> = {}): Promise<Group> {
    const served = await TopologyHost.start([
      { address: PF, kind: "virtio-net", totalVfs: count, adminQueues: 1, ...more },
    ]);
    const owned = new DisposableStack();
    const pf = owned.use(served.reach(PF));
    const vfs = served.host.setVfCount(PF, count).map((address) => owned.use(served.reach(address)));
    return new Group(served, await VirtioAdmin.open(pf.transport), vfs, owned);
  }

  place(vf: number): MoveTarget {
    return { member: this.admin.member(vf), transport: this.vfs[vf]!.transport };
  }

  /** Ends it all. @returns what the devices had to say about their drivers */
  async stop(): ReturnType<TopologyHost["stop"]> {
    if (!this.#stopped) {
      this.#stopped = true;
      this.admin.close();
      await this.admin.settled;
      this.#owned.dispose();
    }
    return await this.served.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** Traffic both ways while the driver of one end moves between two VFs. */
async function moves(
  options: VirtioNetOptions,
  seed: number,
  more: Record<string, unknown> = {},
): Promise<void> {
  const random = new Random(seed);
  await using group = await Group.start(3, more);
  const places = [group.place(1), group.place(2)];
  using transport = new MovableTransport(group.vfs[1]!.transport);
  const peer = await VirtioNet.open(group.vfs[0]!.transport, options);
  const net = await VirtioNet.open(transport, options);
  const mac = net.macText;
  const there = new Traffic(net.mac, peer.mac, seed), back = new Traffic(peer.mac, net.mac, seed + 1);
  let moving = true, duringMoves = 0, underWay = 0;
  const traffic = async () => {
    while (moving) {
      const before = there.received.frames + back.received.frames;
      there.send(peer, 1 + random.below(40));
      back.send(net, 1 + random.below(40));
      // Some rounds leave an end without buffers, so that frames wait in the other's queue.
      if (random.fraction() < 0.6) there.receive(net, random.below(60));
      if (random.fraction() < 0.6) back.receive(peer, random.below(60));
      duringMoves += there.received.frames + back.received.frames - before;
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  };
  const move = async () => {
    try {
      for (let i = 0; i < MOVES; i++) {
        underWay += there.sent.frames - there.received.frames + back.sent.frames - back.received.frames;
        const [from, to] = [places[i % 2]!, places[(i + 1) % 2]!];
        const parts = await migrateParts(transport, from.member, to);
        assertEquals(transport.current, to.transport);
        assertEquals(from.transport.readStatus(), 0);
        assertEquals(to.transport.readStatus(), 15);
        assert(parts.some(({ type }) => type === DEV_PART.NET_CVQ_CFG));
        assertEquals(group.vfs[i % 2 === 0 ? 1 : 2]!.device.dma.usage.allocations, 0);
        // The control queue moved, too: the device answers there.
        if (i % 10 === 0) await net.setFilter("allmulti", i % 20 === 0);
        assertEquals(net.macText, mac);
      }
    } finally {
      moving = false;
    }
  };
  await Promise.all([traffic(), move()]);
  await there.drain(net);
  await back.drain(peer);
  assertEquals(there.received, there.sent);
  assertEquals(back.received, back.sent);
  assert(duringMoves > 10 * MOVES, `${duringMoves} frames while the driver moved`);
  assert(underWay > MOVES, `${underWay} frames under way when moves began`);
  if (options.interrupts === "msix") {
    // The vectors of the last function reach the driver that was opened on the first.
    for (let i = 0; i < 5; i++) {
      const { interrupts } = net.statistics();
      const woken = net.waitReceive(5000);
      there.send(peer, 1);
      assert(await woken, "no interrupt");
      await there.drain(net);
      assert(net.statistics().interrupts > interrupts, "woken without an interrupt");
    }
  }
  for (const one of [net, peer]) {
    one.close();
    await one.settled;
  }
  transport.close();
  // A notification at a function that has been left, for one, would be a violation there.
  assertEquals(await group.stop(), []);
}

Deno.test(
  campaign(
    `1.6 NOTIFICATION_DATA: notifications, which are register writes, go where the device is, over ${MOVES} moves`,
    async () => {
      await moves({ queueSize: 64, interrupts: "none" }, 17, { featuresOn: ["VIRTIO_F_NOTIFICATION_DATA"] });
    },
  ),
);

for (const packed of [false, true]) {
  for (const interrupts of ["none", "msix"] as const) {
    Deno.test(
      campaign(
        `3.6 ${
          packed ? "packed" : "split"
        }, interrupts ${interrupts}: ${MOVES} moves of a driver between two VFs under traffic both ways: every frame once, in order`,
        async () => {
          await moves(
            { queueSize: 64, packed, interrupts, ...(interrupts === "none" ? {} : { wait: "eventfd" }) },
            packed ? 11 : 13,
          );
        },
      ),
    );
  }
}

Deno.test("3.6 a move that fails anywhere leaves the driver where it was, and running", async () => {
  await using group = await Group.start(3);
  const [here, there] = [group.place(1), group.place(2)];
  using transport = new MovableTransport(here.transport);
  const peer = await VirtioNet.open(group.vfs[0]!.transport, { interrupts: "none" });
  const net = await VirtioNet.open(transport, { interrupts: "msix", queuePairs: 1 });
  const traffic = new Traffic(net.mac, peer.mac, 3), back = new Traffic(peer.mac, net.mac, 4);
  const { driverFeatures } = transport;
  const goesOn = async () => {
    traffic.send(peer, 40);
    back.send(net, 40);
    await traffic.drain(net);
    await back.drain(peer);
    assertEquals([traffic.received, back.received], [traffic.sent, back.sent]);
  };
  const fails = async (to: MoveTarget, error: new (...args: never[]) => Error, message: string) => {
    traffic.send(peer, 20);
    back.send(net, 20);
    await assertRejects(() => migrateParts(transport, here.member, to), error, message);
    assertEquals([transport.current, transport.driverFeatures], [here.transport, driverFeatures]);
    assertEquals([here.member.stopped, to.transport.readStatus()], [false, 0]);
    assertEquals(transport.dma.attached, [here.transport.dma]);
    await goesOn();
  };
  await goesOn();
  // An address that is in use over there.
  const own = group.vfs[2]!.device.dma.allocate(4096);
  await fails(there, ExhaustedError, "not free");
  own.close();
  // Interrupts that are on already.
  there.transport.enableInterrupts("msix", 1);
  await fails(there, UsageError, "on already");
  there.transport.disableInterrupts();
  // The owner refuses to set parts, to resume, …
  const refusing = (step: "loadParts" | "setMode", at: number): MoveTarget => {
    let calls = 0;
    const member = new Proxy(there.member, {
      get(target, name) {
        const value = Reflect.get(target, name, target);
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          if (name === step && calls++ === at) {
            return Promise.reject(new TimeoutError(`no answer to ${step}`));
          }
          return value.apply(target, args);
        };
      },
    });
    return { member, transport: there.transport };
  };
  await fails(refusing("loadParts", 0), TimeoutError, "no answer to loadParts");
  await fails(refusing("setMode", 0), TimeoutError, "no answer to setMode");
  const peers = { member: group.admin.member(0), transport: group.vfs[0]!.transport };
  await assertRejects(() => migrateParts(transport, here.member, peers), UsageError, "has a driver already");
  await assertRejects(() => migrateParts(transport, here.member, here), UsageError, "the driver is on");
  await goesOn();
  await migrateParts(transport, here.member, there);
  await goesOn();
  for (const one of [net, peer]) {
    one.close();
    await one.settled;
  }
  transport.close();
  assertEquals(await group.stop(), []);
});

Deno.test("examples/migrate_parts.ts moves a receiver under traffic, with --allow-ffi alone", async () => {
  await using served = await TopologyHost.start([
    { address: PF, kind: "virtio-net", totalVfs: 3, adminQueues: 1 },
  ]);
  const script = new URL("../../../examples/migrate_parts.ts", import.meta.url).pathname;
  const command = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", script, served.host.name, PF, "12"],
    stdin: "null",
    env: { NO_COLOR: "1" },
  });
  const { code, stdout, stderr } = await command.output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  assertMatch(
    new TextDecoder().decode(stdout),
    /^12 moves of [1-9]\d* parts; [1-9]\d* frames, each once and in order, [1-9]\d* under way when moves began\n$/,
  );
  assertEquals(await served.stop(), []);
});
