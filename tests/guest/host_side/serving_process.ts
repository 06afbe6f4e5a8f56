/** What a client that went away must have taken along from the process that serves. */

/** Of a process. */
export interface Resources {
  readonly fds: number;
  /** Mappings of memory that has no file system. */
  readonly mappings: number;
}

function resources(pid: number): Resources {
  const maps = Deno.readTextFileSync(`/proc/${pid}/maps`);
  return {
    fds: [...Deno.readDirSync(`/proc/${pid}/fd`)].length,
    mappings: maps.split("\n").filter((line) => line.includes("memfd:")).length,
  };
}

/** Once nothing changes any more: the serving process takes a moment to see that a client is gone. */
export async function settledResources(pid: number): Promise<Resources> {
  let last = resources(pid);
  for (let unchanged = 0; unchanged < 15; unchanged++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const now = resources(pid);
    if (now.fds !== last.fds || now.mappings !== last.mappings) unchanged = 0;
    last = now;
  }
  return last;
}
