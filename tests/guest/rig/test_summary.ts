const encoder = new TextEncoder();

/**
 * Passes the output of `deno test` on to standard output, and adds up what several runs of it said.
 *
 * A test that is skipped says why in its name, as `name (skipped: reason)`.
 */
export class TestSummary {
  #rest = "";
  #passed = 0;
  #failed = 0;
  #ignored = 0;
  #filtered = 0;
  /** How many tests were skipped for each reason. */
  readonly #reasons = new Map<string, number>();

  /** Output as it comes. */
  pass(text: string): void {
    const bytes = encoder.encode(text);
    for (let at = 0; at < bytes.length;) at += Deno.stdout.writeSync(bytes.subarray(at));
    this.add(text);
  }

  /** As `pass`, without showing it. */
  add(text: string): void {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop() ?? "";
    for (const line of lines) this.#line(line);
  }

  /** The output is over. */
  end(): void {
    this.#line(this.#rest);
    this.#rest = "";
  }

  /** What it came to. */
  lines(): string[] {
    const filtered = this.#filtered === 0 ? "" : `, ${this.#filtered} filtered out`;
    return [
      `guest tests: ${this.#passed} passed, ${this.#failed} failed, ${this.#ignored} skipped${filtered}`,
      ...[...this.#reasons].map(([reason, count]) => `  ${count} skipped: ${reason}`),
    ];
  }

  #line(coloured: string): void {
    // deno-lint-ignore no-control-regex -- the colours of deno test are escape sequences, so the control character is meant
    const line = coloured.replaceAll(/\x1b\[[\d;]*m/g, "");
    if (/ \.\.\. ignored\b/.test(line)) {
      const reason = /\(skipped: (.*)\) \.\.\. ignored/.exec(line)?.[1] ?? "no reason given";
      this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1);
    }
    // `ok | 3 passed (4 steps) | 0 failed | 1 ignored | 2 filtered out (1m10s)`
    if (!/^(ok|FAILED) \| \d+ passed/.test(line)) return;
    const count = (word: string): number => Number(new RegExp(`\\| (\\d+) ${word}`).exec(line)?.[1] ?? 0);
    this.#passed += count("passed");
    this.#failed += count("failed");
    this.#ignored += count("ignored");
    this.#filtered += count("filtered out");
  }
}
