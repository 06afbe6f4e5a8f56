/** `examples/forwarder.ts`, as a user runs it. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { FrameBurst, VirtioNet } from "../../../drivers/net/virtio_net.ts";
import { testFrame } from "../../unit/virtio/model_net.ts";
import { TopologyHost } from "../../emulated/drivers/topology_host.ts";

const PAIRS = 2;
/** One on each side of the forwarder, and the forwarder's two. */
const [LEFT, IN, OUT, RIGHT] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0", "0000:04:00.0"] as const;
const SCRIPT = new URL("../../../examples/forwarder.ts", import.meta.url).pathname;

/** The forwarder, which has begun. */
class Forwarder implements AsyncDisposable {
  readonly child: Deno.ChildProcess;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly #errors: Promise<string>;
  text = "";

  constructor(directory: string) {
    this.child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-check",
        "--allow-ffi",
        "--allow-read",
        SCRIPT,
        directory,
        IN,
        OUT,
        String(PAIRS),
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#output = this.child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#errors = new Response(this.child.stderr).text();
  }

  /** Reads until it has printed a line. */
  async begun(): Promise<void> {
    while (!this.text.includes("\n")) {
      const { value, done } = await this.#output.read();
      if (done) throw new Error(`the forwarder ended: ${await this.#errors}`);
      this.text += value;
    }
  }

  /** Reads until it has ended. @returns what it printed as errors */
  async ended(): Promise<{ readonly code: number; readonly errors: string }> {
    for (let next = await this.#output.read(); !next.done; next = await this.#output.read()) {
      this.text += next.value;
    }
    const errors = await this.#errors;
    return { code: (await this.child.status).code, errors };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.child.status;
    await this.ended();
  }
}

/** @param lie of the function on the right that the forwarder has */
function functions(lie?: string): Record<string, unknown>[] {
  const one = (address: string, name: string) => ({
    address,
    kind: "virtio-net",
    totalVfs: 0,
    switch: name,
    queuePairs: PAIRS,
  });
  const out = { ...one(OUT, "right"), ...(lie === undefined ? {} : { lie }) };
  return [one(LEFT, "left"), one(IN, "left"), out, one(RIGHT, "right")];
}

/** A frame of one of many flows, to an address that on the sender's side only the forwarder takes. */
function frame(flow: number, serial: number, to: Uint8Array, from: Uint8Array): Uint8Array {
  const bytes = testFrame(64 + serial % 900, serial);
  bytes.set(to);
  bytes.set(from, 6);
  bytes.set([0x08, 0x00, 0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, flow], 12);
  new DataView(bytes.buffer).setUint32(50, serial);
  return bytes;
}

/** Sends frames at one end and takes them at the other, each byte compared. */
async function through(from: VirtioNet, to: VirtioNet, count: number): Promise<void> {
  const burst = new FrameBurst(32);
  const [tx, rx] = [from.tx[0]!, to.rx[0]!];
  const waiting = new Map<number, Uint8Array>();
  const scratch = new Uint8Array(2048);
  let sent = 0, idle = 0;
  while (sent < count || waiting.size > 0) {
    while (sent < count && waiting.size < 48) {
      const slot = tx.reserve();
      if (slot < 0) break;
      const bytes = frame(sent % 61, sent, to.mac, from.mac);
      tx.frame(slot).set(bytes);
      tx.send(slot, bytes.length);
      waiting.set(sent++, bytes);
    }
    tx.flush();
    const frames = rx.receiveBurst(burst);
    for (let i = 0; i < frames; i++) {
      const length = rx.copyFrame(burst, i, scratch);
      const serial = new DataView(scratch.buffer).getUint32(50);
      assertEquals(scratch.subarray(0, length), waiting.get(serial));
      waiting.delete(serial);
    }
    rx.recycle(burst);
    idle = frames === 0 ? idle + 1 : 0;
    if (idle > 100) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      assert(idle < 20_000, `${waiting.size} frames did not come out`);
    }
  }
}

Deno.test("the forwarder passes every frame on, both ways, with a Worker a queue pair; SIGTERM ends it in order, with counts", async () => {
  await using served = await TopologyHost.start(functions());
  {
    await using forwarder = new Forwarder(served.directory);
    await forwarder.begun();
    using left = served.reach(LEFT);
    using right = served.reach(RIGHT);
    await using a = await VirtioNet.open(left.transport);
    await using b = await VirtioNet.open(right.transport);
    await through(a, b, 1500);
    await through(b, a, 1500);
    forwarder.child.kill("SIGTERM");
    const { code, errors } = await forwarder.ended();
    assertEquals([code, errors], [0, ""]);
    const counts = [...forwarder.text.matchAll(/^(\S+): (\d+) frames in, (\d+) out$/gm)].map((all) =>
      all.slice(1)
    );
    assertEquals(counts, [[IN, "1500", "1500"], [OUT, "1500", "1500"]]);
    // The function can be had again at once.
    using again = served.reach(IN);
    await using net = await VirtioNet.open(again.transport);
    assertEquals(net.linkUp, true);
  }
  assertEquals(await served.stop(), []);
});

Deno.test("a Worker that dies of a lying device ends the forwarder in order: the other Worker ends, the functions are free, status 1", async () => {
  await using served = await TopologyHost.start(functions("used-id-out-of-range:40"));
  {
    await using forwarder = new Forwarder(served.directory);
    await forwarder.begun();
    using left = served.reach(LEFT);
    await using a = await VirtioNet.open(left.transport);
    let ended = false;
    const end = forwarder.ended().finally(() => ended = true);
    for (let serial = 0; !ended; serial++) {
      a.send(frame(serial % 61, serial, Uint8Array.of(2, 0, 0, 0, 0, 9), a.mac));
      if (serial % 16 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const { code, errors } = await end;
    assertEquals(code, 1);
    assertMatch(errors, /^the Worker of pair \d: Uncaught DeviceError: .* queue \d/m);
    assertMatch(forwarder.text, new RegExp(`^${IN}: \\d+ frames in, \\d+ out$`, "m"));
    using again = served.reach(OUT);
    assertEquals(again.transport.closed, false);
  }
  assertEquals(await served.stop(), []);
});

Deno.test("the host's process is killed: the forwarder ends, status 1", async () => {
  await using served = await TopologyHost.start(functions(), { alone: true });
  await using forwarder = new Forwarder(served.directory);
  await forwarder.begun();
  await served.kill();
  const { code, errors } = await forwarder.ended();
  assertEquals(code, 1);
  // Who hears of it first: whoever looks after the device, or a Worker whose pair was taken back at that.
  assertMatch(errors, /PeerGoneError|it was taken back by its owner/);
});
