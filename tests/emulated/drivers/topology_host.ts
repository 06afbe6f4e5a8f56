/**
 * An emulated host of a given topology, in a process of its own.
 *
 * @module
 */
import { accessible, makeDirectory, readDirectory, removeDirectory, removeFile } from "../../../ffi/mod.ts";
import { EmulatedHost } from "../../../lib/host/mod.ts";
import type { VfioDevice } from "../../../lib/vfio/mod.ts";
import { PciModernTransport } from "../../../lib/virtio/mod.ts";

const DIRECTORY = 4;
const ATTEMPTS = 3000;
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
export interface Reached extends Disposable {
  readonly device: VfioDevice;
  readonly transport: PciModernTransport;
}

/** See the module's text. */
export class TopologyHost implements AsyncDisposable {
  readonly host: EmulatedHost;
  readonly directory: string;
  readonly #child: Deno.ChildProcess;
  readonly #output: Promise<string>;
  #ended = false;

  private constructor(directory: string, child: Deno.ChildProcess, output: Promise<string>) {
    this.directory = directory;
    this.#child = child;
    this.#output = output;
    this.host = EmulatedHost.connect(directory);
  }

  /** Serves these functions. @param openFiles hard limit on the descriptors of the process that does */
  static async start(
    functions: readonly Record<string, unknown>[],
    openFiles?: number,
  ): Promise<TopologyHost> {
    const directory = `/tmp/ringside-drivers-${Deno.pid}-${made++}`;
    makeDirectory(directory, 0o700);
    const serve = [
      "run",
      "--quiet",
      "--no-check",
      "--allow-ffi",
      SCRIPT,
      directory,
      JSON.stringify({ functions }),
    ];
    const child = new Deno.Command(openFiles === undefined ? Deno.execPath() : "sh", {
      args: openFiles === undefined
        ? serve
        : ["-c", `ulimit -n ${openFiles}; exec "$0" "$@"`, Deno.execPath(), ...serve],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const output = new Response(child.stdout).text();
    let ended = false;
    const status = child.status.then(() => ended = true);
    for (let i = 0; !accessible(`${directory}/ready`); i++) {
      if (ended || i === ATTEMPTS) {
        if (!ended) child.kill("SIGKILL");
        await status;
        await output;
        removeAll(directory);
        throw new Error("the emulated host did not come up");
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return new TopologyHost(directory, child, output);
  }

  /** Process id of the host. */
  get pid(): number {
    return this.#child.pid;
  }

  /** Binds, opens and reaches a function. */
  reach(address: string): Reached {
    if (this.host.describe(address).driver !== "vfio-pci") this.host.bind(address);
    const device = this.host.open(address);
    try {
      const transport = PciModernTransport.open(device);
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

  /** Kills the host, and waits until it is gone. `stop` cleans up afterwards. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }

  /** Ends the host. @returns what its devices had to say about their drivers */
  async stop(): Promise<ReportedViolation[]> {
    if (!this.#ended) {
      this.#ended = true;
      this.host[Symbol.dispose]();
      try {
        this.#child.kill("SIGTERM");
      } catch {
        // It was killed already.
      }
      await this.#child.status;
      removeAll(this.directory);
    }
    const text = (await this.#output).trim();
    return text === "" ? [] : text.split("\n").map((line) => JSON.parse(line));
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
