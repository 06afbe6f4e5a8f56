/** What the tests of the whole stack in the guest share: the host, its functions, and a look at sysfs that owes nothing to lib/host. */
import { assertEquals } from "@std/assert";
import { mappingCount, openFdCount } from "../../ffi/mod.ts";
import { NotFoundError } from "../../lib/errors/mod.ts";
import { LinuxHost } from "../../lib/host/linux_host.ts";
import { guestHasCdev, inGuest } from "./rig/in_guest.ts";

const PCI = "/sys/bus/pci/devices";

/** The kernel's two ways to a function. */
export const PATHS = ["group", "cdev"] as const;
export type KernelPath = typeof PATHS[number];

/** Vendor and device ids of the rig's functions, as `vendor:device`. */
export const ID = {
  net: "1af4:1041",
  blk: "1af4:1042",
  rng: "1af4:1044",
  igb: "8086:10c9",
  ism: "1af4:106c",
  nvme: "1b36:0010",
} as const;

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map((entry) => entry.name).sort();
}

function read(path: string): string | undefined {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function linkName(path: string): string | undefined {
  try {
    return Deno.readLinkSync(path).split("/").at(-1);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Addresses of the functions with an id. @throws NotFoundError when there is none */
export function functions(id: string): string[] {
  const found = names(PCI).filter((address) =>
    `${read(`${PCI}/${address}/vendor`)}:${read(`${PCI}/${address}/device`)}`.replaceAll("0x", "") === id
  );
  if (found.length === 0) throw new NotFoundError(`no function ${id} in this guest`);
  return found;
}

/** Address of the PF with an id. */
export function physicalFunction(id: string): string {
  const pf = functions(id).find((address) => read(`${PCI}/${address}/sriov_totalvfs`) !== undefined);
  if (pf === undefined) throw new NotFoundError(`no PF ${id} in this guest`);
  return pf;
}

/** The rig's virtio-rng function with MSI-X, or the one that has INTx only. */
export function rng(interrupt: "msix" | "intx"): string {
  const found = functions(ID.rng).find((address) =>
    names(`${PCI}/${address}`).includes("msi_irqs") === (interrupt === "msix")
  );
  if (found === undefined) throw new NotFoundError(`no virtio-rng with ${interrupt} in this guest`);
  return found;
}

/** The functions of a class that offer all ring features: the last ones. Two network functions, on a hub to themselves. */
export function withAllRings(kind: "net" | "blk" | "rng"): string[] {
  return functions(ID[kind]).slice(kind === "net" ? -2 : -1);
}

/** Name of the network interface of a function that is on its kernel driver. */
export function netInterface(address: string): string {
  const virtio = names(`${PCI}/${address}`).find((name) => name.startsWith("virtio"));
  return names(`${PCI}/${address}${virtio === undefined ? "" : `/${virtio}`}/net`)[0]!;
}

/** Everything that Ringside may change on a host, of every function, straight from sysfs. */
export function snapshot(): Record<string, unknown> {
  return Object.fromEntries(
    names(PCI).map((address) => [address, {
      driver: linkName(`${PCI}/${address}/driver`),
      override: read(`${PCI}/${address}/driver_override`),
      numVfs: read(`${PCI}/${address}/sriov_numvfs`),
      autoprobe: read(`${PCI}/${address}/sriov_drivers_autoprobe`),
    }]),
  );
}

/** A test for the guest; the name says why it is skipped, elsewhere or for `unless`. */
export function guestTest(
  name: string,
  body: () => void | Promise<void>,
  options: { readonly cdev?: boolean; readonly unless?: string | undefined } = {},
): void {
  const why = !inGuest()
    ? "needs the guest rig"
    : options.cdev && !hasCdev()
    ? "the guest's kernel has no /dev/iommu"
    : options.unless;
  Deno.test({
    name: `${name}${why === undefined ? "" : ` (skipped: ${why})`}`,
    ignore: why !== undefined,
    sanitizeOps: true,
    sanitizeResources: true,
    fn: body,
  });
}

function hasCdev(): boolean {
  return guestHasCdev() ?? names("/dev").includes("iommu");
}

/**
 * A test on the guest's own host, by a path. Whatever happens the host is put back; then sysfs must be as before, and no descriptor
 * and no mapping may stay.
 */
function hostTest(
  name: string,
  path: KernelPath,
  body: HostTestBody,
  options: { readonly unless?: string | undefined } = {},
): void {
  guestTest(`by ${path}: ${name}`, async () => {
    const sysfs = snapshot();
    const before = { fds: openFdCount(), ...mappingCount() };
    {
      using host = new LinuxHost();
      try {
        await body(host, path);
      } finally {
        assertEquals(host.restore(undefined, { force: true }).failed, []);
      }
      assertEquals(host.journal(), []);
    }
    assertEquals(snapshot(), sysfs, "sysfs is not as it was");
    assertEquals({ fds: openFdCount(), ...mappingCount() }, before, "something stayed open");
  }, { cdev: path === "cdev", ...options });
}

type HostTestBody = (host: LinuxHost, path: KernelPath) => void | Promise<void>;

/** A test for each of the kernel's paths. */
export function pathTest(name: string, body: HostTestBody): void {
  for (const path of PATHS) hostTest(name, path, body);
}

/** A test by group: for what another test shows by cdev. */
export function groupTest(name: string, body: HostTestBody): void {
  hostTest(name, "group", body);
}

/** One test for what the path makes no difference to: by cdev where the kernel has it. */
export function anyPathTest(
  name: string,
  body: HostTestBody,
  options: { readonly unless?: string | undefined } = {},
): void {
  hostTest(name, inGuest() && hasCdev() ? "cdev" : "group", body, options);
}
