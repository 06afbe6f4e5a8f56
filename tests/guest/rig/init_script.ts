import type { Machine } from "./machines.ts";
import type { ModuleStep } from "./modules.ts";
import { PATHS, PROJECT_ROOT } from "./paths.ts";

/** What the guest does once its kernel is up. */
export type GuestTask =
  /** Run a program of the host in the host's root, seen over 9p. */
  | {
    readonly kind: "command";
    readonly argv: readonly string[];
    readonly env: Readonly<Record<string, string>>;
  }
  /** Run a shell script of busybox commands in the initramfs alone. */
  | { readonly kind: "script"; readonly text: string };

/** Where the host's root is mounted before it becomes the task's root. */
const HOST = "/host";

/**
 * The initramfs's `/init`.
 *
 * It reports on a serial port of its own, so that neither kernel messages nor the task's own output can garble the
 * exit status, and so that a guest without any file share can report too. The task's output goes to a third one, where no kernel message can
 * fall into the middle of a line.
 */
export function initScript(
  task: GuestTask,
  modules: readonly ModuleStep[],
  consoles: Machine["consoles"],
): string {
  const lines = [
    "#!/bin/busybox sh",
    "/bin/busybox --install -s /bin",
    "export PATH=/tools:/bin HOME=/run TERM=dumb",
    "mount -t proc -o nosuid,nodev,noexec proc /proc",
    "mount -t sysfs -o nosuid,nodev,noexec sysfs /sys",
    "mount -t devtmpfs -o mode=0755 devtmpfs /dev 2>/dev/null",
    `phase() { read -r up _ < /proc/uptime; echo "phase $up $*" > /dev/${consoles.status}; }`,
    // The only end of a guest: what the caches of the file share hold must be written first.
    `finish() { sync; echo "exit $1" > /dev/${consoles.status}; poweroff -f; sleep 60; }`,
    "phase kernel",
    ...["pts", "shm", "hugepages", "mqueue"].map((name) => `mkdir -p /dev/${name}`),
    "mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts",
    "mount -t tmpfs -o mode=1777 tmpfs /dev/shm",
    "mount -t hugetlbfs hugetlbfs /dev/hugepages 2>/dev/null",
    "mount -t mqueue mqueue /dev/mqueue 2>/dev/null",
    "mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null",
    "[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd",
    "ulimit -l unlimited 2>/dev/null",
    "ulimit -c 0",
    "ip link set lo up 2>/dev/null",
    ...modules.map((step) =>
      `insmod /modules/${step.file} ${step.parameters} || echo "guest: cannot load ${step.name}"`
    ),
    `for port in ${consoles.status} ${consoles.task}; do stty -F /dev/$port -opost 2>/dev/null; done`,
    "phase modules",
    ...(task.kind === "command" ? commandLines(consoles.task) : scriptLines(consoles.task)),
  ];
  return lines.join("\n") + "\n";
}

/** The program a `command` task runs inside the host's root. */
export function commandScript(argv: readonly string[], env: Readonly<Record<string, string>>): string {
  const exports = Object.entries(env).map(([name, value]) => `export ${name}=${quote(value)}`);
  return [
    "#!/bin/sh",
    `cd ${quote(PROJECT_ROOT)} || exit 126`,
    ...exports,
    `exec ${argv.map(quote).join(" ")}`,
    "",
  ].join("\n");
}

function commandLines(output: string): string[] {
  // cache=none would make every page of a program a round trip: starting Deno takes 24 s then.
  const options = "trans=virtio,version=9p2000.L,msize=1048576,cache=loose";
  const project = quote(`${HOST}${PROJECT_ROOT}`);
  return [
    `mkdir -p ${HOST}`,
    `mount -t 9p -o ro,${options} host ${HOST} || { echo "guest: no host share"; finish 126; }`,
    `mount -o rbind /proc ${HOST}/proc`,
    `mount -o rbind /sys ${HOST}/sys`,
    `mount -o rbind /dev ${HOST}/dev`,
    `mount -t tmpfs -o mode=1777 tmpfs ${HOST}/tmp`,
    `mount -t tmpfs -o mode=0755 tmpfs ${HOST}/run`,
    `mkdir -p ${HOST}/run/lock ${HOST}/run/home`,
    // The checkout may lie below one of the folders just covered.
    `mkdir -p ${project}`,
    `mount -t 9p -o rw,${options} project ${project} || { echo "guest: no project share"; finish 126; }`,
    `cp /task ${HOST}/run/task`,
    "phase shares",
    ...runTask(`chroot ${HOST} /bin/sh /run/task`, output),
    `sync; umount ${project} 2>/dev/null`,
    "finish $code",
  ];
}

function scriptLines(output: string): string[] {
  return [
    "phase shares",
    ...runTask("sh /task", output),
    "finish $code",
  ];
}

/**
 * Runs the task with its output through a pipe: on a terminal, test runners redraw lines.
 *
 * Nothing waits for the pipe's end beyond two seconds, because a process the task left behind may hold it open.
 */
function runTask(start: string, output: string): string[] {
  return [
    "mkfifo /output",
    `cat < /output > /dev/${output} & reader=$!`,
    `${start} < /dev/null > /output 2>&1`,
    "code=$?",
    "for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $reader 2>/dev/null || break; usleep 200000; done",
    "phase task",
  ];
}

/** Variables every task finds set. */
export function baseEnvironment(moduleFolder: string, machine: Machine): Record<string, string> {
  // The rig's tools are programs of the host's.
  const tools = machine.architecture === "x86_64" ? `${PATHS.bin}:` : "";
  return {
    HOME: "/run/home",
    TERM: "dumb",
    LANG: "C.UTF-8",
    PATH: `${tools}/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    RINGSIDE_GUEST: "1",
    RINGSIDE_GUEST_MODULES: moduleFolder,
  };
}

/** Quotes a word for a POSIX shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
