/** Keeps the end of a guest's console, and passes it on without the carriage returns serial lines add. */
export class ConsoleStream {
  #tail = "";
  /** Carriage returns at the end of what came so far: the line feed they belong to may follow. */
  #pending = "";
  readonly #decoder = new TextDecoder();
  readonly #sink: (text: string) => void;
  readonly #keep: number;

  /** Text goes to `sink` as it arrives; about `keep` characters are remembered. */
  constructor(sink: (text: string) => void, keep = 256 * 1024) {
    this.#sink = sink;
    this.#keep = keep;
  }

  /** Takes one chunk of console output. */
  push(chunk: Uint8Array): void {
    this.#emit(this.#decoder.decode(chunk, { stream: true }));
  }

  /** Says that no more output comes. */
  end(): void {
    this.#emit(this.#decoder.decode());
    this.#pass(this.#pending);
    this.#pending = "";
  }

  /** What is remembered of the console. */
  get text(): string {
    return this.#tail;
  }

  /** The last lines, for error messages. */
  tail(lines = 40): string {
    return this.#tail.trimEnd().split("\n").slice(-lines).join("\n");
  }

  #emit(text: string): void {
    if (text === "") return;
    const whole = this.#pending + text;
    const end = whole.length - (/\r*$/.exec(whole)?.[0].length ?? 0);
    this.#pending = whole.slice(end);
    this.#pass(whole.slice(0, end).replace(/\r+\n/g, "\n"));
  }

  #pass(text: string): void {
    if (text === "") return;
    this.#tail = (this.#tail + text).slice(-this.#keep);
    this.#sink(text);
  }
}
