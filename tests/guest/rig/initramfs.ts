import { commandScript, initScript } from "./init_script.ts";
import type { GuestTask } from "./init_script.ts";
import type { GuestKernel } from "./kernel.ts";
import { loadOrder } from "./modules.ts";
import type { Machine } from "./machines.ts";
import type { ModuleLoad } from "./modules.ts";
import { writeNewc } from "./newc.ts";
import type { ArchiveEntry } from "./newc.ts";
import { guestRoot, PATHS } from "./paths.ts";

/** Packs busybox, the modules and the task of one boot. */
export function buildInitramfs(
  machine: Machine,
  kernel: GuestKernel,
  modules: readonly ModuleLoad[],
  task: GuestTask,
  extra: readonly ArchiveEntry[] = [],
): Uint8Array<ArrayBuffer> {
  const steps = loadOrder(kernel, modules);
  const busyboxRoot = machine.architecture === "x86_64" ? PATHS.sysroot : guestRoot(machine.architecture);
  const text = (path: string, content: string): ArchiveEntry => ({
    path,
    content: { kind: "file", data: new TextEncoder().encode(content), executable: true },
  });
  const folders = ["proc", "sys", "dev", "tmp", "run", "etc", "host"];
  return writeNewc([
    ...folders.map((path): ArchiveEntry => ({ path, content: { kind: "folder" } })),
    // The kernel opens it for init before anything is mounted.
    { path: "dev/console", content: { kind: "character-device", major: 5, minor: 1 } },
    {
      path: "bin/busybox",
      content: {
        kind: "file",
        data: Deno.readFileSync(`${busyboxRoot}/usr/bin/busybox`),
        executable: true,
      },
    },
    text("init", initScript(task, steps, machine.consoles)),
    text("task", task.kind === "command" ? commandScript(task.argv, task.env) : task.text),
    ...steps.map((step): ArchiveEntry => ({
      path: `modules/${step.file}`,
      content: { kind: "file", data: Deno.readFileSync(`${kernel.moduleFolder}/${step.file}`) },
    })),
    ...extra,
  ]);
}
