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
  const list = await runCommand(sysrootCommand("/usr/bin/lspci", []).toSpliced(1, 0, "--list"));
  const libraries = [...list.matchAll(/=> (\/\S+)/g)].map((match) => match[1] ?? "");
  const file = (path: string, source: string): ArchiveEntry => ({
    path,
    content: { kind: "file", data: Deno.readFileSync(source), executable: true },
  });
  const start = (program: string, fixed: string): ArchiveEntry => ({
    path: `tools/${program}`,
    content: {
      kind: "file",
      data: new TextEncoder().encode(
        `#!/bin/sh\nexec /tools/lib/ld.so --library-path /tools/lib /tools/lib/${program} ${fixed} "$@"\n`,
      ),
      executable: true,
    },
  });
  return [
    start("lspci", "-i /tools/lib/pci.ids"),
    start("setpci", ""),
    file("tools/lib/lspci", `${PATHS.sysroot}/usr/bin/lspci`),
    file("tools/lib/setpci", `${PATHS.sysroot}/usr/bin/setpci`),
    file("tools/lib/ld.so", SYSROOT_LOADER),
    file("tools/lib/pci.ids", `${PATHS.sysroot}/usr/share/misc/pci.ids`),
    ...libraries.map((path) => file(`tools/lib/${path.split("/").at(-1)}`, path)),
  ];
}
