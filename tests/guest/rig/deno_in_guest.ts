import { runCommand } from "./command.ts";
import { GuestOptionsError } from "./errors.ts";
import type { Architecture } from "./machines.ts";
import { exists, PATHS, PROJECT_ROOT } from "./paths.ts";

/** Folders of the host that the guest covers with its own. */
const COVERED = ["/tmp/", "/run/", "/dev/", "/proc/", "/sys/"];

/** Path of a Deno the guest can start: the one that runs now, or a copy where the guest would not see that one. */
export async function denoForGuest(architecture: Architecture = "x86_64"): Promise<string> {
  if (architecture !== "x86_64") return "/usr/bin/deno";
  const running = await Deno.realPath(Deno.execPath());
  if (running.startsWith(`${PROJECT_ROOT}/`) || !COVERED.some((folder) => running.startsWith(folder))) {
    return running;
  }
  const copy = `${PATHS.bin}/deno-${Deno.version.deno}`;
  if (!exists(copy)) {
    await Deno.mkdir(PATHS.bin, { recursive: true });
    const part = await Deno.makeTempFile({ dir: PATHS.bin });
    await Deno.copyFile(running, part);
    await Deno.chmod(part, 0o755);
    await Deno.rename(part, copy);
  }
  return copy;
}

/**
 * Fills the guest's DENO_DIR with all that the given entry points import.
 *
 * The guest has no network, and under TCG it would spend seconds on what takes the host milliseconds.
 */
export async function cacheForGuest(
  entryPoints: readonly string[],
  architecture: Architecture = "x86_64",
  lane: number = ownLane(),
): Promise<void> {
  const folder = denoDir(architecture, lane);
  await Deno.mkdir(folder, { recursive: true });
  if (entryPoints.length === 0) return;
  await runCommand([Deno.execPath(), "cache", "--quiet", ...entryPoints], {
    cwd: PROJECT_ROOT,
    env: { DENO_DIR: folder },
  });
}

/** Says to a process in which lane it is. */
export const LANE_VARIABLE = "RINGSIDE_GUEST_LANE";

function ownLane(): number {
  return Number(Deno.env.get(LANE_VARIABLE) ?? 0);
}

/** A guest writes compiled code there, and does not hear of what another writes: each lane has its own. */
function denoDir(architecture: Architecture, lane: number): string {
  const ofArchitecture = architecture === "x86_64" ? PATHS.denoDir : `${PATHS.denoDir}-${architecture}`;
  return lane === 0 ? ofArchitecture : `${ofArchitecture}-lane-${lane}`;
}

/** Variables that make Deno use the prepared cache and nothing else. */
export function denoEnvironment(
  architecture: Architecture = "x86_64",
  lane: number = ownLane(),
): Record<string, string> {
  return {
    DENO_DIR: denoDir(architecture, lane),
    DENO_NO_UPDATE_CHECK: "1",
    ...(Deno.stdout.isTerminal() ? { FORCE_COLOR: "1" } : { NO_COLOR: "1" }),
  };
}

/** Test files below the given files and folders, as absolute paths. */
export function testFiles(selection: readonly string[]): string[] {
  const found: string[] = [];
  const visit = (path: string): void => {
    if (Deno.statSync(path).isDirectory) {
      for (const entry of Deno.readDirSync(path)) {
        if (entry.isDirectory || /(^|[._])test\.tsx?$/.test(entry.name)) visit(`${path}/${entry.name}`);
      }
    } else {
      found.push(path);
    }
  };
  for (const path of selection) {
    const absolute = path.startsWith("/") ? path : `${PROJECT_ROOT}/${path}`;
    if (!exists(absolute)) throw new GuestOptionsError(`no such test file or folder: ${absolute}`);
    visit(absolute);
  }
  return [...new Set(found)].sort();
}
