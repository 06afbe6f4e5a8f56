import { runCommand } from "./command.ts";
import type { GuestOptions } from "./guest.ts";
import type { ArchiveEntry } from "./newc.ts";
import { PATHS, SYSROOT_LOADER, sysrootCommand } from "./paths.ts";

/** A guest whose functions are served from outside, by processes that listen on UNIX sockets. */
export interface VfioUserGuest {
  /** Socket paths, one for each function. Their servers must be listening before the guest is booted. */
  readonly sockets: readonly string[];
  /**
   * Busybox shell script to run in the guest; `lspci` and `setpci` are there too. Defaults to listing the functions.
   * Its exit status is the guest's.
   */
  readonly script?: string;
  /**
   * Put the functions behind an IOMMU. Off by default, since the kernel's virtio drivers then reach a device only
   * if it offers VIRTIO_F_ACCESS_PLATFORM.
   */
  readonly iommu?: boolean;
  /** Modules to load; the kernel's drivers for virtio devices unless given. */
  readonly modules?: GuestOptions["modules"];
}

/** Script run when none is given: what the guest's kernel found. */
export const LIST_FUNCTIONS = "lspci -nnk\n";

/**
 * Options for `bootGuest` that attach QEMU, as the vfio-user client, to servers of ours.
 *
 * The guest shares no files with the host: what it shows of the devices comes from its kernel alone.
 */
export async function vfioUserGuest(guest: VfioUserGuest): Promise<GuestOptions> {
  return {
    script: guest.script ?? LIST_FUNCTIONS,
    files: await pciTools(),
    devices: guest.sockets.map((socket) => ({ kind: "vfio-user", socket })),
    // A device process maps guest RAM; private memory would reach it as DMA messages at best.
    sharedMemory: true,
    iommu: guest.iommu ?? false,
    modules: guest.modules ?? [
      { name: "af_packet", optional: true },
      { name: "virtio_net" },
      { name: "virtio_blk" },
      { name: "virtio_rng" },
    ],
    memoryMiB: 512,
    cpus: 1,
    hugepages: 0,
    timeoutMs: 300_000,
  };
}

/** `lspci` and `setpci` with the libraries they need, for an initramfs. */
export async function pciTools(): Promise<ArchiveEntry[]> {
  return [
    ...await packedTools({ lspci: "usr/bin/lspci -i /tools/lib/pci.ids", setpci: "usr/bin/setpci" }),
    { path: "tools/lib/pci.ids", content: fileContent(`${PATHS.sysroot}/usr/share/misc/pci.ids`) },
  ];
}

/** Programs of the sysroot with the libraries they need, for an initramfs. @param programs by name: their paths there, and fixed leading arguments */
export async function packedTools(programs: Readonly<Record<string, string>>): Promise<ArchiveEntry[]> {
  const libraries = new Set<string>();
  const entries: ArchiveEntry[] = [];
  for (const [name, start] of Object.entries(programs)) {
    const [program = "", ...fixed] = start.split(" ");
    const list = await runCommand(sysrootCommand(`/${program}`, []).toSpliced(1, 0, "--list"));
    for (const [, path] of list.matchAll(/=> (\/\S+)/g)) libraries.add(path!);
    const words = ["/tools/lib/ld.so", "--library-path /tools/lib", `/tools/lib/${name}`, ...fixed];
    const text = new TextEncoder().encode(`#!/bin/sh\nexec ${words.join(" ")} "$@"\n`);
    entries.push(
      { path: `tools/${name}`, content: { kind: "file", data: text, executable: true } },
      { path: `tools/lib/${name}`, content: fileContent(`${PATHS.sysroot}/${program}`) },
    );
  }
  return [
    ...entries,
    { path: "tools/lib/ld.so", content: fileContent(SYSROOT_LOADER) },
    ...[...libraries].map((path) => ({
      path: `tools/lib/${path.split("/").at(-1)}`,
      content: fileContent(path),
    })),
  ];
}

function fileContent(source: string): ArchiveEntry["content"] {
  return { kind: "file", data: Deno.readFileSync(source), executable: true };
}
