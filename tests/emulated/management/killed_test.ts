import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { VirtioBlk } from "../../../drivers/blk/virtio_blk.ts";
import { VirtioManagement } from "../../../drivers/management/virtio_management.ts";
import { VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { VirtioRng } from "../../../drivers/rng/virtio_rng.ts";
import { PeerGoneError } from "../../../lib/errors/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { BLK_CONFIG } from "../../../lib/virtio/spec/blk.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { type Reached, TopologyHost } from "../drivers/topology_host.ts";
import { BLK, MANAGEMENT, NET, RINGS } from "./managed_types.ts";

const ROUNDS = rounds(50);
const SCRIPT = new URL("./drive_managed.ts", import.meta.url).pathname;
const FUNCTIONS = [{ address: MANAGEMENT, kind: "virtio-management", switch: "s0" }];
/** What is ours: descriptors of the runtime come and go. */
const OURS = /memfd|eventfd|vfio|dma/;

/** Opens the management function, has a network device send and an entropy device give, and lets go of it all. */
async function start(served: TopologyHost, resources: unknown): Promise<void> {
  using fn = served.reach(MANAGEMENT, { profile: "transport-vq" });
  await using management = await VirtioManagement.open(fn.transport, { function: fn.device });
  assertEquals([await management.resources(), management.devices], [resources, []]);
  const net = management.openTransport((await management.create({ type: 1, features: NET })).id);
  const rng = management.openTransport((await management.create({ type: 4, features: RINGS })).id);
  {
    await using one = await VirtioNet.open(net, { interrupts: "msix" });
    await using two = await VirtioRng.open(rng, { interrupts: "msix" });
    one.send(new Uint8Array(60).fill(0xff, 0, 6));
    assertEquals(await one.waitTransmit(5000), true);
    assertEquals((await two.read(100)).length, 100);
  }
  net.close();
  rng.close();
}

async function resourcesOf(served: TopologyHost): Promise<unknown> {
  using fn = served.reach(MANAGEMENT, { profile: "transport-vq" });
  await using management = await VirtioManagement.open(fn.transport, { function: fn.device });
  return await management.resources();
}

Deno.test(
  campaign(
    `the driver's process is killed ${ROUNDS} times with managed devices alive, anywhere: the host ends them all, and the next driver has all of it`,
    async () => {
      const random = new Random(61);
      await using served = await TopologyHost.start(FUNCTIONS, { alone: true });
      const { directory, pid } = served;
      using sysfs = new SocketSysfs(`${directory}/host.sock`, 20_000);
      const look = () => [sysfs.readText("/ringside/managed"), sysfs.readText("/ringside/switch")];
      const resources = await resourcesOf(served);
      await start(served, resources);
      const before = look();
      const holds = await settledHoldings(pid);
      let alive = 0;
      for (let round = 0; round < ROUNDS; round++) {
        const child = new Deno.Command(Deno.execPath(), {
          args: ["run", "--quiet", "--no-check", "--allow-ffi", SCRIPT, directory],
          stdin: "null",
          stdout: "piped",
          stderr: "inherit",
        }).spawn();
        const reader = child.stdout.getReader();
        // While it brings them up, or later, when it drives and replaces them.
        if (round % 2 === 0) assertEquals((await reader.read()).value?.length, "driving\n".length);
        await new Promise((resolve) => setTimeout(resolve, random.below(round % 2 === 0 ? 200 : 600)));
        if (look()[0] !== "") alive++;
        child.kill("SIGKILL");
        assertEquals((await child.status).signal, "SIGKILL");
        await reader.cancel();
        for (let looks = 0; look()[0] !== ""; looks++) {
          assert(looks < 1000, `devices without a driver: ${look()[0]}`);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        await start(served, resources);
        assertEquals(look(), before);
      }
      assertNothingLeft(await settledHoldings(pid), holds, "is left behind in the host");
      // Every other round begins with devices that run, unless it comes between two lives; the others may be too early on a busy machine.
      // A few rounds say nothing of that.
      assert(ROUNDS < 20 || alive >= ROUNDS / 4, `devices were alive at ${alive} of ${ROUNDS} kills`);
      assertEquals(await served.stop(), []);
    },
  ),
);

/** Fails instead of waiting for ever. */
async function inTime(promise: Promise<unknown>, otherwise: string): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(otherwise)), 30_000);
  });
  await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** What a driver's process does with a management function, all at once. Each of it ends with an error only. */
