/** Our PF under a driver of its VFs that we did not write: Linux's igbvf judges the mailbox. */
import { assert, assertEquals } from "@std/assert";
import { REGION, type VfioDevice } from "../../lib/vfio/mod.ts";
import { anyPathTest, netInterface } from "./guest_host.ts";
import { echoes, FRAMES, LINK_MS, run, servedPf } from "./igb_rig.ts";
import { inGuest } from "./rig/in_guest.ts";
import { exists } from "./rig/paths.ts";

const MODULE = `${Deno.env.get("RINGSIDE_GUEST_MODULES")}/igbvf.ko`;
const ENDS = { from: "10.82.57.2", to: "10.82.57.1" };
const PCI = "/sys/bus/pci/";

/** How long QEMU's link is down while it is negotiated, about. */
const DOWN_MS = 2000;
const PATIENCE_MS = 60_000;

anyPathTest("igb: a PF by this driver, a VF by Linux's igbvf", async (host, path) => {
  await using stack = new AsyncDisposableStack();
  const { pf, addresses: [vf = ""] } = await servedPf(host, path, 1, stack);
  assert(await pf.waitLink(LINK_MS));
  await run("insmod", MODULE);
  stack.defer(() => run("rmmod", "igbvf"));
  const macOf = () => pf.vfStates[0]!.mac;
  const attribute = (name: string) =>
    Deno.readTextFileSync(`/sys/class/net/${netInterface(vf)}/${name}`).trim();
  const carrier = (wanted: string) => patiently(() => assertEquals(attribute("carrier"), wanted));
  const echoesAgain = (count: number) => patiently(() => echoes(pf, macOf(), ENDS, count));
  await patiently(async () => {
    // By another process: who has a function probed waits in the kernel, until the PF has answered.
    const folder = `${PCI}devices/${vf}`;
    await run(
      "sh",
      "-ce",
      `echo ${vf} > ${folder}/driver/unbind; echo igbvf > ${folder}/driver_override; echo ${vf} > ${PCI}drivers_probe`,
    );
    assertEquals(attribute("address").replaceAll(":", ""), macOf().toHex());
  });
  const link = netInterface(vf);
  await run("ip", "addr", "add", `${ENDS.to}/24`, "dev", link);
  const up = async () => {
    await run("ip", "link", "set", link, "up");
    await run("ip", "neigh", "replace", ENDS.from, "lladdr", pf.macText, "dev", link, "nud", "permanent");
    await carrier("1");
  };
  await up();
  await echoesAgain(FRAMES);

  // The link goes down and up again: the VF hears of both.
  await patiently(async () => {
    await carrier("1");
    await pf.restartLink();
    assertEquals(pf.linkUp, false);
    wakeMailbox(pf.device);
    for (const end = performance.now() + DOWN_MS; performance.now() < end && attribute("carrier") === "1";) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const heard = attribute("carrier");
    assert(await pf.waitLink(LINK_MS));
    wakeMailbox(pf.device);
    assertEquals(heard, "0");
  });
  await carrier("1");
  await echoesAgain(50);

  // What the kernel's driver asks for, beside a reset: an address, and long frames.
  await patiently(async () => {
    await run("ip", "link", "set", link, "down");
    await run("ip", "link", "set", link, "address", "02:00:00:00:82:57", "mtu", "9000");
  });
  await up();
  await patiently(() => assertEquals(macOf().toHex(), "020000008257"));
  await echoesAgain(50);
  const [state] = pf.vfStates;
  assert(state!.clearToSend && state!.messages > 4, JSON.stringify(state));
}, { unless: inGuest() && !exists(MODULE) ? "the guest's kernel has no igbvf" : undefined });

/**
 * Does it again until it goes well: igbvf gives a PF a tenth of a second for an answer, which is not always kept where several guests share
 * a processor. It takes its link down then, and begins anew ten seconds later.
 */
async function patiently(what: () => void | Promise<void>): Promise<void> {
  for (const end = performance.now() + PATIENCE_MS;;) {
    try {
      return await what();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

/**
 * Sends the mailbox's interrupt of VF 0. QEMU 11.1 takes the vector that the VF wants it by for the vector's bit, and so sends vector 1 where 2 is wanted;
 * there it only wakes who receives.
 */
function wakeMailbox(pf: VfioDevice): void {
  const EICS = 0x1520, VF0_VECTOR2 = 1 << 24;
  pf.writeRegion(REGION.bar0, EICS, new Uint8Array(Uint32Array.of(VF0_VECTOR2).buffer));
}
