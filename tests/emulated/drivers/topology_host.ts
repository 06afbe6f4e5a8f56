/**
 * An emulated host of a given topology, in another process.
 *
 * @module
 */
import {
  accessible,
  makeDirectory,
  readDirectory,
  readText,
  removeDirectory,
  removeFile,
  sendSignal,
} from "../../../ffi/mod.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";
import type { VfioDevice } from "../../../lib/vfio/mod.ts";
import { openTransport, type TransportOptions } from "../../../lib/virtio/transport/open.ts";
import { type PciModernOptions, PciModernTransport } from "../../../lib/virtio/transport/pci_modern.ts";
import type { VirtioTransport } from "../../../lib/virtio/transport/transport.ts";

const DIRECTORY = 4;
const SIGKILL = 9;
const ATTEMPTS = 12_000;
const LOOK_MS = 5;
const SCRIPT = new URL("./serve_topology.ts", import.meta.url).pathname;
let made = 0;

/** What a device reported of its driver. */
export interface ReportedViolation {
  readonly function: string;
  readonly queue?: number;
  readonly rule: string;
  readonly message: string;
}

/** A function that is opened and reached through its registers. */
export interface Reached<T extends VirtioTransport = PciModernTransport> extends Disposable {
  readonly device: VfioDevice;
  readonly transport: T;
}

/** How a host is served. */
export interface TopologyHostOptions {
  /** In a process that serves no other host: it may be killed, or what it holds be counted. */
  readonly alone?: boolean;
  /** Devices behind vhost-user sockets, as a topology has them. */
  readonly vhostUser?: readonly Record<string, unknown>[];
  /** How long switches hold frames for a device that has no buffers, in milliseconds; default that of the embedded host. */
  readonly holdMs?: number;
  /** Hard limit on the descriptors of the process, which is one of its own then. */
  readonly openFiles?: number;
}

/** What a host has, as a topology says it. */
interface Served {
  readonly functions: readonly Record<string, unknown>[];
  readonly vhostUser: readonly Record<string, unknown>[];
  readonly holdMs?: number;
}

/** A process that serves one host after another, which costs a start each file instead of a start each test. */
class ServingProcess {
  readonly child: Deno.ChildProcess;
  readonly status: Promise<Deno.CommandStatus>;
  ended = false;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  constructor(openFiles?: number) {
    const serve = ["run", "--quiet", "--no-check", "--allow-ffi", SCRIPT];
    this.child = new Deno.Command(openFiles === undefined ? Deno.execPath() : "sh", {
      args: openFiles === undefined
        ? serve
        : ["-c", `ulimit -n ${openFiles}; exec "$0" "$@"`, Deno.execPath(), ...serve],
      stdin: "piped",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    this.#input = this.child.stdin.getWriter();
    this.status = this.child.status.finally(() => this.ended = true);
  }

  /** Tells it to serve, or without functions to stop serving. */
  async tell(directory: string, topology?: Served): Promise<void> {
    const line = JSON.stringify({ directory, ...(topology === undefined ? {} : { topology }) });
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
  }

  /** Waits for a file, which comes unless the process ends. */
  async file(path: string): Promise<void> {
    for (let i = 0; !accessible(path); i++) {
      if (this.ended) throw new Error("the process of the emulated host has ended");
      if (i === ATTEMPTS) throw new Error(`the emulated host did not come up, or not to its end: no ${path}`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  async end(): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.status;
  }
}

// Made before any test begins, since the sanitizers hold a test to what it starts. It ends when its standard input does.
const shared = new ServingProcess();
shared.child.unref();
addEventListener("unload", () => shared.child.kill("SIGKILL"));

/** See the module's text. */
export class TopologyHost implements AsyncDisposable {
  host: EmulatedHost;
  readonly directory: string;
  readonly #served: Served;
  #process: ServingProcess;
  #ended: ReportedViolation[] | undefined;

  private constructor(
    directory: string,
    served: Served,
    process: ServingProcess,
  ) {
    this.directory = directory;
    this.#served = served;
    this.#process = process;
    this.host = EmulatedHost.connect(directory);
  }

  /** Serves these functions. */
  static async start(
    functions: readonly Record<string, unknown>[],
    { alone, openFiles, vhostUser = [], holdMs }: TopologyHostOptions = {},
  ): Promise<TopologyHost> {
    const directory = `/tmp/ringside-drivers-${Deno.pid}-${made++}`;
    makeDirectory(directory, 0o700);
    const process = alone || openFiles !== undefined ? new ServingProcess(openFiles) : shared;
    try {
      const served = { functions, vhostUser, holdMs };
      await process.tell(directory, served);
      await process.file(`${directory}/ready`);
      return new TopologyHost(directory, served, process);
    } catch (error) {
      if (process !== shared) await process.end();
      removeAll(directory);
      throw error;
    }
  }

  /** Process id of a host that is served alone. */
  get pid(): number {
    if (this.#process === shared) throw new Error("it is not alone in its process");
    return this.#process.child.pid;
  }

  /** Binds, opens and reaches a PCI function. */
  reach(address: string, options: PciModernOptions = {}): Reached {
    return this.#reached(address, (device) => PciModernTransport.open(device, options));
  }

  /** The same of a device of any bus, by whatever transport it has. */
  open(address: string, options: TransportOptions = {}): Reached<VirtioTransport> {
    return this.#reached(address, (device) => openTransport(device, options));
  }

  #reached<T extends VirtioTransport>(address: string, reach: (device: VfioDevice) => T): Reached<T> {
    if (!this.host.describe(address).driver?.startsWith("vfio-")) this.host.bind(address);
    const device = this.host.open(address);
    try {
      const transport = reach(device);
      return {
        device,
        transport,
        [Symbol.dispose]: () => {
          transport.close();
          device.close();
        },
      };
    } catch (error) {
      device.close();
      throw error;
    }
  }

  /** Kills a host that is served alone, and waits until it is gone. `stop` cleans up afterwards. */
  async kill(): Promise<void> {
    sendSignal(this.pid, SIGKILL);
    await this.#process.status;
  }

  /** Serves the same functions in the same directory, after `kill` or the like, by another process. */
  async again(): Promise<void> {
    await this.#process.status;
    this.host[Symbol.dispose]();
    await this.#process.end();
    this.#process = new ServingProcess();
    // The other one's, if it came so far.
    removeFile(`${this.directory}/ready`);
    await this.#process.tell(this.directory, this.#served);
    await this.#process.file(`${this.directory}/ready`);
    this.host = EmulatedHost.connect(this.directory);
  }

  /** Ends the host. @returns what its devices had to say about their drivers */
  async stop(): Promise<ReportedViolation[]> {
    if (this.#ended !== undefined) return this.#ended;
    this.#ended = [];
    this.host[Symbol.dispose]();
    const process = this.#process;
    const violations = `${this.directory}/violations`;
    try {
      if (process !== shared) await process.end();
      else {
        await process.tell(this.directory);
        await process.file(`${this.directory}/ended`);
      }
      const lines = accessible(violations) ? readText(violations).trim().split("\n") : [];
      this.#ended = lines.map((line) => JSON.parse(line));
    } finally {
      removeAll(this.directory);
    }
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

function removeAll(path: string): void {
  for (const entry of readDirectory(path)) {
    if (entry.type === DIRECTORY) removeAll(`${path}/${entry.name}`);
    else removeFile(`${path}/${entry.name}`);
  }
  removeDirectory(path);
}
