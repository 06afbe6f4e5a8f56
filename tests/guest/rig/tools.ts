import { exists, PATHS } from "./paths.ts";

/** Programs of the unpacked packages that are put on the guest's PATH, with fixed leading arguments. */
const PROGRAMS: Readonly<Record<string, string>> = {
  lspci: 'usr/bin/lspci -i "$root/usr/share/misc/pci.ids"',
  setpci: "usr/bin/setpci",
  ip: "usr/sbin/ip",
  bridge: "usr/sbin/bridge",
  mdadm: "usr/sbin/mdadm",
  lvm: "usr/sbin/lvm",
  "mkfs.btrfs": "usr/sbin/mkfs.btrfs",
};

/** Busybox commands put there too: those a host reached by chroot often lacks. */
const APPLETS: readonly string[] = [
  "ping",
  "arping",
  "ifconfig",
  "insmod",
  "rmmod",
  "lsmod",
  "devmem",
  "xxd",
];

/**
 * Writes start scripts for the guest's tools.
 *
 * They find the sysroot relative to themselves and go through its own loader, so that neither the host's
 * libraries nor the place of the checkout matter.
 */
export async function writeToolScripts(): Promise<void> {
  await Deno.mkdir(PATHS.bin, { recursive: true });
  const head = '#!/bin/sh\nroot=$(dirname "$0")/../sysroot\nlib=$root/usr/lib/x86_64-linux-gnu\n';
  for (const [name, start] of Object.entries(PROGRAMS)) {
    const [program = "", ...rest] = start.split(" ");
    if (!exists(`${PATHS.sysroot}/${program}`)) continue;
    const fixed = rest.length > 0 ? ` ${rest.join(" ")}` : "";
    await script(
      name,
      `exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$root/${program}"${fixed} "$@"\n`,
    );
  }
  for (const name of APPLETS) await script(name, `exec "$root/usr/bin/busybox" ${name} "$@"\n`);

  async function script(name: string, body: string): Promise<void> {
    await Deno.writeTextFile(`${PATHS.bin}/${name}`, head + body);
    await Deno.chmod(`${PATHS.bin}/${name}`, 0o755);
  }
}
