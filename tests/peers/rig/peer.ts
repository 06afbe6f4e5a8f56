/**
 * A third-party process under control: started, listened to, talked to, ended.
 *
 * @module
 */
import { accessible, readText } from "../../../ffi/mod.ts";
import { RingsideError, UsageError } from "../../../lib/errors/mod.ts";

/** Of what a process printed, this many characters are kept. */
const KEPT = 1 << 20;
/** This many are shown with an error. */
const SHOWN = 3000;
const PATIENCE_MS = 30_000;
const GOODBYE_MS = 5_000;
const LOOK_MS = 5;
const LAST_WORDS_MS = 300;

/** A process ended too early, said something unexpected, or nothing; the message has the last it printed. */
export class PeerError extends RingsideError {
  /** Name of the error type. */
  override name = "PeerError";
}

/** What is started. */
export interface Command {
  /** For messages. */
  readonly name: string;
  /** What the command line begins with. */
  readonly argv: readonly string[];
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** How a process is started. */
export interface PeerOptions {
  /** Processor that it is pinned to. Default: any. */
  readonly cpu?: number;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** See the module. */
export class Peer implements AsyncDisposable {
  /** Name of the program. */
  readonly name: string;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #over: Promise<unknown>;
  #status: Deno.CommandStatus | undefined;
  /** Both of its outputs, as they came, for messages. */
  #printed = "";
  /** Its standard output: the other one's lines may come in the midst of a word of it. */
  #output = "";
  #complaints = "";
  /** Characters of the output that are no longer kept. */
  #forgotten = 0;
  #woken = Promise.withResolvers<void>();
  readonly #readers: ReadableStreamDefaultReader<string>[] = [];