function work(management: VirtioManagement, owned: AsyncDisposableStack, round: number): Promise<never>[] {
  const interrupts = round % 2 === 0 ? "msix" : "none";
  const wait = (["eventfd", "adaptive", "poll"] as const)[round % 3]!;
  const options = interrupts === "none" ? { interrupts } as const : { interrupts, wait } as const;
  const open = async (type: number, features: bigint, config?: Uint8Array) => {
    const { id } = await management.create({ type, features, config });
    return { id, transport: owned.use(management.openTransport(id)) };
  };
  const forever = async (what: () => Promise<unknown>): Promise<never> => {
    while (true) {
      await what();
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  };
  return [
    (async () => {
      const one = owned.use(await VirtioNet.open((await open(1, NET)).transport, options));
      const two = owned.use(await VirtioNet.open((await open(1, NET)).transport, options));
      const frame = Uint8Array.of(...two.mac, ...one.mac, ...new Uint8Array(100));
      return await forever(async () => {
        one.send(frame);
        await two.receive(Infinity);
      });
    })(),
    (async () => {
      // Nobody sends to this one.
      const idle = owned.use(await VirtioNet.open((await open(1, NET)).transport, options));
      return await forever(() => idle.receive(Infinity));
    })(),
    (async () => {
      const capacity = BLK_CONFIG.encode({ capacity: 64n });
      const blk = owned.use(await VirtioBlk.open((await open(2, BLK, capacity)).transport, options));
      return await forever(async () => {
        await blk.write(0, new Uint8Array(4096));
        await blk.read(8, 8);
      });
    })(),
    forever(async () => {
      const { id, transport } = await open(4, RINGS);
      const rng = owned.use(await VirtioRng.open(transport, options));
      await rng.read(100);
      rng.close();
      transport.close();
      await management.destroy(id);
    }),
    forever(() => management.resources()),
  ];
}

Deno.test(
  campaign(
    `the management function's host is killed ${ROUNDS} times under drivers of managed devices, anywhere: each wait and call says so, and the next start works`,
    async () => {
      const random = new Random(67);
      await using served = await TopologyHost.start(FUNCTIONS, { alone: true });
      const resources = await resourcesOf(served);
      await start(served, resources);
      const before = await settledHoldings("self", OURS);
      for (let round = 0; round < ROUNDS; round++) {
        // From outside, so that it comes in the middle of calls of this thread, too.
        const seconds = (random.below(250) / 1000).toFixed(3);
        const fn: Reached = served.reach(MANAGEMENT, { profile: "transport-vq" });
        const management = await VirtioManagement.open(fn.transport, { function: fn.device });
        const killer = new Deno.Command("sh", { args: ["-c", `sleep ${seconds}; kill -9 ${served.pid}`] })
          .spawn();
        const owned = new AsyncDisposableStack();
        const ends = work(management, owned, round).map((one) =>
          assertRejects(() => one, PeerGoneError, MANAGEMENT)
        );
        await inTime(Promise.all(ends), `a wait or a call did not end with the host, round ${round}`);
        await killer.status;
        await assertRejects(() => management.resources(), PeerGoneError);
        assertThrows(() => management.resourcesNow(), PeerGoneError);
        for (const { id } of management.devices) {
          assertThrows(() => management.device(id).now.status(), PeerGoneError);
        }
        await owned.disposeAsync();
        management.close();
        await management.settled;
        fn[Symbol.dispose]();
        await served.again();
        await start(served, resources);
      }
      assertNothingLeft(await settledHoldings("self", OURS), before);
      assertEquals(await served.stop(), []);
    },
  ),
);
