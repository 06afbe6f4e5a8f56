/**
 * `ringside console`
 *
 * @module
 */
import { type ConsolePort, VirtioConsole } from "../drivers/console/virtio_console.ts";
import type { Host } from "../lib/host/mod.ts";
import { interruption } from "./interruption.ts";
import { OutputClosedError, print, printJson, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { reach } from "./reaching.ts";

const PORT_WAIT_MS = 5000;
/** How often a read looks whether the command shall end. */
const LOOK_MS = 200;
/** Ctrl-], as in telnet. */
const LEAVE = 0x1d;

/** Connects standard input and output to a port. */
export async function consoleBridge(host: Host, options: Of<"console">): Promise<number> {
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const { interrupts } = options;
  const console = stack.use(await VirtioConsole.open(await reach(host, options, stack), { interrupts }));
  if (options.list) {
    await list(console, options.json);
    return 0;
  }
  const port = await console.waitPort(options.port, PORT_WAIT_MS);
  port.open();
  const terminal = Deno.stdin.isTerminal();
  if (terminal) {
    remark(`port ${port.index}${port.name === "" ? "" : ` (${port.name})`}; Ctrl-] leaves`);
    Deno.stdin.setRaw(true);
  }
  try {
    await bridge(port, options.lingerMs, stop.signal);
  } finally {
    if (terminal) Deno.stdin.setRaw(false);
  }
  return stop.exitStatus;
}

/** Until standard input has ended and nothing more came for a while, the peer has closed, or the user has seen enough. */
async function bridge(port: ConsolePort, lingerMs: number, signal: AbortSignal): Promise<void> {
  let leave = false;
  let inputEnded = false;
  let failure: { readonly error: unknown } | undefined;
  const input = async () => {
    const bytes = new Uint8Array(4096);
    for (;;) {
      const count = await Deno.stdin.read(bytes);
      if (count === null) break;
      const escape = Deno.stdin.isTerminal() ? bytes.subarray(0, count).indexOf(LEAVE) : -1;
      await port.write(bytes.slice(0, escape < 0 ? count : escape));
      if (escape < 0) continue;
      leave = true;
      break;
    }
    if (!port.closed) await port.drain();
    inputEnded = true;
  };
  // Not awaited: a read of standard input cannot be taken back. The process ends with the command.
  void input().catch((error) => failure = { error });
  let silentSince = performance.now();
  let seen = port.peerOpen;
  while (!leave && !signal.aborted) {
    if (failure !== undefined) throw failure.error;
    const bytes = await port.read(inputEnded ? Math.min(LOOK_MS, lingerMs) : LOOK_MS);
    const now = performance.now();
    if (bytes !== undefined) {
      put(bytes);
      silentSince = now;
    } else if (seen && !port.peerOpen) return;
    else if (inputEnded && now - silentSince >= lingerMs) return;
    if (!inputEnded) silentSince = now;
    seen ||= port.peerOpen;
  }
}

function put(bytes: Uint8Array): void {
  try {
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
  } catch (cause) {
    if (cause instanceof Deno.errors.BrokenPipe) throw new OutputClosedError("standard output is closed");
    throw cause;
  }
}

/** Ports that the device has announced when it has had time to. */
async function list(console: VirtioConsole, json: boolean): Promise<void> {
  while (await console.waitChange(LOOK_MS));
  const ports = console.ports.map((port) => ({
    port: port.index,
    name: port.name,
    console: port.isConsole,
    open: port.peerOpen,
    size: port.size ?? null,
  }));
  if (json) return printJson({ function: console.transport.name, multiport: console.multiport, ports });
  for (const { port, name, console, open, size } of ports) {
    const facts = [
      ...(console ? ["console"] : []),
      open ? "peer is there" : "no peer",
      ...(size === null ? [] : [`${size.cols} × ${size.rows}`]),
    ];
    print(`port ${port}  ${name === "" ? "-" : name}  ${facts.join(", ")}`);
  }
}
