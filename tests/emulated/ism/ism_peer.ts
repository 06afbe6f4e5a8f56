/**
 * Processes that each drive a virtio-ism function, seen from a test.
 *
 * @module
 */
import type { VirtioIsmOptions } from "../../../drivers/ism/virtio_ism.ts";
import type { IsmChannelCreateOptions } from "../../../drivers/ism/ism_channel.ts";
import type { Profile } from "../../../lib/virtio/mod.ts";
import type { TopologyHost } from "../drivers/topology_host.ts";

/** What such a process can be asked. Tokens and device numbers are decimal text. */
export type Request =
  | { readonly op: "info" | "state" | "reset" | "close-channel" }
  | { readonly op: "alloc"; readonly sizeBytes: number }
  | { readonly op: "attach"; readonly token: string; readonly read: boolean; readonly write: boolean }
  | { readonly op: "query" | "detach" | "notify"; readonly token: string }
  | { readonly op: "grant-default"; readonly token: string; readonly permissions: number }
  | {
    readonly op: "grant-for";
    readonly token: string;
    readonly devid: string;
    readonly permissions: number;
    readonly cleanDefault: boolean;
  }
  | { readonly op: "vector"; readonly token: string; readonly vector: number | null }
  | {
    readonly op: "write";
    readonly token: string;
    readonly offset: number;
    readonly bytes: readonly number[];
  }
  | { readonly op: "read"; readonly token: string; readonly offset: number; readonly length: number }
  | { readonly op: "updates"; readonly token: string; readonly since: number }
  | { readonly op: "events"; readonly count: number }
  | { readonly op: "channel"; readonly token?: string; readonly options?: IsmChannelCreateOptions }
  | { readonly op: "send"; readonly length: number; readonly end: boolean }
  | { readonly op: "receive"; readonly length: number };

/** What it answers. */
export type Answer =
  | { readonly value: unknown; readonly error?: undefined }
  | { readonly error: string; readonly message: string; readonly ack?: string };

/** A region, as the process that has it describes it. */
export interface RegionReport {
  readonly token: string;
  readonly sizeBytes: number;
  readonly chunks: readonly number[];
  readonly contiguous: boolean;
  readonly mapped: boolean;
}

const SCRIPT = new URL("./ism_process.ts", import.meta.url).pathname;
const encoder = new TextEncoder();

/** One process. It ends when it is disposed of. */
export class IsmPeer implements AsyncDisposable {
  readonly pid: number;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  #text = "";
  #ended = false;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.pid = child.pid;
    this.#input = child.stdin.getWriter();
    this.#output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Binds the function, and starts a process that opens it. */
  static async start(
    served: TopologyHost,
    address: string,
    options: VirtioIsmOptions = {},
    profile: Profile = "spec",
  ): Promise<IsmPeer> {
    if (!served.host.describe(address).driver?.startsWith("vfio-")) served.host.bind(address);
    const driven = [served.directory, address, JSON.stringify(options), profile];
    const args = ["--no-check", "--allow-ffi", SCRIPT, ...driven];
    const peer = new IsmPeer(
      new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", ...args],
        stdin: "piped",
        stdout: "piped",
        stderr: "inherit",
      }).spawn(),
    );
    await peer.#answer();
    return peer;
  }

  /** Asks, and waits for the answer. */
  async ask(request: Request): Promise<Answer> {
    await this.#input.write(encoder.encode(`${JSON.stringify(request)}\n`));
    return await this.#answer();
  }

  /** Asks for what must work. */
  async get<T = unknown>(request: Request): Promise<T> {
    const answer = await this.ask(request);
    if (answer.error !== undefined) throw new Error(`${request.op}: ${answer.error}: ${answer.message}`);
    return answer.value as T;
  }

  /** Asks for what must be refused. @returns the acknowledgement's name, or the error's */
  async refused(request: Request): Promise<string> {
    const answer = await this.ask(request);
    if (answer.error === undefined) throw new Error(`${request.op} was not refused`);
    return answer.ack ?? answer.error;
  }

  /** `kill -9`. */
  async kill(): Promise<void> {
    await this.#end(() => this.#child.kill("SIGKILL"));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end(() => {});
  }

  async #end(how: () => void): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    how();
    await this.#input.close().catch(() => {});
    // Whatever it still says.
    while (!(await this.#output.read()).done);
    await this.#child.status;
  }

  async #answer(): Promise<Answer> {
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return JSON.parse(line) as Answer;
      }
      const { value, done } = await this.#output.read();
      if (done) throw new Error("the process of a function ended");
      this.#text += value;
    }
  }
}
