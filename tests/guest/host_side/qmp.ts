/** QEMU's machine protocol, as far as tests change a running machine by it. */

/** A connection to a monitor that was given to QEMU as `-qmp unix:PATH,server=on,wait=off`. */
export class QmpClient implements Disposable {
  readonly #connection: Deno.UnixConn;
  readonly #decoder = new TextDecoder();
  #rest = "";

  private constructor(connection: Deno.UnixConn) {
    this.#connection = connection;
  }

  /** Waits for the greeting and leaves the mode in which capabilities are negotiated. */
  static async connect(path: string): Promise<QmpClient> {
    const client = new QmpClient(await Deno.connect({ transport: "unix", path }));
    await client.#message();
    await client.execute("qmp_capabilities");
    return client;
  }

  /** Runs a command; events that come meanwhile are passed over. @returns what it answers @throws Error with QEMU's words */
  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const request = `${JSON.stringify({ execute: command, arguments: args })}\n`;
    const bytes = new TextEncoder().encode(request);
    for (let sent = 0; sent < bytes.length;) sent += await this.#connection.write(bytes.subarray(sent));
    for (;;) {
      const answer = await this.#message();
      if ("return" in answer) return answer.return;
      if ("error" in answer) throw new Error(`${command}: ${JSON.stringify(answer.error)}`);
    }
  }

  async #message(): Promise<Record<string, unknown>> {
    const buffer = new Uint8Array(65536);
    while (!this.#rest.includes("\n")) {
      const length = await this.#connection.read(buffer);
      if (length === null) throw new Error("QEMU closed its monitor");
      this.#rest += this.#decoder.decode(buffer.subarray(0, length), { stream: true });
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return JSON.parse(line) as Record<string, unknown>;
  }

  [Symbol.dispose](): void {
    this.#connection.close();
  }
}
