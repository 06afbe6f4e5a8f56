/**
 * QEMU's virtio-serial behind kernel VFIO. The standard guest has none; two ports that are each other's peer come with
 *
 *   --qemu-arg=-chardev --qemu-arg=socket,id=a,path=/tmp/ringside-console,server=on,wait=off
 *   --qemu-arg=-chardev --qemu-arg=socket,id=b,path=/tmp/ringside-console
 *   --qemu-arg=-device --qemu-arg=pcie-root-port,id=rpc,chassis=60,slot=60
 *   --qemu-arg=-device --qemu-arg=virtio-serial-pci,id=vs,bus=rpc,max_ports=5,iommu_platform=on,disable-legacy=on
 *   --qemu-arg=-device --qemu-arg=virtserialport,bus=vs.0,nr=1,chardev=a,name=org.ringside.a
 *   --qemu-arg=-device --qemu-arg=virtserialport,bus=vs.0,nr=3,chardev=b,name=org.ringside.b
 */
import { assert, assertEquals } from "@std/assert";
import { type ConsolePort, VirtioConsole } from "../../drivers/console/virtio_console.ts";
import { PciModernTransport } from "../../lib/virtio/transport/pci_modern.ts";
import { guestTest, PATHS } from "./guest_host.ts";
import { inGuest } from "./rig/in_guest.ts";
import { LinuxHost } from "../../lib/host/linux_host.ts";

const ID = "0x1043";
const SYSFS = "/sys/bus/pci/devices";
const MIB = 1 << 20;

function consoles(): string[] {
  if (!inGuest()) return [];
  return [...Deno.readDirSync(SYSFS)].map(({ name }) => name)
    .filter((name) => Deno.readTextFileSync(`${SYSFS}/${name}/device`).trim() === ID);
}

const [address] = consoles();
const missing = inGuest() && address === undefined ? { unless: "this guest has no virtio-serial" } : {};

async function readAll(port: ConsolePort, count: number): Promise<Uint8Array<ArrayBuffer>> {
  const all = new Uint8Array(count);
  for (let at = 0; at < count;) {
    const bytes = await port.read(30_000, count - at);
    if (bytes === undefined) throw new Error(`${at} of ${count} bytes came`);
    all.set(bytes, at);
    at += bytes.length;
  }
  return all;
}

const hash = async (bytes: Uint8Array<ArrayBuffer>) =>
  new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();

for (const path of PATHS) {
  guestTest(
    `by ${path}: virtio-serial: two ports that are each other's peer, 1 MiB each way, hung up and opened again`,
    async () => {
      using host = new LinuxHost();
      host.bind(address!);
      try {
        using device = host.open(address!, { path });
        using transport = PciModernTransport.open(device);
        for (const interrupts of ["msix", "none"] as const) {
          await using console = await VirtioConsole.open(transport, { interrupts });
          assertEquals([console.multiport, console.maxPorts], [true, 5]);
          const [a, b] = await Promise.all([console.waitPort(1, 10_000), console.waitPort(3, 10_000)]);
          while (a.name === "" || b.name === "") assert(await console.waitChange(10_000));
          assertEquals([a.name, b.name], ["org.ringside.a", "org.ringside.b"]);
          a.open();
          b.open();
          assert(await a.waitPeer(10_000) && await b.waitPeer(10_000));
          const there = Uint8Array.from({ length: MIB }, (_, i) => (i * 31 + (i >> 8)) & 0xff);
          const back = there.toReversed() as Uint8Array<ArrayBuffer>;
          const [atB, atA] = await Promise.all([
            readAll(b, MIB),
            readAll(a, MIB),
            a.write(there, 30_000),
            b.write(back, 30_000),
          ]);
          assertEquals([await hash(atB), await hash(atA)], [await hash(there), await hash(back)]);
          b.hangUp();
          b.open();
          await a.write(Uint8Array.of(1, 2, 3), 10_000);
          assertEquals(await readAll(b, 3), Uint8Array.of(1, 2, 3));
          await console.reset();
          const again = await console.waitPort(3, 10_000);
          again.open();
          assert(await again.waitPeer(10_000));
        }
      } finally {
        host.restore();
      }
    },
    { cdev: path === "cdev", ...missing },
  );
}
