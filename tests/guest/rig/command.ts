import { CommandError } from "./errors.ts";

/** How a helper program is started. */
export interface CommandOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Let the program write to our own output instead of capturing it. */
  readonly inherit?: boolean;
}

/** Runs a program and returns its standard output; a non-zero status becomes a `CommandError`. */
export async function runCommand(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const bytes = await runCommandBytes(argv, options);
  return new TextDecoder().decode(bytes);
}

/** The same with the output as bytes, for programs that print files. */
export async function runCommandBytes(
  argv: readonly string[],
  options: CommandOptions = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const [program, ...args] = argv;
  if (program === undefined) throw new TypeError("runCommand: empty argument vector");
  const pipe = options.inherit ? "inherit" : "piped";
  const command = new Deno.Command(program, {
    args,
    stdin: "null",
    stdout: pipe,
    stderr: pipe,
    // Parsed output must not depend on the user's language.
    env: { LC_ALL: "C", ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let output: Deno.CommandOutput;
  try {
    output = await command.output();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new CommandError(argv, 127, `${program}: no such program on this machine`);
    }
    throw error;
  }
  if (options.inherit) {
    if (!output.success) throw new CommandError(argv, output.code, "(its output is above)");
    return new Uint8Array();
  }
  if (!output.success) {
    const decoder = new TextDecoder();
    throw new CommandError(argv, output.code, decoder.decode(output.stderr) + decoder.decode(output.stdout));
  }
  return output.stdout;
}
