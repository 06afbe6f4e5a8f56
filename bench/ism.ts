/**
 * A channel in a virtio-ism region beside a UNIX socket and a pipe, between the same two processes.
 *
 * One way: this process sends messages, the other takes what comes and answers when it has had the last byte. Round trip: one message goes there and
 * comes back. `polled` looks all the time on both sides; `asleep` sleeps whenever there is nothing, and is woken through the device, whose
 * process takes part in that.
 *
 * @module
 */
import { VirtioIsm } from "../drivers/ism/virtio_ism.ts";
import { IsmChannel } from "../drivers/ism/ism_channel.ts";
import { bytesText } from "../cli/output.ts";
import { O, OwnedFd, processId, UnixListener, type UnixSocket } from "../ffi/mod.ts";
import { DeviceError } from "../lib/errors/mod.ts";
import { EmulatedHost } from "../lib/host/emulated_host.ts";
import { openTransport } from "../lib/virtio/mod.ts";
import type { BenchRun } from "./bench_run.ts";
import {
  ChannelMedium,
  encodeTask,
  MEDIA,
  type Medium,
  pause,
  PAUSE_US,
  PipeMedium,
  receiveAll,
  SocketMedium,
  type Task,
} from "./ism_media.ts";
import { anonymousBytes, liveHeapBytes } from "./heap.ts";
import { inTurn } from "./in_turn.ts";
import { accept, endProcess, startScript, useDirectory, useEmulatedHost } from "./processes.ts";
import { compare, type Figure, rounds, samples, type Section, single } from "./report.ts";

const HERE = "0000:01:00.0", THERE = "0000:02:00.0";
const KIB = 1024, MIB = 1024 * KIB;
const SIZES = [64, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB];
const ROUND_TRIP_BYTES = 64;
const [POLLED, ASLEEP, SOCKET, SOCKET_POLLED, PIPE] = [0, 1, 2, 3, 4] as const;

/** The media on this side, and the other process's ear. */
interface Pair {
  readonly media: readonly Medium[];
  /** The channel that sleeps. */
  readonly asleep: IsmChannel;
  readonly control: UnixSocket;
  readonly pids: { readonly peer: number; readonly device: number };
}

/** One way, there and back, and memory. */
export async function benchIsm(run: BenchRun): Promise<Section[]> {
  await using stack = new AsyncDisposableStack();
  const pair = await usePair(stack, run);
  return [await oneWay(run, pair), await roundTrip(run, pair), await memory(run, pair)];
}

async function oneWay(run: BenchRun, pair: Pair): Promise<Section> {
  const figures: Figure[] = [];
  for (const size of SIZES) {
    const compared = [POLLED, ASLEEP, SOCKET, PIPE];
    const most = run.pick(256, 8) * MIB;
    const total = size * Math.ceil(Math.min(most, size * run.pick(200_000, 5000)) / size);
    const message = new Uint8Array(size).map((_, i) => i * 7);
    const works = Object.fromEntries(
      compared.map((medium) => [medium, () => total / send(pair, medium, message, total)]),
    );
    const measured = await inTurn(run, works, { count: run.pick(5, 1) });
    const speed = (medium: number) => rounds("bytes per second", measured[medium]!);
    for (const medium of [POLLED, ASLEEP]) {
      figures.push({
        name: `${bytesText(size)}, ${MEDIA[medium]}`,
        value: speed(medium),
        beside: [SOCKET, PIPE].map((other) => compare(speed(medium), MEDIA[other]!, speed(other))),
      });
    }
  }
  return {
    title: "Bytes per second one way between two processes, by size of a message",
    figures,
    notes: [
      "channel: two rings of 1 MiB in a virtio-ism region; the receiver takes up to 256 KiB at once everywhere",
    ],
  };
}

async function roundTrip(run: BenchRun, pair: Pair): Promise<Section> {
  const count = run.pick(5000, 250);
  const block = 250;
  const message = new Uint8Array(ROUND_TRIP_BYTES);
  const times: number[][] = MEDIA.map(() => []);
  const slept = pair.asleep.statistics.sleeps;
  for (let done = -block; done < count; done += block) {
    for (const medium of MEDIA.keys()) {
      const sampled = echo(pair, medium, message, block);
      if (done >= 0) times[medium]!.push(...sampled);
      await run.turn();
    }
  }
  const of = (medium: number) => samples("microseconds", times[medium]!);
  const figure = (medium: number, beside: readonly number[], note?: string): Figure => ({
    name: MEDIA[medium]!,
    value: of(medium),
    beside: beside.map((other) => compare(of(medium), MEDIA[other]!, of(other))),
    note,
  });
  const share = (pair.asleep.statistics.sleeps - slept) / (count + block);
  return {
    title: `Round trip of ${ROUND_TRIP_BYTES} bytes between two processes`,
    figures: [
      figure(POLLED, [SOCKET_POLLED, SOCKET, PIPE]),
      figure(ASLEEP, [SOCKET, PIPE], `this side slept in ${(100 * share).toFixed(0)} % of them`),
    ],
    notes: [
      `each side works for ${PAUSE_US} µs before it sends, so that the other has gone to sleep; the answering side's are not counted`,
      "asleep: a side offers its processor once, then sleeps; it is woken by the device's process (by a vector), which is woken first",
    ],
  };
}

