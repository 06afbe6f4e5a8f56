/** What becomes of VFs and of the host when a PF is reset, closed, or its process killed. */
import { assert, assertEquals, assertGreaterOrEqual, assertNotEquals } from "@std/assert";
import { Igb, type NetDevice } from "../../drivers/net/igb/igb.ts";
import { IgbVf } from "../../drivers/net/igb/igbvf.ts";
import { TestFrames } from "../../drivers/net/virtio/test_frames.ts";
import { ClosedError } from "../../lib/errors/mod.ts";
import { anyPathTest, ID, physicalFunction, snapshot } from "./guest_host.ts";
import { LINK_MS, pfAndVfs, TOKEN } from "./igb_rig.ts";

/** `--env RINGSIDE_IGB_RESETS=20` is the whole campaign. */
const RESETS = Number(Deno.env.get("RINGSIDE_IGB_RESETS") ?? 2);
const BURST = 16;

/** Frames from one to another without end; those that are lost in a reset are missed, but none may come that is not as it was sent. */
class Traffic {
  received = 0;
  corrupted = 0;
  #stop = false;
  #error: unknown;
  readonly #done: Promise<void>;

  constructor(from: NetDevice, to: NetDevice) {
    this.#done = this.#run(from, to);
    // It is told by whoever waits for frames, and at the end.
    this.#done.catch((error) => this.#error = error);
  }

  async #run(from: NetDevice, to: NetDevice): Promise<void> {
    const frames = new TestFrames(to.mac, from.mac, 64, 1514);
    const bytes = new Uint8Array(1514);
    for (let number = 0; !this.#stop;) {
      try {
        for (let at = 0; at < BURST && from.send(bytes.subarray(0, frames.fill(number, bytes))); at++) {
          number++;
        }
        for (let got = await to.receive(0); got !== undefined; got = await to.receive(0)) {
          if (!frames.isOurs(got, 0, got.length)) continue;
          const its = new DataView(got.buffer).getUint32(14, true);
          if (frames.mismatch(its, got, 0, got.length) >= 0) this.corrupted++;
          this.received++;
        }
      } catch (error) {
        // One of them is being reset.
        if (!(error instanceof ClosedError)) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }

  /** Waits for so many more. */
  async flows(frames: number): Promise<void> {
    const end = performance.now() + LINK_MS, wanted = this.received + frames;
    while (this.received < wanted) {
      if (this.#error !== undefined) throw this.#error;
      assert(performance.now() < end, `${this.received} of ${wanted} frames came`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop = true;
    await this.#done;
  }
}

anyPathTest("igb: a PF is reset, and closed and opened again, under its VFs' traffic", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { pf, owner, devices } = await pfAndVfs(host, path, 2, stack);
  const [a, b] = [
    stack.use(await IgbVf.open(devices[0]!, { wait: "eventfd" })),
    stack.use(await IgbVf.open(devices[1]!, { wait: "eventfd" })),
  ];
  for (const one of [pf, a, b]) assert(await one.waitLink(LINK_MS));
  const macs = [a.mac, b.mac];
  for (const vf of [a, b]) await vf.setMac(vf.mac);
  const begun = async (traffic: Traffic) => {
    for (const vf of [a, b]) {
      assertEquals(vf.pfReady, false);
      await vf.reset();
    }
    for (const vf of [a, b]) assert(await vf.waitLink(LINK_MS));
    await traffic.flows(100);
    assertEquals([traffic.corrupted, a.mac, b.mac], [0, ...macs]);
  };
  await using traffic = new Traffic(a, b);
  for (let round = 0; round < RESETS; round++) {
    await traffic.flows(100);
    await pf.reset();
    await begun(traffic);
  }
  assertEquals(pf.statistics().resets, RESETS);
  // Suspended: it is closed, and opened again later.
  pf.close();
  await pf.settled;
  const again = stack.use(await Igb.open(owner, { vfs: 2, wait: "eventfd" }));
  const serving = again.serveVfs();
  stack.defer(() => {
    again.close();
    return serving;
  });
  await begun(traffic);
  assertGreaterOrEqual(traffic.received, 100 * (2 * RESETS + 1));
});

/** Where a bring-up ends, and by what. A process takes seconds to start here: the later ones are for `--env RINGSIDE_IGB_ENDS=7`. */
const ENDS = ([
  ["reset", "SIGKILL"],
  ["rings", "throw"],
  ["vf", "exit"],
  ["vfs", "SIGKILL"],
  ["vf", "SIGKILL"],
  ["rings", "SIGKILL"],
  ["bound", "SIGKILL"],
] as const).slice(0, Number(Deno.env.get("RINGSIDE_IGB_ENDS") ?? 3));

anyPathTest(
  "igb: a bring-up that is killed, throws or exits leaves a host that restore puts back",
  async (host, path) => {
    const pf = physicalFunction(ID.igb);
    const before = snapshot();
    for (const [at, how] of ENDS) {
      const { code, signal, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          ...["run", "--quiet", "--no-check", "--cached-only", "-A"],
          new URL("./igb_bring_up.ts", import.meta.url).pathname,
          ...[pf, path, TOKEN, at, how],
        ],
        stdin: "null",
      }).output();
      const said = new TextDecoder().decode(stderr);
      assertEquals(
        [signal, code],
        how === "SIGKILL" ? ["SIGKILL", 137] : [null, how === "exit" ? 3 : 1],
        said,
      );
      assertEquals(said.includes(`ends here: ${at}`), true, said);
      assertNotEquals(snapshot(), before, `${at} ${how}`);
      assertEquals(host.restore().failed, [], `${at} ${how}`);
      assertEquals([snapshot(), host.journal()], [before, []], `${at} ${how}`);
    }
  },
);
