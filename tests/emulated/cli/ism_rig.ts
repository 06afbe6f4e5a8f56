import { assertEquals } from "@std/assert";
import { startEmulatedHost } from "../../../cli/emulated_process.ts";
import { makeTemporaryDirectory, removeTree } from "../../../cli/temporary_directory.ts";
import { O, OwnedFd, writeAll } from "../../../ffi/mod.ts";
import type { IsmDomainState } from "../../../lib/emulation/mod.ts";
import { SocketSysfs } from "../../../lib/host/sysfs/socket_sysfs.ts";
import { cli, shell, startCli } from "./run_cli.ts";

export const [ONE, TWO, THREE, STRANGER, RNG] = [1, 2, 3, 4, 5].map((bus) => `0000:0${bus}:00.0`) as [
  string,
  string,
  string,
  string,
  string,
];
const TOPOLOGY = {
  functions: [
    ...[ONE, TWO, THREE].map((address) => ({ address, kind: "virtio-ism", driver: "vfio-pci" })),
    { address: STRANGER, kind: "virtio-ism", driver: "vfio-pci", domain: "d1", chunkSize: 4096, chunks: 64 },
    { address: RNG, kind: "virtio-rng", driver: "vfio-pci" },
  ],
};

/** An object of JSON. */
export type Json = Record<string, unknown>;

/** A host with three functions in one domain and a fourth in another. */
export class Rig implements AsyncDisposable {
  readonly scratch: string;
  readonly #served: Awaited<ReturnType<typeof startEmulatedHost>>;

  private constructor(scratch: string, served: Awaited<ReturnType<typeof startEmulatedHost>>) {
    this.scratch = scratch;
    this.#served = served;
  }

  static async start(): Promise<Rig> {
    const scratch = makeTemporaryDirectory();
    try {
      save(`${scratch}/topology.json`, JSON.stringify(TOPOLOGY));
      return new Rig(scratch, await startEmulatedHost({ topology: `${scratch}/topology.json` }));
    } catch (error) {
      removeTree(scratch);
      throw error;
    }
  }

  get args(): string[] {
    return ["--host", this.#served.directory, "ism"];
  }

  get directory(): string {
    return this.#served.directory;
  }

  /** The device's process. */
  get pid(): number {
    return this.#served.pid;
  }

  violations(): string[] {
    return this.#served.violations();
  }

  async run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
    return await cli(...this.args, ...args);
  }

  async json(...args: string[]): Promise<Json> {
    const { code, out, err } = await this.run(...args, "--json");
    assertEquals([code, err], [0, ""]);
    return JSON.parse(out);
  }

  /** `ringside` in it is `ringside --host … ism`; SCRATCH is a directory. */
  async script(text: string): Promise<{ code: number; out: string; err: string }> {
    return await shell(text.replaceAll("ringside ", `ringside ${this.args.join(" ")} `), {
      SCRATCH: this.scratch,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#served.stop();
    removeTree(this.scratch);
  }
}

/** A command that goes on, with `--json` and mostly with `--shell`. */
export class Holder implements AsyncDisposable {
  /** What came and was not asked for. */
  readonly events: Json[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #err: Promise<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #text = "";

  constructor(rig: Rig, ...args: string[]) {
    this.#child = startCli({ stdin: "piped" }, ...rig.args, ...args, "--json");
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#err = new Response(this.#child.stderr).text();
    this.#input = this.#child.stdin.getWriter();
  }

  async line(): Promise<Json> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return JSON.parse(line);
      }
      const { value, done } = await soon(this.#lines.read());
      if (done) throw new Error(`it has ended: ${await this.#err}`);
      this.#text += value;
    }
  }

  async ask(line: string): Promise<Json> {
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
    for (;;) {
      const answer = await this.line();
      if ("command" in answer) return answer;
      this.events.push(answer);
    }
  }

  /** The next event, of those that came first. */
  async event(): Promise<Json> {
    return this.events.shift() ?? await this.line();
  }

  kill(signal: Deno.Signal): void {
    this.#child.kill(signal);
  }

  /** Ends standard input. */
  async end(): Promise<{ code: number; err: string }> {
    await this.#input.close().catch(() => {});
    while (!(await this.#lines.read()).done);
    const { code } = await this.#child.status;
    return { code, err: await this.#err };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.end();
  }
}

/** Writes a file. */
export function save(path: string, content: string | Uint8Array<ArrayBuffer>): void {
  using file = OwnedFd.open(path, O.WRONLY | O.CREAT | O.TRUNC);
  writeAll(file, typeof content === "string" ? new TextEncoder().encode(content) : content);
}

/** Waits for what comes true soon. */
export async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 6000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error("it never came true");
}

/** What comes, if it does. */
async function soon<T>(what: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const never = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("it never came")), 60_000);
  });
  try {
    return await Promise.race([what, never]);
  } finally {
    clearTimeout(timer);
  }
}

/** An error as the command line tells it. */
export const ONE_LINE = /^ringside: [^\n]+\n$/;

/** The first domain as the host sees it now. */
export function domain(rig: Rig): IsmDomainState {
  using sysfs = new SocketSysfs(`${rig.directory}/host.sock`);
  return JSON.parse(sysfs.readText("/ringside/ism").split("\n")[0]!);
}