async function memory(run: BenchRun, pair: Pair): Promise<Section> {
  const messages = run.pick(1_000_000, 50_000);
  const message = new Uint8Array(4 * KIB);
  const state = () => ({
    heap: liveHeapBytes(),
    own: anonymousBytes(processId()),
    peer: anonymousBytes(pair.pids.peer),
    device: anonymousBytes(pair.pids.device),
  });
  const move = async (count: number) => {
    for (let done = 0; done < count; done += 20_000) {
      send(pair, POLLED, message, message.length * Math.min(20_000, count - done));
      await run.turn();
    }
  };
  await move(messages / 5);
  const before = state();
  await move(messages);
  const after = state();
  const figure = (name: string, key: keyof typeof before): Figure => ({
    name,
    value: single("bytes", after[key]),
    beside: [compare(single("bytes", after[key]), "before", single("bytes", before[key]))],
    note: `${((after[key] - before[key]) / messages).toFixed(2)} bytes a message`,
  });
  return {
    title: `Memory of a channel after ${messages} messages of 4 KiB`,
    figures: [
      figure("sender, live heap", "heap"),
      figure("sender, private pages", "own"),
      figure("receiver, private pages", "peer"),
      figure("emulated host, private pages", "device"),
    ],
    notes: ["live heap: after a forced collection; private pages: RssAnon"],
  };
}

/** @returns seconds until the other process had all */
function send(pair: Pair, medium: number, message: Uint8Array<ArrayBuffer>, total: number): number {
  const out = pair.media[medium]!;
  begin(pair, { work: "sink", medium, bytes: total, count: 0 });
  const start = performance.now();
  for (let sent = 0; sent < total; sent += message.length) out.send(message);
  end(pair);
  return (performance.now() - start) / 1000;
}

/** @returns microseconds of each, without what the other side works before it answers */
function echo(pair: Pair, medium: number, message: Uint8Array<ArrayBuffer>, count: number): number[] {
  const out = pair.media[medium]!;
  const back = new Uint8Array(message.length);
  begin(pair, { work: "echo", medium, bytes: message.length, count });
  const times = new Array<number>(count);
  for (let i = 0; i < count; i++) {
    pause();
    const start = performance.now();
    out.send(message);
    receiveAll(out, back, back.length);
    times[i] = 1000 * (performance.now() - start) - PAUSE_US;
  }
  end(pair);
  return times;
}

function begin(pair: Pair, task: Task): void {
  pair.control.send(encodeTask(task));
}

function end(pair: Pair): void {
  const answer = pair.control.receive(new Uint8Array(1));
  if (answer?.length !== 1) throw new DeviceError("the other process ended");
}

/** Two functions of a domain, one in this process and one in another, until the stack is disposed of. */
async function usePair(stack: AsyncDisposableStack, run: BenchRun): Promise<Pair> {
  const directory = useDirectory(stack);
  const functions = [HERE, THERE].map((address) => ({ address, kind: "virtio-ism" }));
  const emulated = await useEmulatedHost(stack, run, functions);
  const host = stack.use(EmulatedHost.connect(emulated.directory));
  for (const address of [HERE, THERE]) host.bind(address);
  const transport = stack.use(openTransport(stack.use(host.open(HERE))));
  const ism = stack.use(await VirtioIsm.open(transport, { regionVectors: 1 }));
  const polled = stack.use(await IsmChannel.create(ism, { wait: "poll" }));
  const asleep = stack.use(await IsmChannel.create(ism, { wait: "event", vector: ism.regionVectors[0]! }));
  const there = await pipe(`${directory}/there`), back = await pipe(`${directory}/back`);
  const path = `${directory}/peer.sock`;
  const listener = stack.use(UnixListener.listen(path));
  const tokens = [polled.token, asleep.token].map(String);
  const child = startScript("./ism_peer.ts", {
    args: [emulated.directory, THERE, path, there, back, ...tokens],
    flags: ["--allow-ffi", "--v8-flags=--min-semi-space-size=256,--max-semi-space-size=256"],
  });
  stack.defer(() => endProcess(child));
  const [control, socket] = await accept(stack, listener, 2);
  const [out, incoming] = [there, back].map((name) => stack.use(OwnedFd.open(name, O.RDWR)));
  return {
    media: [
      new ChannelMedium(polled),
      new ChannelMedium(asleep),
      new SocketMedium(socket!, true),
      new SocketMedium(socket!, false),
      new PipeMedium(out!, incoming!),
    ],
    asleep,
    control: control!,
    pids: { peer: child.pid, device: emulated.pid },
  };
}

async function pipe(path: string): Promise<string> {
  const { success } = await new Deno.Command("mkfifo", { args: ["-m", "600", path] }).output();
  if (!success) throw new DeviceError(`mkfifo ${path} failed`);
  return path;
}
