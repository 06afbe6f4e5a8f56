/**
 * C that is compiled when it is needed: what benchmarks are measured beside.
 *
 * @module
 */

const COMPILERS = ["cc", "gcc", "clang"];

/**
 * Compiles a file of this folder, as a distribution builds what it ships. @param output path of what is made @param args of the compiler, besides
 * @returns where it cannot be, the reason
 */
export async function compileC(
  source: string,
  output: string,
  args: readonly string[],
): Promise<string | undefined> {
  const path = new URL(source, import.meta.url).pathname;
  for (const compiler of COMPILERS) {
    try {
      const line = ["-O2", "-o", output, path, ...args];
      const { success, stderr } = await new Deno.Command(compiler, {
        args: line,
        stdin: "null",
        stdout: "null",
      }).output();
      return success ? undefined : `${compiler} failed: ${new TextDecoder().decode(stderr).trim()}`;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return `no C compiler here: none of ${COMPILERS.join(", ")}`;
}
