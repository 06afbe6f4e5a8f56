/**
 * Variables of the environment that change what a command prints and where it works.
 *
 * @module
 */

/** A variable's value; undefined when it is not set, empty, or this process may not see it. */
export function environment(name: string): string | undefined {
  try {
    return Deno.env.get(name) || undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return undefined;
    throw error;
  }
}

/** The host that a command is about: what `--host` says, else `RINGSIDE_HOST`, else this machine. */
export function hostName(option: string | undefined): string {
  return option ?? environment("RINGSIDE_HOST") ?? "linux";
}
