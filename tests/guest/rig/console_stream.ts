/** Keeps the end of a guest's console, and passes it on without the carriage returns serial lines add. */
export class ConsoleStream {
  #tail = "";
  #pendingReturn = false;
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
    if (this.#pendingReturn) this.#pass("\r");
    this.#pendingReturn = false;
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
    let whole = this.#pendingReturn ? `\r${text}` : text;
    this.#pendingReturn = whole.endsWith("\r");
    if (this.#pendingReturn) whole = whole.slice(0, -1);
    this.#pass(whole.replace(/\r+\n/g, "\n"));
  }

  #pass(text: string): void {
    if (text === "") return;
    this.#tail = (this.#tail + text).slice(-this.#keep);
    this.#sink(text);
  }
}
