import { deviceArguments } from "./devices.ts";
import type { GuestDevice } from "./devices.ts";
import type { Accelerator, Machine } from "./machines.ts";
import { guestRoot, PATHS, PROJECT_ROOT, SYSROOT_LIB, sysrootCommand } from "./paths.ts";

/** What `qemuCommand` needs to know. */
export interface MachineOptions {
  readonly machine: Machine;
  readonly accel: Accelerator;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly sharedMemory: boolean;
  /** Put every function behind an IOMMU with interrupt remapping; without meaning on a machine that has none. */
  readonly iommu: boolean;
  readonly devices: readonly GuestDevice[];
  /** Netdev descriptions without an id, e.g. `user` or `dgram,…`, each plugged into a hub. */
  readonly uplinks: readonly { readonly hub: number; readonly netdev: string }[];
  /** Run in a network namespace of its own. */
  readonly ownNetwork: boolean;
  /** Give the guest the host's root (read-only) and the project (read-write) over 9p. */
  readonly shareHost: boolean;
  readonly kernelImage: string;
  readonly kernelArgs: readonly string[];
  readonly initramfs: string;
  /** File that collects what the guest says on its second serial port. */
  readonly statusFile: string;
  readonly runFolder: string;
  readonly extraArgs: readonly string[];
}

/** A QEMU invocation. */
export interface QemuCommand {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Kernel arguments on every machine. Layout randomisation and mitigations cost minutes under TCG and gain nothing here. */
const KERNEL_ARGS = [
  "quiet",
  "panic=-1",
  "mitigations=off",
  "nokaslr",
  // On a busy host ticks come too late for the kernel to believe in its timer, which then is a panic.
  "no_timer_check",
  "random.trust_cpu=on",
];

/** Starts a program in a network namespace of its own; what is not root becomes root in a user namespace. */
const OWN_NETWORK = Deno.uid() === 0
  ? ["unshare", "--net", "--"]
  : ["unshare", "--map-root-user", "--net", "--"];

/** True when QEMU can be given a network of its own with TAP devices in it. */
export function hasOwnNetworks(): boolean {
  try {
    const [program = "", ...args] = OWN_NETWORK;
    const command = new Deno.Command(program, {
      args: [...args, "test", "-w", "/dev/net/tun"],
      stdout: "null",
      stderr: "null",
    });
    return command.outputSync().success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Builds QEMU's command line; it runs through the sysroot's loader, so the host's libraries do not matter. */
export function qemuCommand(options: MachineOptions): QemuCommand {
  const { machine } = options;
  const devices = deviceArguments(options.devices, options.runFolder);
  const shared = options.sharedMemory || devices.sharedMemory;
  const share = `${PATHS.sysroot}/usr/share`;
  const args = [
    ...["-L", `${share}/qemu`, "-L", `${share}/seabios`, "-L", `${PATHS.sysroot}/usr/lib/ipxe/qemu`],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"],
    // A rig that is killed must not leave a machine behind that spins on a shared host.
    ...["-run-with", "exit-with-parent=on"],
    ...accelerator(options.accel, machine),
    ...["-smp", String(options.cpus), "-m", String(options.memoryMiB)],
    ...machine.arguments(options.iommu, shared ? ",memory-backend=ram" : ""),
    ...(shared ? ["-object", `memory-backend-memfd,id=ram,size=${options.memoryMiB}M,share=on`] : []),
    // Kernel messages and QEMU's own go together; what the task says has a stream of its own, so that neither falls into its lines.
    ...["-chardev", "file,id=console,path=/dev/stderr"],
    ...["-chardev", `file,id=status,path=${comma(options.statusFile)}`],
    ...["-chardev", "stdio,id=task,signal=off"],
    ...machine.serialPorts,
    ...(options.shareHost
      ? [
        ...share9p(guestRoot(machine.architecture), "host", true),
        ...share9p(PROJECT_ROOT, "project", false),
      ]
      : []),
    ...options.uplinks.flatMap(({ hub, netdev }, index) => [
      "-netdev",
      `${netdev},id=uplink${index}`,
      "-netdev",
      `hubport,id=uplink${index}-port,hubid=${hub},netdev=uplink${index}`,
    ]),
    ...devices.args,
    ...options.extraArgs,
    ...["-kernel", options.kernelImage, "-initrd", options.initramfs],
    "-append",
    [`console=${machine.consoles.kernel}`, ...KERNEL_ARGS, ...machine.kernelArgs, ...options.kernelArgs].join(
      " ",
    ),
  ];
  return {
    argv: [
      ...(options.ownNetwork ? OWN_NETWORK : []),
      ...sysrootCommand(`/usr/bin/qemu-system-${machine.architecture}`, args),
    ],
    // Without it QEMU loads the modules of an installed QEMU of another version, and aborts.
    env: { QEMU_MODULE_DIR: `${SYSROOT_LIB}/qemu` },
  };
}

function accelerator(accel: Accelerator, machine: Machine): string[] {
  if (accel === "kvm") return ["-accel", "kvm", "-cpu", "host"];
  return ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", machine.cpu];
}

function share9p(path: string, tag: string, readOnly: boolean): string[] {
  const access = readOnly ? ",readonly=on" : "";
  return [
    "-virtfs",
    `local,path=${comma(path)},mount_tag=${tag},security_model=none,multidevs=remap${access}`,
  ];
}

/** QEMU's option syntax wants a comma in a value doubled. */
function comma(value: string): string {
  return value.replaceAll(",", ",,");
}
