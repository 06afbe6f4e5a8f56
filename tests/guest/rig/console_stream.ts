/**
 * Puts together what several streams of a guest say, line by line: a message that comes in the middle of a line of another stream waits for its end. Keeps
 * the end of it all, and passes it on without the carriage returns that serial lines add.
 */
export class ConsoleStream {
  #tail = "";
  readonly #sink: (text: string) => void;
  readonly #keep: number;

  /** Lines go to `sink` as they arrive; about `keep` characters are remembered. */
  constructor(sink: (text: string) => void, keep = 256 * 1024) {
    this.#sink = sink;
    this.#keep = keep;
  }

  /** Takes the lines of one stream until it ends; a last line without an end gets one. `edit` may change them. */
  async drain(stream: ReadableStream<Uint8Array>, edit = (lines: string): string => lines): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of stream) {
      rest += decoder.decode(chunk, { stream: true });
      const end = rest.lastIndexOf("\n") + 1;
      this.#pass(edit(withoutReturns(rest.slice(0, end))));
      rest = rest.slice(end);
    }
    rest += decoder.decode();
    if (rest !== "") this.#pass(edit(withoutReturns(`${rest}\n`)));
  }

  /** What is remembered of the console. */
  get text(): string {
    return this.#tail;
  }

  /** The last lines, for error messages. */
  tail(lines = 40): string {
    return this.#tail.trimEnd().split("\n").slice(-lines).join("\n");
  }

  #pass(text: string): void {
    if (text === "") return;
    this.#tail = (this.#tail + text).slice(-this.#keep);
    this.#sink(text);
  }
}

function withoutReturns(text: string): string {
  return text.replace(/\r+\n/g, "\n");
}
