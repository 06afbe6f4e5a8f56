/**
 * This command line as a command of another process.
 *
 * @module
 */

/** What to run, with which arguments: the compiled program itself, or the script by the runtime that runs this one. */
export function ownCommand(args: readonly string[]): { readonly program: string; readonly args: string[] } {
  const program = Deno.execPath();
  if (Deno.build.standalone) return { program, args: [...args] };
  const main = new URL("./main.ts", import.meta.url).href;
  const permissions = ["--allow-ffi", "--allow-env"];
  return { program, args: ["run", "--quiet", "--no-check", ...permissions, main, ...args] };
}
