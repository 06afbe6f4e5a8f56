import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { PeerGoneError, RefusedError } from "../../../lib/errors/mod.ts";
import { assertNothingLeft, settledHoldings } from "../../holdings.ts";
import { campaign, Random, rounds } from "../../random.ts";
import { TopologyHost } from "../drivers/topology_host.ts";
import { ownership } from "../host/served_host.ts";
import { ADDRESSES, type Drivers, frameOf, FUNCTIONS, openAll } from "./killed_devices.ts";

const ROUNDS = rounds(20);
const SCRIPT = new URL("./drive_devices.ts", import.meta.url).pathname;
/** What is ours: descriptors of the runtime come and go. */
const OURS = /memfd|eventfd|vfio|dma/;

/** Opens all, has each do something, and lets go of them. */
async function start(served: TopologyHost): Promise<void> {
  await using owned = new AsyncDisposableStack();
  const drivers = await openAll(served.host, owned, { interrupts: "auto", wait: "eventfd" });
  const { one, two, blk, rng } = drivers;
  assertEquals(Object.values(drivers).map(({ interruptKind }) => interruptKind), [
    "msi",
    "msi",
    "intx",
    "intx",
  ]);
  const frame = frameOf(drivers), bytes = new Random(3).bytes(4096);
  assert(one.send(frame));
  assertEquals(await two.receive(10_000), frame);
  await blk.write(0, bytes);
  assertEquals(await blk.read(0, 8), bytes);
  assertEquals((await rng.read(100)).length, 100);
}

Deno.test(
  campaign(
    `the driver's process is killed ${ROUNDS} times under devices on register windows: the host lets go of it, and the next driver has them`,
    async () => {
      const random = new Random(71);
      await using served = await TopologyHost.start(FUNCTIONS, { alone: true });
      const before = ownership(served.host);
      await start(served);
      const holds = await settledHoldings(served.pid);
      for (let round = 0; round < ROUNDS; round++) {
        const child = new Deno.Command(Deno.execPath(), {
          args: ["run", "--quiet", "--no-check", "--allow-ffi", SCRIPT, served.directory],
          stdin: "null",
          stdout: "piped",
          stderr: "inherit",
        }).spawn();
        const reader = child.stdout.getReader();
        // While it brings them up, or later.
        if (round % 4 !== 3) assertEquals((await reader.read()).value?.length, "driving\n".length);
        await new Promise((resolve) => setTimeout(resolve, random.below(round % 4 !== 3 ? 200 : 600)));
        child.kill("SIGKILL");
        assertEquals((await child.status).signal, "SIGKILL");
        await reader.cancel();
        await start(served);
      }
      assertNothingLeft(await settledHoldings(served.pid), holds, "is left behind in the host");
      assertEquals(served.host.restore().failed, []);
      assertEquals(ownership(served.host), before);
      assertEquals(await served.stop(), []);
    },
  ),
);

/** What is under way when the host dies. Each ends with an error only. */
function work(drivers: Drivers): Promise<never>[] {
  const { one, two, blk, rng } = drivers;
  const frame = frameOf(drivers);
  const forever = async (what: () => Promise<unknown>): Promise<never> => {
    while (true) {
      await what();
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  };
  return [
    forever(async () => {
      one.send(frame);
      await two.receive(Infinity);
    }),
    // Nobody sends to this one.
    forever(() => one.receive(Infinity)),
    forever(async () => {
      await blk.write(0, new Uint8Array(4096));
      await blk.read(8, 8);
    }),
    forever(() => rng.read(5000)),
  ];
}

/** Fails instead of waiting for ever. */
async function inTime(promise: Promise<unknown>, otherwise: string): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(otherwise)), 30_000);
  });
  await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

Deno.test(
  campaign(
    `the host is killed ${ROUNDS} times under drivers of devices on register windows: each wait and call says so, and the next start works`,
    async () => {
      const random = new Random(73);
      await using served = await TopologyHost.start(FUNCTIONS, { alone: true });
      await start(served);
      const before = await settledHoldings("self", OURS);
      for (let round = 0; round < ROUNDS; round++) {
        const interrupts = round % 2 === 0 ? "auto" : "none";
        const wait = (["eventfd", "adaptive", "poll"] as const)[round % 3]!;
        const owned = new AsyncDisposableStack();
        const drivers = await openAll(
          served.host,
          owned,
          interrupts === "none" ? { interrupts } : { interrupts, wait },
        );
        // From outside, so that it comes in the middle of calls of this thread, too.
        const seconds = (random.below(250) / 1000).toFixed(3);
        const killer = new Deno.Command("sh", { args: ["-c", `sleep ${seconds}; kill -9 ${served.pid}`] })
          .spawn();
        const ends = work(drivers).map((one) => assertRejects(() => one, PeerGoneError, "virtio_mmio"));
        await inTime(Promise.all(ends), `a wait or a call did not end with the host, round ${round}`);
        await killer.status;
        for (const { transport } of Object.values(drivers)) {
          assertThrows(() => transport.readStatus(), PeerGoneError);
        }
        await owned.disposeAsync();
        await served.again();
        await start(served);
      }
      assertNothingLeft(await settledHoldings("self", OURS), before);
      assertEquals(await served.stop(), []);
    },
  ),
);

Deno.test("devices on register windows that a process holds are nobody else's, and not bound or put back meanwhile", async () => {
  await using served = await TopologyHost.start(FUNCTIONS);
  const before = ownership(served.host);
  {
    await using owned = new AsyncDisposableStack();
    await openAll(served.host, owned, {});
    for (const address of ADDRESSES) {
      assert(served.host.describe(address).heldBy?.startsWith(`pid ${Deno.pid} `), address);
      assertThrows(() => served.host.bind(address, { driver: "virtio-mmio" }), RefusedError, "in use");
    }
    const { failed } = served.host.restore();
    assert(failed.length >= ADDRESSES.length && failed.every(({ error }) => error instanceof RefusedError));
    for (const address of ADDRESSES) assertEquals(served.host.describe(address).driver, "vfio-platform");
  }
  assertEquals(served.host.restore().failed, []);
  assertEquals(ownership(served.host), before);
});
