/**
 * A process that brings an 82576 up, with a VF, and ends at one of its steps: `SIGKILL`, `throw`, or `exit`.
 * Arguments: PF, path, token, step, end.
 */
import { Igb } from "../../drivers/net/igb/igb.ts";
import { IgbVf } from "../../drivers/net/igb/igbvf.ts";
import { IGB_REGISTERS } from "../../drivers/net/igb/registers.ts";
import { processId, sendSignal } from "../../ffi/mod.ts";
import { LinuxHost } from "../../lib/host/linux_host.ts";
import { traced } from "../../lib/trace/mod.ts";
import { REGION } from "../../lib/vfio/mod.ts";
import type { KernelPath } from "./guest_host.ts";

const [address = "", path = "", vfToken = "", wanted = "", end = ""] = Deno.args;
const SIGKILL = 9;

function step(name: string): void {
  if (name !== wanted) return;
  console.error(`ends here: ${name}`);
  if (end === "SIGKILL") sendSignal(processId(), SIGKILL);
  if (end === "exit") Deno.exit(3);
  throw new Error(`ends at ${name}`);
}

const host = new LinuxHost();
host.bind(address);
step("bound");
const options = { path: path as KernelPath, vfToken };
const device = host.open(address, options);
// In the middle: when CTRL.RST has been written, and when the first queue has its ring.
const pf = await Igb.open(
  traced(device, (record) => {
    if (record.kind !== "write" || record.region !== REGION.bar0) return;
    if (record.offset === IGB_REGISTERS.CTRL.offset && (Number(record.value) & 0x0400_0000) !== 0) {
      step("reset");
    }
    if (record.offset === IGB_REGISTERS.RDLEN.offset + IGB_REGISTERS.RDLEN.strideBytes) step("rings");
  }),
  { vfs: 1 },
);
const serving = pf.serveVfs();
const [vf = ""] = host.setVfCount(address, 1);
host.bind(vf);
step("vfs");
const net = await IgbVf.open(host.open(vf, options));
step("vf");
net.close();
pf.close();
await serving;
