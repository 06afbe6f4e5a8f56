/** An emulated host in a process of its own, in a directory of its own. */
import { accessible, makeDirectory, readDirectory, removeDirectory, removeFile } from "../../../ffi/mod.ts";
import type { Host } from "../../../lib/host/mod.ts";
import { EmulatedHost } from "../../../lib/host/emulated_host.ts";

const DIRECTORY = 4;
const ATTEMPTS = 3000;
let made = 0;

function script(name: string): string {
  return new URL(`./${name}`, import.meta.url).pathname;
}

export class ServedHost implements AsyncDisposable {
  readonly directory: string = `/tmp/ringside-host-${Deno.pid}-${made++}`;
  readonly child: Deno.ChildProcess;
  readonly status: Promise<Deno.CommandStatus>;

  private constructor() {
    makeDirectory(this.directory, 0o700);
    this.child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--quiet", "--no-check", "--allow-ffi", script("serve.ts"), this.directory],
      stdin: "null",
      stdout: "null",
      stderr: "inherit",
    }).spawn();
    this.status = this.child.status;
  }

  static async start(): Promise<ServedHost> {
    const served = new ServedHost();
    let ended = false;
    served.status.then(() => ended = true);
    for (let i = 0; !accessible(`${served.directory}/ready`); i++) {
      if (ended || i === ATTEMPTS) {
        await served[Symbol.asyncDispose]();
        throw new Error("the emulated host did not come up");
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return served;
  }

  connect(): EmulatedHost {
    return EmulatedHost.connect(this.directory);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGKILL");
    } catch {
      // It has ended.
    }
    await this.status;
    removeAll(this.directory);
  }
}

function removeAll(path: string): void {
  for (const entry of readDirectory(path)) {
    if (entry.type === DIRECTORY) removeAll(`${path}/${entry.name}`);
    else removeFile(`${path}/${entry.name}`);
  }
  removeDirectory(path);
}

/** Runs `bring_up.ts` to its end or death. */
export async function bringUp(
  host: string,
  at: number,
  calls: readonly string[],
): Promise<{ signal: string | null; steps: string[] }> {
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-ffi", script("bring_up.ts"), host, `${at}`, ...calls],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  if (!output.success && output.signal === null) throw new Error(new TextDecoder().decode(output.stderr));
  const lines = new TextDecoder().decode(output.stdout).trimEnd().split("\n");
  return { signal: output.signal, steps: lines.filter((line) => /^\d/.test(line)) };
}

/** What a restore has to bring back, of every function. */
export function ownership(host: Host): Record<string, unknown> {
  return Object.fromEntries(
    host.list().map(({ address, driver, driverOverride, sriov }) => [
      address,
      { driver: driver ?? "", override: driverOverride ?? "", sriov: sriov ?? null },
    ]),
  );
}
