/**
 * `ringside ism FUNCTION pipe`
 *
 * @module
 */
import type { VirtioIsm } from "../../drivers/ism/virtio_ism.ts";
import { IsmChannel } from "../../drivers/ism/ism_channel.ts";
import { removeFile, replaceFile, SyscallError } from "../../ffi/mod.ts";
import { UsageError } from "../../lib/errors/mod.ts";
import type { Host } from "../../lib/host/mod.ts";
import { EXIT } from "../exit.ts";
import { exitStatus, failureJson, failureText } from "../failure.ts";
import { interruption } from "../interruption.ts";
import { bytesText, jsonText, print, remark } from "../output.ts";
import type { Of } from "../parser.ts";
import { progress } from "../progress.ts";
import { openIsm } from "./opening.ts";
import { type Passed, receiveOutput, sendInput } from "./pump.ts";
import { tokenText } from "./token.ts";

type Options = Of<"ism pipe">;

/** Moves standard input of one process to standard output of another. @returns the exit status */
export async function ismPipe(host: Host, options: Options): Promise<number> {
  const sends = isSender(options);
  try {
    await run(host, options, sends);
    return EXIT.ok;
  } catch (error) {
    if (sends) throw error;
    // Who reads our pipe has seen enough, as with `| head`.
    if (error instanceof SyscallError && error.code === "EPIPE" && error.call === "write") return EXIT.ok;
    // Standard output is the stream: nothing is said there.
    remark(failureText(error, options.host));
    if (options.json) remark(jsonText(failureJson(error, options.host)));
    return exitStatus(error);
  }
}

function isSender({ token, listen, send, receive, tokenFile, bytes, peer }: Options): boolean {
  if (listen === (token !== undefined)) {
    throw new UsageError(listen ? "--listen makes a token and takes none" : "a pipe has two sides", {
      hint: "one side has --listen, the other one the TOKEN that it prints",
    });
  }
  if (!listen && (tokenFile ?? bytes ?? peer) !== undefined) {
    throw new UsageError("--token-file, --bytes and --peer go with --listen");
  }
  if (send && receive) throw new UsageError("--send and --receive exclude each other");
  return send || (!receive && !listen);
}

async function run(host: Host, options: Options, sends: boolean): Promise<void> {
  using stop = interruption();
  await using stack = new AsyncDisposableStack();
  const ism = await openIsm(host, options, stack);
  try {
    const { token, wait } = options;
    const channel =
      await (token === undefined ? listen(ism, options, stack) : IsmChannel.connect(ism, token, { wait }));
    // Signals end waits by ending what is waited for; the other side is told that this is not all.
    const giveUp = () => channel.abort();
    stop.signal.addEventListener("abort", giveUp);
    try {
      stop.signal.throwIfAborted();
      if (token === undefined) await channel.waitPeer();
      const startMs = performance.now();
      const passed = await pump(channel, options, sends, stop.signal);
      await channel.close();
      tell(options, ism, channel, passed, sends, (performance.now() - startMs) / 1000);
    } catch (error) {
      channel.abort();
      throw error;
    } finally {
      stop.signal.removeEventListener("abort", giveUp);
    }
  } catch (error) {
    stop.signal.throwIfAborted();
    throw error;
  }
}

async function listen(
  ism: VirtioIsm,
  { wait, bytes, peer, tokenFile: file, json }: Options,
  stack: AsyncDisposableStack,
): Promise<IsmChannel> {
  const channel = await IsmChannel.create(ism, { wait, capacityBytes: bytes, peer });
  const token = tokenText(channel.token);
  if (file !== undefined) {
    replaceFile(file, new TextEncoder().encode(`${token}\n`), 0o600);
    stack.defer(() => removeFile(file));
  }
  remark(json ? jsonText({ token }, 0) : `token ${token}`);
  return channel;
}

async function pump(
  channel: IsmChannel,
  options: Options,
  sends: boolean,
  signal: AbortSignal,
): Promise<Passed> {
  // Bytes and a meter on one terminal would be a mess.
  const quiet = options.json || (!sends && Deno.stdout.isTerminal());
  using shown = await progress(sends ? "sending" : "receiving", undefined, "bytes", quiet);
  const how = { channel, meter: shown, signal, sha256: options.sha256 };
  return await (sends ? sendInput(how) : receiveOutput(how));
}

function tell(
  options: Options,
  ism: VirtioIsm,
  channel: IsmChannel,
  { bytes, sha256 }: Passed,
  sends: boolean,
  seconds: number,
): void {
  const say = sends ? print : remark;
  const { name } = ism.transport;
  const { notifications, sleeps } = channel.statistics;
  if (options.json) {
    const [token, direction] = [tokenText(channel.token), sends ? "send" : "receive"];
    say(jsonText({
      function: name,
      token,
      direction,
      bytes,
      seconds,
      notifications,
      sleeps,
      sha256,
    }));
    return;
  }
  const rate = seconds > 0 ? ` (${bytesText(Math.round(bytes / seconds))}/s)` : "";
  say(`${name}: ${bytesText(bytes)} ${sends ? "sent" : "received"} in ${seconds.toFixed(2)} s${rate}`);
  if (sha256 !== undefined) say(`sha256 ${sha256}`);
}
