/**
 * DPDK's testpmd: a virtio-net device behind a vhost-user socket, or the driver of one.
 *
 * @module
 */
import { accessible, removeFile } from "../../../ffi/mod.ts";
import { NotFoundError } from "../../../lib/errors/mod.ts";
import { Peer, PeerError } from "./peer.ts";
import { dpdkPlugins, findProgram } from "./programs.ts";

const PROMPT = /testpmd> /;
const DRIVERS = ["mempool_ring", "net_vhost", "net_virtio"];

/** What testpmd does with frames. `io`: one port sends what it receives; `txonly` and `rxonly`: one half. */
export type Forwarding = "io" | "mac" | "txonly" | "rxonly";

/** What both sides have. */
export interface TestpmdOptions {
  /** Path of the UNIX socket. In its folder testpmd keeps what it writes. */
  readonly socket: string;
  /** Processor that all its threads are pinned to. Default 0. */
  readonly cpu?: number;
  /** Queue pairs. Default 1. */
  readonly queues?: number;
  /** Descriptors of a queue: of the port's own, and of the driver's virtqueues. Default 256. */
  readonly descriptors?: number;
  /** Widest vectors it may use, in bits. Default: its own. */
  readonly simdBits?: number;
  /** Arguments of testpmd besides. */
  readonly args?: readonly string[];
}

/** DPDK's vhost device offers what its driver leaves of it; these are its own switches. */
export interface VhostDeviceOptions extends TestpmdOptions {
  /** It connects to a front end that listens, and again when that is gone. */
  readonly client?: boolean;
}

/** DPDK's driver. */
export interface VirtioUserOptions extends TestpmdOptions {
  /** The packed layout. */
  readonly packed?: boolean;
  /** VIRTIO_NET_F_MRG_RXBUF. Default true, as DPDK has it. */
  readonly mergeable?: boolean;
  /** VIRTIO_F_IN_ORDER. Default true, as DPDK has it. */
  readonly inOrder?: boolean;
  /** Loops of vector instructions: not mergeable, and packed in order (split: not). */
  readonly vectorized?: boolean;
  /** Default 00:01:02:03:04:05. */
  readonly mac?: string;
  /** It listens, and the device connects. */
  readonly server?: boolean;
}

/** Counters of a port, as it has them. */
export interface PortCounters {
  readonly rxPackets: number;
  readonly rxBytes: number;
  readonly rxErrors: number;
  readonly rxMissed: number;
  readonly txPackets: number;
  readonly txBytes: number;
  readonly txErrors: number;
}

/** A running testpmd. Its port 0 is the vhost-user one. */
export class Testpmd implements AsyncDisposable {
  /** The process. */
  readonly peer: Peer;
  /** Where its output began that an earlier command's prompt has not ended. */
  #mark = 0;

  private constructor(peer: Peer) {
    this.peer = peer;
  }

