/**
 * A forwarder on several processors: what comes in on one network function goes out on the other, and back. Each has a number of queue pairs, and each
 * pair of the one goes with a pair of the other to a Worker of its own, which shares their memory with nobody and copies a frame once.
 *
 * Run it: `deno run --allow-ffi --allow-read=examples examples/forwarder.ts HOST FUNCTION FUNCTION [PAIRS]`, with HOST `linux` or an emulated host's
 * directory. Ctrl-C or SIGTERM ends it: frames that are on their way are sent, then the functions are closed and counts printed. So does a Worker that
 * dies, with status 1.
 *
 * @module
 */
import { openHost, openTransport, VirtioNet } from "@ringside/ringside";

const [hostName, first, second, pairs = "2"] = Deno.args;
if (hostName === undefined || first === undefined || second === undefined) {
  console.error(
    "usage: forwarder.ts HOST FUNCTION FUNCTION [PAIRS]   (HOST: linux, or an emulated host's directory)",
  );
  Deno.exit(2);
}

/** How often somebody looks after the devices, which no Worker does. */
const LOOK_MS = 200;
const SIGNALS = ["SIGINT", "SIGTERM"] as const;

using host = openHost(hostName);
try {
  Deno.exitCode = await forward([first, second], Number(pairs)) ? 0 : 1;
} finally {
  for (const name of [first, second]) host.restore(name);
}

/** Forwards until a signal comes. @returns false when something went wrong */
async function forward(names: readonly [string, string], pairs: number): Promise<boolean> {
  await using stack = new AsyncDisposableStack();
  const open = async (name: string) => {
    host.bind(name);
    const transport = stack.use(openTransport(stack.use(host.open(name))));
    const net = stack.use(await VirtioNet.open(transport, { queuePairs: pairs, lentPairs: pairs }));
    // What is on its way to somebody else is to be taken, too.
    await net.setPromiscuous(true);
    return net;
  };
  const [one, other] = [await open(names[0]), await open(names[1])];
  const nets = [one, other];

  // Not 0: the Workers are to end. They look at it, since a thread that waits for frames gets no messages.
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const end = () => void Atomics.store(stop, 0, 1);
  let failure: string | null = null;
  const fail = (why: string) => {
    failure ??= why;
    end();
  };
  for (const signal of SIGNALS) Deno.addSignalListener(signal, end);
  stack.defer(() => {
    for (const signal of SIGNALS) Deno.removeSignalListener(signal, end);
  });
  // No Worker looks after a device. When it has stopped, or its process is gone, closing it is what its Workers hear.
  const looks = setInterval(() => {
    try {
      for (const net of nets) net.service();
    } catch (error) {
      clearInterval(looks);
      fail(String(error));
      for (const net of nets) net.close();
    }
  }, LOOK_MS);
  stack.defer(() => clearInterval(looks));

  const workers = Array.from({ length: pairs }, (_, pair) => {
    const worker = new Worker(new URL("./forwarder_worker.ts", import.meta.url), { type: "module" });
    stack.defer(() => worker.terminate());
    worker.postMessage({ stop, one: one.lend(pair), other: other.lend(pair) });
    const [begun, ended] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    worker.onmessage = ({ data }) => (data === "begun" ? begun : ended).resolve();
    worker.onerror = (event) => {
      event.preventDefault();
      fail(`the Worker of pair ${pair}: ${event.message}`);
      begun.resolve();
      ended.resolve();
    };
    return { begun: begun.promise, ended: ended.promise };
  });
  // Before, a pair has no buffers, and what comes for it may be dropped.
  await Promise.all(workers.map(({ begun }) => begun));
  console.log(`${pairs} queue pairs, between ${one.macText} and ${other.macText}`);
  await Promise.all(workers.map(({ ended }) => ended));
  for (const net of nets) {
    const { received, transmitted } = net.statistics();
    console.log(`${net.transport.name}: ${received.frames} frames in, ${transmitted.frames} out`);
  }
  if (failure !== null) console.error(failure);
  return failure === null;
}