  /** Starts it. It is killed when this thread ends, however that happens. */
  constructor(program: Command, args: readonly string[], { cpu, env = {} }: PeerOptions = {}) {
    this.name = program.name;
    const [command, ...rest] = [...dying(), ...pinned(cpu), ...program.argv, ...args];
    this.#child = new Deno.Command(command!, {
      args: rest,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      env: { LC_ALL: "C", ...program.env, ...env },
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    const { stdout, stderr, status } = this.#child;
    const ended = status.then((status) => {
      this.#status = status;
      this.#wake();
    });
    this.#over = Promise.all([
      this.#listen(stdout, (text) => {
        this.#output += text;
        const excess = Math.max(0, this.#output.length - KEPT);
        this.#output = this.#output.slice(excess);
        this.#forgotten += excess;
      }),
      this.#listen(stderr, (text) => {
        this.#complaints = (this.#complaints + text).slice(-KEPT);
      }),
      ended,
    ]);
  }

  /** Process id. `setpriv` and `taskset` become the program, so it is the program's. */
  get pid(): number {
    return this.#child.pid;
  }

  /** True when the process is gone. */
  get ended(): boolean {
    return this.#status !== undefined;
  }

  /** What it printed on its error output, and is kept. */
  get complaints(): string {
    return this.#complaints;
  }

  /** Where its standard output ends, for `waitFor`. */
  get mark(): number {
    return this.#forgotten + this.#output.length;
  }

  /** What it printed on its standard output since a mark. */
  since(mark: number): string {
    return this.#output.slice(Math.max(0, mark - this.#forgotten));
  }

  /** Waits until what it printed on its standard output since a mark has the pattern. @throws PeerError when it ends, or after `timeoutMs` */
  async waitFor(pattern: RegExp, mark = 0, timeoutMs = PATIENCE_MS): Promise<RegExpMatchArray> {
    let found: RegExpMatchArray | null = null;
    await this.until(() => (found = this.since(mark).match(pattern)) !== null, `print ${pattern}`, timeoutMs);
    return found!;
  }

  /** Waits until something is true, and looks again with each output. @throws PeerError when it ends, or after `timeoutMs` */
  async until(condition: () => boolean, what: string, timeoutMs = PATIENCE_MS): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      // In this order: what it printed last may be what is waited for.
      const { ended } = this;
      if (condition()) return;
      if (ended) this.#fail(`ended with status ${this.#status!.code} and did not ${what}`);
      if (performance.now() > deadline) this.#fail(`did not ${what} within ${timeoutMs} ms`);
      await this.#news(LOOK_MS);
    }
  }

  /** Waits until it listens on a UNIX socket. @throws PeerError when it ends before, or after `timeoutMs` */
  untilListening(path: string, timeoutMs = PATIENCE_MS): Promise<void> {
    return this.until(() => listens(path), `listen on ${path}`, timeoutMs);
  }

  /** Waits for its end. @returns its standard output, of which the end is kept @throws PeerError when it failed, or after `timeoutMs` */
  async finished(timeoutMs = PATIENCE_MS): Promise<string> {
    await this.until(() => this.ended, "end", timeoutMs);
    await this.#over;
    if (!this.#status!.success) this.#fail(`ended with status ${this.#status!.code}`);
    return this.#output;
  }

  /** Writes a line to it. @throws PeerError when it is gone */
  async write(line: string): Promise<void> {
    const bytes = new TextEncoder().encode(`${line}\n`);
    // Its input is closed when it is gone, and the pipe breaks when that has not been heard of yet.
    const told = !this.ended && await this.#input.write(bytes).then(() => true, () => false);
    if (!told) this.#fail(`takes no input and was told ${JSON.stringify(line)}`);
  }

  /** Kills it, as a crash would end it, and waits until it is gone. */
  async kill(): Promise<void> {
    this.#signal("SIGKILL");
    await this.#leave();
  }

  /** Ends it: its input ends, and then it gets a signal; after five seconds it is killed. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<void> {
    await this.#input.close().catch(() => {});
    this.#signal(signal);
    try {
      await this.until(() => this.ended, "end", GOODBYE_MS);
    } catch (error) {
      if (!(error instanceof PeerError)) throw error;
    }
    await this.kill();
  }

  /** As `stop`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  #signal(signal: Deno.Signal): void {
    if (this.ended) return;
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended, and that has not been heard of yet.
    }
  }

  async #leave(): Promise<void> {
    await this.#child.status;
    // A process that it started itself may have its outputs still.
    const timer = setTimeout(() => {
      for (const reader of this.#readers) reader.cancel().catch(() => {});
    }, LAST_WORDS_MS);
    await this.#over;
    clearTimeout(timer);
    await this.#input.close().catch(() => {});
  }

  async #listen(stream: ReadableStream<Uint8Array>, keep: (text: string) => void): Promise<void> {
    const reader = stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string>).getReader();
    this.#readers.push(reader);
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      this.#printed = (this.#printed + read.value).slice(-KEPT);
      keep(read.value);
      this.#wake();
    }
  }

  #wake(): void {
    this.#woken.resolve();
    this.#woken = Promise.withResolvers();
  }

  /** Output, the end, or some time. */
  async #news(ms: number): Promise<void> {
    const timer = Promise.withResolvers<void>();
    const id = setTimeout(timer.resolve, ms);
    await Promise.race([this.#woken.promise, timer.promise]);
    clearTimeout(id);
  }

  #fail(what: string): never {
    throw new PeerError(`${this.name} ${what}; it printed last:\n${this.#printed.slice(-SHOWN)}`);
  }
}

/** A socket's file is there before its server listens, and a connection to try it would be the one that the server takes. */
export function listens(path: string): boolean {
  const ACCEPTS = "00010000";
  return readText("/proc/net/unix").split("\n").some((line) =>
    line.endsWith(` ${path}`) && line.split(/\s+/)[3] === ACCEPTS
  );
}

/** So that nothing is left behind by a test that is killed. */
function dying(): string[] {
  const program = "/usr/bin/setpriv";
  return accessible(program) ? [program, "--pdeathsig", "KILL"] : [];
}

function pinned(cpu: number | undefined): string[] {
  if (cpu === undefined) return [];
  const program = "/usr/bin/taskset";
  if (!accessible(program)) {
    throw new UsageError(`to pin a process needs ${program}, of the package util-linux`);
  }
  return [program, "-c", String(cpu)];
}