  /** A virtio-net device that serves a socket, after the removal of one of that name. @throws NotFoundError; PeerError */
  static async device(options: VhostDeviceOptions): Promise<Testpmd> {
    const { socket, queues = 1, client = false } = options;
    if (!client && accessible(socket)) removeFile(socket);
    return await Testpmd.#start(
      options,
      `net_vhost0,iface=${socket},queues=${queues},client=${Number(client)}`,
    );
  }

  /** The driver of a device that serves the socket. @throws NotFoundError; PeerError, too, when no device answers */
  static async driver(options: VirtioUserOptions): Promise<Testpmd> {
    const { packed = false, mergeable = true, inOrder = true, vectorized = false, server = false } = options;
    const { socket, mac = "00:01:02:03:04:05", queues = 1, descriptors = 256 } = options;
    const parts = [
      "net_virtio_user0",
      `mac=${mac}`,
      `path=${socket}`,
      `queues=${queues}`,
      `queue_size=${descriptors}`,
      `packed_vq=${Number(packed)}`,
      `mrg_rxbuf=${Number(mergeable)}`,
      `in_order=${Number(inOrder)}`,
      ...(vectorized ? ["vectorized=1"] : []),
      ...(server ? ["server=1"] : []),
    ];
    return await Testpmd.#start(options, parts.join(","));
  }

  static async #start(options: TestpmdOptions, device: string): Promise<Testpmd> {
    const { socket, cpu = 0, queues = 1, descriptors = 256, simdBits, args = [] } = options;
    const program = findProgram("dpdk-testpmd");
    if (program === undefined) {
      throw new NotFoundError("dpdk-testpmd is not here", { hint: "run: deno task peers:setup" });
    }
    // A packet is in a port's queue, or in the cache of a thread.
    const packets = 4 * queues * descriptors + 2048;
    const line = [
      // Its thread that reads commands sleeps most of the time.
      ...["--lcores", `0@${cpu},1@${cpu}`, "-n", "1", "--no-pci", "--no-telemetry", "--no-shconf"],
      ...["--no-huge", "-m", "128"],
      ...(simdBits === undefined ? [] : [`--force-max-simd-bitwidth=${simdBits}`]),
      ...dpdkPlugins(program, DRIVERS).flatMap((file) => ["-d", file]),
      ...[`--vdev=${device}`, "--", "-i", "--nb-cores=1", `--rxq=${queues}`, `--txq=${queues}`],
      ...[`--rxd=${descriptors}`, `--txd=${descriptors}`, `--total-num-mbufs=${packets}`],
      // A link that is down is waited for, nine seconds.
      ...["--disable-link-check"],
      // Another thread would print them, in the midst of a prompt.
      ...["--mask-event=all", ...args],
    ];
    // Where it keeps files of its own.
    const env = { RUNTIME_DIRECTORY: socket.slice(0, socket.lastIndexOf("/")) };
    const testpmd = new Testpmd(new Peer(program, line, { cpu, env }));
    try {
      await testpmd.#prompt();
    } catch (error) {
      await testpmd.stop();
      throw error;
    }
    return testpmd;
  }

  /** Gives a command of testpmd. @returns what it printed @throws PeerError when it ends, or says that there is no such command */
  async command(text: string): Promise<string> {
    this.#mark = this.peer.mark;
    await this.peer.write(text);
    const answer = await this.#prompt();
    if (/^(Bad arguments|Command not found|Ambiguous command)/m.test(answer)) {
      throw new PeerError(`testpmd does not take the command ${JSON.stringify(text)}: ${answer.trim()}`);
    }
    return answer;
  }

  /** Begins to move frames. @param burst32 so many bursts of 32 frames are sent before, which go around then */
  async forward(mode: Forwarding, options: { frameBytes?: number; burst32?: number } = {}): Promise<void> {
    await this.command(`set fwd ${mode}`);
    if (options.frameBytes !== undefined) await this.command(`set txpkts ${options.frameBytes}`);
    await this.command(options.burst32 === undefined ? "start" : `start tx_first ${options.burst32}`);
  }

  /** Frames are moved no longer. @returns what testpmd says of them */
  halt(): Promise<string> {
    return this.command("stop");
  }

  /** Counters of port 0, since it was started or cleared. */
  async counters(): Promise<PortCounters> {
    const text = await this.command("show port stats 0");
    const count = (name: string): number => {
      const found = text.match(new RegExp(`${name}:\\s+(\\d+)`));
      if (found === null) throw new PeerError(`testpmd shows no ${name}:\n${text}`);
      return Number(found[1]);
    };
    return {
      rxPackets: count("RX-packets"),
      rxBytes: count("RX-bytes"),
      rxErrors: count("RX-errors"),
      rxMissed: count("RX-missed"),
      txPackets: count("TX-packets"),
      txBytes: count("TX-bytes"),
      txErrors: count("TX-errors"),
    };
  }

  /** Waits until counters are as they should be. @returns them @throws PeerError after ten seconds, with what they are */
  async countersUntil(good: (counters: PortCounters) => boolean): Promise<PortCounters> {
    const deadline = performance.now() + 10_000;
    for (;;) {
      const counters = await this.counters();
      if (good(counters)) return counters;
      if (performance.now() > deadline) {
        throw new PeerError(`testpmd's counters stay at ${JSON.stringify(counters)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Kills it, as a crash would end it. */
  async kill(): Promise<void> {
    await this.peer.kill();
  }

  /** Ends it. */
  async stop(): Promise<void> {
    // At the end of its input it quits by itself, and a signal would be one too many.
    await this.peer.stop("SIGCONT");
  }

  /** As `stop`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #prompt(): Promise<string> {
    await this.peer.waitFor(PROMPT, this.#mark);
    const text = this.peer.since(this.#mark);
    return text.slice(0, text.search(PROMPT));
  }
}
